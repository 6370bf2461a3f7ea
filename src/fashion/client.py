"""Asking a search server from Python, with nothing but the standard library."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fashion.connection import Connection, TooLargeError, as_form, as_json
from fashion.errors import FashionError

Picture = str | Path | bytes

LONGEST_QUERY, LONGEST_BODY = 30_000, 9_000_000
"""Characters of the ids in one request to delete, and of the items in others, at most; a server takes a little more."""

MOST_ADDED, MOST_CHANGED, MOST_LISTED = 32, 1_000, 1_000
"""Items that one request may have, or get, by the server's own settings."""


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
        patience: seconds to wait in all, and ask again, where the server is busy and says when it will not be.

    Raises:
        FashionError: from every method, with what the server said, or that it does not answer.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 30, patience: float = 20):
        self.connection = Connection(url, api_key, timeout, patience)

    def search(self, *pictures: Picture, k: int = 10, **how: Any) -> dict[str, Any]:
        """What looks like these pictures of one item: all of them are one query.

        Args:
            how: `filter`, `group_by`, `score_threshold` or `fold_duplicates`, as for `VisualSearchEngine.search`.
        """
        return self._asked("/v1/search", pictures, _fields(k=k, **how))

    def similar(self, item: int | str, k: int = 10, **how: Any) -> dict[str, Any]:
        """What looks like the catalogue's item of that id (a number) or external_id (text)."""
        values = _fields(k=k, **how)
        if isinstance(item, str):
            return self.connection.answer("GET", f"/v1/similar?{urlencode({'external_id': item, **values})}")
        return self.connection.answer("GET", f"/v1/items/{item}/similar?{urlencode(values)}")

    def classify(self, *pictures: Picture) -> list[list[dict[str, Any]]]:
        """All classes of each picture with their probabilities, likeliest first."""
        results: list[list[dict[str, Any]]] = self._asked("/v1/classify", pictures)["results"]
        return results

    def embed(self, *pictures: Picture) -> list[list[float]]:
        """An embedding of length 1 for each picture."""
        vectors: list[list[float]] = self._asked("/v1/embed", pictures)["embeddings"]
        return vectors

    def add(
        self, items: Mapping[str, Picture], columns: Mapping[str, Mapping[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Add or replace items: external_id → picture, and their further columns; each gets a status.

        Nothing of an item that is replaced stays but its id: columns that are not given are empty.  `update` gives an
        item a new picture and keeps the rest.

        Many go in several requests, each of which is one change of the catalogue: if one fails, what was added before
        stays, and may be added again.

        A picture is sent as base64, so it may have three quarters of the server's `max_upload_mb`; a larger one is
        `refused`, as a bad one is.
        """
        columns = columns or {}
        strange = [name for name in columns if name not in items]
        if strange:
            raise FashionError(f"columns has {strange[0]!r}, which is none of the items; name one of them.")
        known = {name: _columns(name, columns.get(name, {})) for name in items}
        rows = (  # a picture is read when it is sent: all of them could fill the memory
            {"external_id": name, "image": _encoded(picture), "columns": known[name]} for name, picture in items.items()
        )
        return self._sent("POST", rows, MOST_ADDED)

    def update(
        self, columns: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, Picture] | None = None
    ) -> dict[str, Any]:
        """Set columns (external_id → column → value) or pictures of items; what is not named stays as it is.

        Many go in several requests, as with `add`.
        """
        pictures = pictures or {}
        known = {name: _columns(name, columns.get(name, {})) for name in dict.fromkeys([*columns, *pictures])}
        rows = (
            {"external_id": name, "columns": known[name]}
            | ({"image": _encoded(pictures[name])} if name in pictures else {})
            for name in known
        )
        return self._sent("PATCH", rows, MOST_ADDED if pictures else MOST_CHANGED)

    def delete(self, *external_ids: str) -> dict[str, Any]:
        """Delete items; each gets a status.

        Many go in several requests, each of which is one change of the catalogue: an address cannot be of any length.
        """
        strange = [name for name in external_ids if not isinstance(name, str)]
        if strange:
            raise FashionError(f"{strange[0]!r} is no external_id; give them one by one: delete('A1', 'A2').")
        parts = _divided((f"external_id={quote(name)}" for name in external_ids), MOST_CHANGED, LONGEST_QUERY)
        return self._together(self.connection.answer("DELETE", "/v1/items?" + "&".join(part)) for part in parts)

    def item(self, item: int | str) -> dict[str, Any]:
        """What is known of the item of that id (a number) or external_id (text)."""
        which = "?" + urlencode({"external_id": item}) if isinstance(item, str) else f"/{item}"
        return self.connection.answer("GET", "/v1/items" + which)

    def items(self, filter: str | None = None) -> Iterator[dict[str, Any]]:
        """What is known of all items, or of those that pass the filter, in order of their ids."""
        wanted: dict[str, Any] = {"limit": MOST_LISTED, "after": -1} | ({} if filter is None else {"filter": filter})
        while wanted["after"] is not None:
            answer = self.connection.answer("GET", f"/v1/items?{urlencode(wanted)}")
            yield from answer["items"]
            wanted["after"] = answer["after"]

    def index(self) -> dict[str, Any]:
        """The catalogue that is searched."""
        return self.connection.answer("GET", "/v1/index")

    def image(self, number: int, size: int = 256) -> bytes:
        """The item's picture as a JPEG."""
        return self.connection.content("GET", f"/v1/images/{number}?size={size}")

    def _asked(self, path: str, pictures: Iterable[Picture], fields: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The answer about pictures, which are sent as files: as base64 they would be a third larger."""
        form, content_type = as_form(map(_content, pictures), fields or {})
        return self.connection.answer("POST", path, form, content_type)

    def _sent(self, method: str, rows: Iterable[dict[str, Any]], most: int) -> dict[str, Any]:
        """The answer to a change of items, in as many requests as it takes."""
        parts = _divided(map(as_json, rows), most, LONGEST_BODY)
        return self._together(answer for part in parts for answer in self._answers(method, part))

    def _answers(self, method: str, items: list[str]) -> Iterator[dict[str, Any]]:
        """The answers to a change of items: in more requests where the server, or a proxy, takes only shorter ones."""
        body = '{"items": [' + ",".join(items) + "]}"
        try:
            answer = self.connection.answer(method, "/v1/items", body.encode())
        except TooLargeError as error:
            if len(items) > 1:
                half = len(items) // 2
                yield from self._answers(method, items[:half])
                yield from self._answers(method, items[half:])
                return
            name = json.loads(items[0])["external_id"]
            answer = {"items": [{"external_id": name, "status": "refused", "id": None, "message": str(error)}]}
        yield answer

    def _together(self, answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """The answers to a change's parts as one: all items, and the version after the last."""
        every = list(answers)
        versions = [answer["catalog_version"] for answer in every if "catalog_version" in answer]
        items = [item for answer in every for item in answer["items"]]
        return {"items": items, "catalog_version": versions[-1] if versions else self.index()["version"]}


def _columns(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    for column, value in values.items():
        if value is not None and not isinstance(value, str | int | float):
            raise FashionError(
                f"The column {column!r} of {name!r} is {value!r}; give text, a number, true, false or None (a date as "
                "its text)."
            )
    return dict(values)


def _divided(texts: Iterable[str], count: int, letters: int) -> Iterator[list[str]]:
    """The texts in parts of at most so many, with at most so many letters; a longer text goes alone."""
    part: list[str] = []
    length = 0
    for text in texts:
        if part and (len(part) == count or length + len(text) > letters):
            yield part
            part, length = [], 0
        part.append(text)
        length += len(text)
    if part:
        yield part


def _fields(**values: Any) -> dict[str, str]:
    """The values of a form or an address as texts; what is None is left out."""
    given = {name: value for name, value in values.items() if value is not None}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise FashionError(f"{name} is {text!r}, which no server can read; give text in UTF-8.") from None
    return texts


def _content(picture: Picture) -> bytes:
    try:
        return picture if isinstance(picture, bytes) else Path(picture).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: of ~user of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise FashionError(f"{picture!s} cannot be read ({reason}); check the path.") from None


def _encoded(picture: Picture) -> str:
    return base64.b64encode(_content(picture)).decode()
