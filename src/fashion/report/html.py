"""One self-contained page: no network, pictures inside, readable on a phone, in the dark and on paper."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fashion.files import write_text


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; `table` is (headers, rows)."""

    heading: str
    text: str | None = None
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    picture: Image.Image | None = None
    caption: str = ""


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all; all text is escaped."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(loader=PackageLoader("fashion", "report"), autoescape=select_autoescape(["j2"]))
    environment.filters["data_uri"] = data_uri
    write_text(path, environment.get_template("report.html.j2").render(title=title, sections=sections))


def data_uri(picture: Image.Image) -> str:
    """The picture as a JPEG inside an address."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
