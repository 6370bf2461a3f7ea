"""A search engine that is a server elsewhere: asked as the one here is, answering as it does."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fashion.client import Client
from fashion.errors import FashionError
from fashion.files import replacing
from fashion.search.results import Hit, SearchResult


class RemoteEngine:
    """What `task=search` needs of a `VisualSearchEngine`, from a server.

    Args:
        url: the server's address.
        pictures: where small copies of the hits' pictures are put.
    """

    def __init__(self, url: str, pictures: Path):
        self.client, self.pictures = Client(url), pictures
        index = self.client.index()
        try:
            self.class_names, self.size = tuple(index["classes"]), int(index["items"])
        except (KeyError, TypeError, ValueError):
            raise FashionError(f"{url} answers, but not as task=serve does; check the address.") from None

    def search(self, query: Sequence[Path], *, together: bool = False, **how: Any) -> list[SearchResult]:
        """As `VisualSearchEngine.search`."""
        asked = [list(query)] if together else [[one] for one in query]
        return [self._result(str(pictures[0]), self.client.search(*pictures, **how)) for pictures in asked]

    def like_item(self, number: int, **how: Any) -> SearchResult:
        """As `VisualSearchEngine.like_item`, but for the box, which a server cuts out of the pictures that it gives."""
        result = self._result(self.client.item(number)["external_id"], self.client.similar(number, **how))
        with contextlib.suppress(FashionError):  # a catalogue needs no pictures to be searched
            result = replace(result, picture=str(self.item_picture(number)))
        return result

    def item_number(self, external_id: str) -> int:
        """As `VisualSearchEngine.item_number`."""
        return int(self.client.item(external_id)["id"])

    def item_picture(self, number: int) -> Path:
        """A small copy of the item's picture."""
        path = self.pictures / f"{number}.jpg"
        if not path.exists():
            with replacing(path) as part:
                part.write_bytes(self.client.image(number))
        return path

    def _result(self, name: str, answer: dict[str, Any]) -> SearchResult:
        said = answer["predicted"]
        predicted, probability = (said["label"], said["probability"]) if said else (None, None)
        return SearchResult(name, predicted, probability, [_hit(hit) for hit in answer["hits"]], answer["match"])


def _hit(hit: dict[str, Any]) -> Hit:
    """A hit as a local search gives it; a server hides where pictures lie, so its path is its external_id."""
    item = {"id": hit["id"], "label": hit["label"], **hit["payload"]}
    return Hit(hit["rank"], hit["score"], hit["id"], hit["label"], item["external_id"], item)
