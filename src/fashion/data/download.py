"""A source's pictures on this disk: an archive is downloaded, resumably, and unpacked; a folder is used as it is."""

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO

from fashion.data.archives import CHUNK, ENDINGS, extract, kind_of
from fashion.errors import FashionError
from fashion.files import explained, locked, write_text

TIMEOUT_S = 30


def local_root(source: str, cache: Path) -> Path:
    """The folder of pictures that `source` (a folder, an archive, a URL or a `file:` URL) stands for.

    Archives are extracted below `cache` once, keyed by their content; a download is kept there and continued where
    it broke off.

    Raises:
        FashionError: if it does not exist, cannot be downloaded, is no archive, or the archive is not safe.
    """
    url = urllib.parse.urlsplit(source)
    if url.scheme in ("http", "https"):
        path = download(source, cache / "downloads")
    elif url.scheme == "file":
        path = Path(urllib.request.url2pathname(url.path))
    else:
        path = Path(source).expanduser()
    if path.is_dir():
        return path.resolve()
    if not path.is_file():
        raise FashionError(f"data.source: {path} does not exist; name a folder, an archive or a URL.")
    if kind_of(path) is None:
        raise FashionError(f"data.source: {path} is neither a folder nor an archive ({', '.join(ENDINGS)}).")
    return extract(path, cache / "extracted")


def download(url: str, folder: Path) -> Path:
    """Fetch `url` into `folder`, with a progress bar, continuing an earlier part; returns the file's path.

    The whole file appears under its name only when it is complete: as long as the server announced, and no shorter.
    Of several processes one downloads, and the others wait.
    """
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    name = Path(urllib.parse.urlsplit(url).path).name or "download"
    target = folder / f"{key}-{name}"
    if not target.exists():
        with locked(folder / f".{target.name}.lock"):
            if not target.exists():  # another process may have been sooner
                _fetch(url, target, name)
    return target


def _fetch(url: str, target: Path, name: str) -> None:
    part, version = (target.with_name(target.name + ending) for ending in (".part", ".version"))
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "fashion"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if version.exists():  # the server sends all of a file that has changed since
            headers["If-Range"] = version.read_text(encoding="utf-8")
    request = urllib.request.Request(url, headers=headers)
    try:
        with (
            explained(part, "set cache_dir to a larger disk"),
            urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer,
        ):
            resumed = answer.status == 206
            length = answer.headers.get("Content-Length")
            total = int(length) + (done if resumed else 0) if length else None
            with part.open("ab" if resumed else "wb") as file:
                if not resumed:  # the old part is gone now
                    _note_version(answer.headers, version)
                _copy(answer, file, name, done if resumed else 0, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # the part is not a beginning of what the server has now
            part.unlink()
            _fetch(url, target, name)
            return
        raise FashionError(f"{url} answered {error.code} {error.reason}; check data.source.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError and time-outs are OSErrors
        reason = getattr(error, "reason", error)
        raise FashionError(
            f"{url} could not be downloaded ({reason}); connect to the network and run again (it continues where it "
            "stopped), or set data.source to an archive or folder on this disk, or use data=synthetic."
        ) from error
    if total is not None and part.stat().st_size != total:
        raise FashionError(f"{url} broke off after {part.stat().st_size:,} of {total:,} bytes; run again to continue.")
    part.replace(target)
    version.unlink(missing_ok=True)


def _note_version(headers: Message, version: Path) -> None:
    """Write down which version of the file a part is of, as `If-Range` takes it, if the server says so."""
    tag = headers.get("ETag", "")
    said = tag if tag.startswith('"') else headers.get("Last-Modified")  # W/"…" (weak) may be other bytes
    if said:
        write_text(version, said)
    else:
        version.unlink(missing_ok=True)


def _copy(source: IO[bytes], file: IO[bytes], name: str, done: int, total: int | None) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task(f"Downloading {name}", completed=done, total=total)
        while chunk := source.read(CHUNK):
            file.write(chunk)
            progress.advance(bar, len(chunk))
