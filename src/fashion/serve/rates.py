"""A limit on how often one address may ask, for a server that strangers reach."""

import math
import time
from collections import OrderedDict

from fashion.serve.errors import ApiError

BURST_S = 5.0
"""An address that was quiet may spend this many seconds' requests at once: a page of pictures, say."""

ADDRESSES = 10_000
"""Remembered at most; the one that was quiet longest is forgotten first."""


class Rates:
    """A bucket for each address: a request takes a token out, and `rate` tokens a second run in."""

    def __init__(self, rate: float):
        self.rate, self.most = rate, max(rate * BURST_S, 1.0)
        self.buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at what second

    def refusal(self, address: str, now: float | None = None) -> ApiError | None:
        """Count a request of `address`; 429, if it asks too often.

        Args:
            now: seconds of a steady clock; None: its time.
        """
        now = time.monotonic() if now is None else now
        tokens, then = self.buckets.pop(address, (self.most, now))
        tokens = min(self.most, tokens + (now - then) * self.rate)
        refused = tokens < 1
        self.buckets[address] = (tokens if refused else tokens - 1, now)
        if len(self.buckets) > ADDRESSES:
            self.buckets.popitem(last=False)
        if not refused:
            return None
        wait = math.ceil((1 - tokens) / self.rate)
        message = f"This address sends more than {self.rate:g} requests a second; go on in {wait} s."
        return ApiError(429, "too_many_requests", message, {"Retry-After": str(wait)})
