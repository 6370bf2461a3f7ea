"""A connection to a search server: sends JSON or a form, reads JSON, and retries while it is busy."""

import http.client
import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import IO, Any, NoReturn
from urllib.parse import quote, urlsplit

from fashion.errors import FashionError

JSON = "application/json"


class TooLargeError(FashionError):
    """The server, or a proxy before it, takes no request of that length."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would resend a POST as a GET, and send the API key to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> NoReturn:
        fp.close()
        raise FashionError(f"{req.full_url} sends on to {newurl}; use the address of the server there.")


_OPENER = urllib.request.build_opener(_NoRedirect)


class Connection:
    """Where the server is, and what it is to be shown; see `fashion.client.Client`."""

    def __init__(self, url: str, api_key: str | None, timeout: float, patience: float):
        _check_address(url)
        if api_key and not (api_key.isprintable() and all(ord(letter) < 256 for letter in api_key)):
            raise FashionError(
                "api_key holds characters that HTTP cannot send; use letters, digits and signs of ASCII."
            )
        self.url, self.api_key, self.timeout, self.patience = url.rstrip("/"), api_key, timeout, patience

    def answer(self, method: str, path: str, body: bytes | None = None, content_type: str = JSON) -> dict[str, Any]:
        """The JSON object that answers a request.

        Args:
            body: what is sent.
            content_type: its type.

        Raises:
            FashionError: if the server refuses, does not answer, or is none.
        """
        try:
            answer = json.loads(self.content(method, path, body, content_type))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FashionError(f"{self.url} answers, but not as task=serve does; check the address.")
        return answer

    def content(self, method: str, path: str, body: bytes | None = None, content_type: str = JSON) -> bytes:
        """As `answer`, but the bytes as they come."""
        headers = {"Content-Type": content_type} | ({"X-API-Key": self.api_key} if self.api_key else {})
        request = urllib.request.Request(self.url + path, body, headers, method=method)
        end = time.monotonic() + self.patience
        while True:
            try:
                with _OPENER.open(request, timeout=self.timeout) as response:
                    content: bytes = response.read()
                    return content
            except urllib.error.HTTPError as error:
                with error:
                    wait = _wait(error)
                    if wait is None or time.monotonic() + wait > end:
                        kind_of = TooLargeError if error.code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else FashionError
                        raise kind_of(f"{self.url} answered {error.code}: {_message(error)}") from None
                time.sleep(wait)  # then retry: all requests of this API are idempotent
            except (OSError, ValueError) as error:  # first: RemoteDisconnected is an HTTPException too
                reason = getattr(error, "reason", error)
                raise FashionError(f"{self.url} does not answer ({reason}); is the server running?") from None
            except http.client.HTTPException as error:
                raise FashionError(f"{self.url} does not speak HTTP ({error!r}); check the address.") from None


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 — raises if it is no number
    except ValueError as error:
        raise FashionError(
            f"server is {url!r}, which is no address ({error}); use one like http://127.0.0.1:8000."
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FashionError(f"server is {url!r}; it should start with http:// or https://, and name a host.")


def as_json(value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise FashionError(f"The request cannot be sent as JSON ({error}); give text and plain numbers.") from None


def as_form(files: Iterable[bytes], fields: Mapping[str, str]) -> tuple[bytes, str]:
    """A form with files, each of them named `file`, and the Content-Type to send it with."""
    parts = [(f'name="{quote(name)}"', value.encode()) for name, value in fields.items()]
    parts += [('name="file"; filename="picture"', file) for file in files]
    boundary = secrets.token_hex(16)  # at random, so that no file holds it
    heads = [f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() for head, _ in parts]
    bodies = [head + content + b"\r\n" for head, (_, content) in zip(heads, parts, strict=True)]
    return b"".join([*bodies, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def _wait(error: urllib.error.HTTPError) -> float | None:
    """Seconds after which the server would be asked again; None if it should not be."""
    seconds = error.headers.get("Retry-After", "")
    return max(float(seconds), 0.5) if error.code in (429, 503) and seconds.isdecimal() else None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)
