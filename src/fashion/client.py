"""Asking a search server from Python, with nothing but the standard library."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from fashion.errors import FashionError

Picture = str | Path | bytes

LONGEST_QUERY, MOST_DELETED = 30_000, 1_000
"""Letters of the ids, and ids, that one request to delete may have."""


class Client:
    """A server that `task=serve` started.

    ```python
    client = Client("http://127.0.0.1:8000")
    answer = client.search("q.jpg", k=5, filter="label = 'dress'")
    answer["predicted"], answer["hits"][0]["score"]
    ```

    Args:
        url: its address.
        api_key: what changes of the catalogue need, where the server asks for it.
        timeout: seconds to wait for an answer.

    Raises:
        FashionError: from every method, with what the server said, or that it does not answer.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 30):
        _check_address(url)
        if api_key and not (api_key.isprintable() and all(ord(letter) < 256 for letter in api_key)):
            raise FashionError(
                "api_key holds characters that HTTP cannot send; use letters, digits and signs of ASCII."
            )
        self.url, self.api_key, self.timeout = url.rstrip("/"), api_key, timeout

    def search(self, *pictures: Picture, k: int = 10, **how: Any) -> dict[str, Any]:
        """What looks like these pictures of one item; `how` as for `VisualSearchEngine.search`."""
        return self._json("POST", "/v1/search", {"images": _encoded(pictures), "k": k, **how})

    def similar(self, number: int, k: int = 10, **how: Any) -> dict[str, Any]:
        """What looks like the catalogue's item of that id."""
        given = {name: value for name, value in {"k": k, **how}.items() if value is not None}
        values = {name: str(value).lower() if isinstance(value, bool) else value for name, value in given.items()}
        return self._json("GET", f"/v1/items/{number}/similar?{urlencode(values)}")

    def classify(self, *pictures: Picture) -> list[list[dict[str, Any]]]:
        """All classes of each picture with their probabilities, likeliest first."""
        results: list[list[dict[str, Any]]] = self._json("POST", "/v1/classify", {"images": _encoded(pictures)})[
            "results"
        ]
        return results

    def embed(self, *pictures: Picture) -> list[list[float]]:
        """An embedding of length 1 for each picture."""
        vectors: list[list[float]] = self._json("POST", "/v1/embed", {"images": _encoded(pictures)})["embeddings"]
        return vectors

    def add(
        self, items: Mapping[str, Picture], columns: Mapping[str, Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Add or replace items: external_id → picture, and their further columns; each gets a status."""
        columns = columns or {}
        strange = [name for name in columns if name not in items]
        if strange:
            raise FashionError(f"columns has {strange[0]!r}, which is none of the items; name one of them.")
        rows = [
            {"external_id": name, "image": _encoded([picture])[0], "columns": _columns(name, columns.get(name, {}))}
            for name, picture in items.items()
        ]
        return self._json("POST", "/v1/items", {"items": rows})

    def update(self, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Set columns of items, and leave their pictures as they are: external_id → column → value."""
        rows = [{"external_id": name, "columns": _columns(name, values)} for name, values in columns.items()]
        return self._json("PATCH", "/v1/items", {"items": rows})

    def delete(self, *external_ids: str) -> dict[str, Any]:
        """Delete items; each gets a status.

        Many go in several requests, each of which is one change of the catalogue: an address has an end.
        """
        strange = [name for name in external_ids if not isinstance(name, str)]
        if strange:
            raise FashionError(f"{strange[0]!r} is no external_id; give them one by one: delete('A1', 'A2').")
        parts: list[list[str]] = [[]]
        for text in (f"external_id={quote(name)}" for name in external_ids):
            if sum(map(len, parts[-1])) + len(text) > LONGEST_QUERY or len(parts[-1]) == MOST_DELETED:
                parts.append([])
            parts[-1].append(text)
        answers = [self._json("DELETE", "/v1/items?" + "&".join(part)) for part in parts]
        return answers[-1] | {"items": [item for answer in answers for item in answer["items"]]}

    def item(self, number: int) -> dict[str, Any]:
        """What is known of the item of that id."""
        return self._json("GET", f"/v1/items/{number}")

    def index(self) -> dict[str, Any]:
        """The catalogue that is searched."""
        return self._json("GET", "/v1/index")

    def image(self, number: int, size: int = 256) -> bytes:
        """The item's picture as a JPEG."""
        return self._bytes("GET", f"/v1/images/{number}?size={size}")

    def _json(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer = json.loads(self._bytes(method, path, body))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FashionError(f"{self.url} answers, but not as task=serve does; check the address.")
        return answer

    def _bytes(self, method: str, path: str, body: Any = None) -> bytes:
        try:
            data = None if body is None else json.dumps(body).encode()
        except (TypeError, ValueError) as error:
            raise FashionError(f"The request cannot be sent as JSON ({error}); give text and plain numbers.") from None
        headers = {"Content-Type": "application/json"} | ({"X-API-Key": self.api_key} if self.api_key else {})
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            raise FashionError(f"{self.url} answered {error.code}: {_message(error)}") from None
        except http.client.HTTPException as error:
            raise FashionError(f"{self.url} does not speak HTTP ({error!r}); check the address.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise FashionError(f"{self.url} does not answer ({reason}); is the server running?") from None


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


def _columns(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    for column, value in values.items():
        if value is not None and not isinstance(value, str | int | float):
            raise FashionError(
                f"The column {column!r} of {name!r} is {value!r}; give text, a number, true, false or None (a date as "
                "its text)."
            )
    return dict(values)


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _encoded(pictures: Sequence[Picture]) -> list[str]:
    contents = []
    for picture in pictures:
        try:
            data = picture if isinstance(picture, bytes) else Path(picture).expanduser().read_bytes()
        except (OSError, RuntimeError) as error:  # RuntimeError: of ~somebody who is nobody
            reason = getattr(error, "strerror", None) or error
            raise FashionError(f"{picture!s} cannot be read ({reason}); check the path.") from None
        contents.append(base64.b64encode(data).decode())
    return contents
