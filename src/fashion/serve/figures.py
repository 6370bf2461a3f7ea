"""What Prometheus is told of a server."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

BUCKETS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)


class Figures:
    """The metrics, in a registry of their own.

    Args:
        unused: gives the newest version's number where the server cannot use it, else 0.
    """

    def __init__(self, unused: Callable[[], float]):
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        asked = ["method", "path"]
        self.requests = Counter("fashion_requests_total", "Requests answered", [*asked, "status"], registry=registry)
        self.seconds = Histogram("fashion_request_seconds", "Time to answer", asked, registry=registry, buckets=BUCKETS)
        self.busy = Gauge("fashion_requests_in_work", "Requests in work or waiting for it", registry=registry)
        self.items = Gauge("fashion_catalog_items", "Items in the catalogue", registry=registry)
        self.version = Gauge("fashion_catalog_version", "Version of the catalogue", registry=registry)
        self.created = Gauge(
            "fashion_catalog_created_seconds", "When that version was written, Unix time", registry=registry
        )
        newer = Gauge(
            "fashion_unused_version", "A newer version that cannot be used; 0: there is none", registry=registry
        )
        newer.set_function(unused)
