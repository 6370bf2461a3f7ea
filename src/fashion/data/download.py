"""A source's pictures on this disk: download resumably, extract safely, find the folder inside."""

import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fashion.errors import FashionError
from fashion.files import sha256

MAX_BYTES = 20 * 2**30
"""An archive may not unpack to more."""
MAX_FILES = 2_000_000
ARCHIVES = (".tar.gz", ".tgz", ".tar", ".tar.xz", ".tar.bz2", ".zip")
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What unpacking raises of archives that are cut off, altered, encrypted, or packed as Python does not know."""

TIMEOUT_S = 30
CHUNK = 1 << 20


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
    if not path.name.lower().endswith(ARCHIVES):
        raise FashionError(f"data.source: {path} is neither a folder nor an archive ({', '.join(ARCHIVES)}).")
    return extract(path, cache / "extracted")


def download(url: str, folder: Path) -> Path:
    """Fetch `url` into `folder`, with a progress bar, continuing an earlier part; returns the file's path.

    The whole file appears under its name only when it is complete: as long as the server announced, and no shorter.
    """
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    name = Path(urllib.parse.urlsplit(url).path).name or "download"
    target = folder / f"{key}-{name}"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers={"User-Agent": "fashion"} | ({"Range": f"bytes={done}-"} if done else {})
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            resumed = answer.status == 206
            length = answer.headers.get("Content-Length")
            total = int(length) + (done if resumed else 0) if length else None
            with part.open("ab" if resumed else "wb") as file:
                _copy(answer, file, name, done if resumed else 0, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # the part is not a beginning of what the server has now
            part.unlink()
            return download(url, folder)
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
    return target


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


def extract(archive: Path, folder: Path) -> Path:
    """Unpack `archive` below `folder`, once, and return the folder that holds the pictures.

    Nothing is written outside, links and special files are refused, and size and number of files are bounded.  The
    result appears under its name only when it is complete.
    """
    target = folder / sha256(archive)[:16]
    if not target.exists() or not any(target.iterdir()):  # somebody may have emptied it
        folder.mkdir(parents=True, exist_ok=True)
        with _building(folder) as building:
            try:
                _unpack(archive, building)
            except DAMAGED as error:
                raise FashionError(
                    f"{archive} is damaged or cannot be unpacked safely ({error}); delete it and fetch it again."
                ) from error
            if not target.exists() or not any(target.iterdir()):  # another process may have been sooner
                building.rename(target)
    inside = list(target.iterdir())
    # GitHub's archives hold one folder named after the commit.
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """A temporary folder that is gone afterwards unless it was renamed, also after Ctrl-C."""
    path = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=folder))
    inner = path / "content"
    inner.mkdir()
    try:
        yield inner
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _unpack(archive: Path, folder: Path) -> None:
    count = size = 0

    def account(name: str, more: int) -> None:
        nonlocal count, size
        count, size = count + 1, size + more
        if count > MAX_FILES or size > MAX_BYTES:
            raise FashionError(
                f"{archive} unpacks to over {MAX_BYTES >> 30} GiB or {MAX_FILES:,} files; unpack it by hand."
            )
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise FashionError(f"{archive} holds {name!r}, which would land outside its folder; it is not unpacked.")

    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                account(info.filename, info.file_size)
                # ZipFile itself never writes links or outside the folder; sizes are checked as they unpack.
                zipped.extract(info, folder)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            account(member.name, member.size)
            if member.isdir():
                (folder / member.name).mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None
                with content, path.open("wb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
            else:
                raise FashionError(f"{archive} holds the link or special file {member.name!r}; it is not unpacked.")
        _check_end(tar, plain=archive.name.lower().endswith(".tar"))
    os.utime(folder)


def _check_end(tar: tarfile.TarFile, plain: bool) -> None:
    """Refuse an archive of which only a beginning was read: a damaged header looks like an end to tarfile.

    Args:
        plain: it is not compressed, so no check sum says that it is whole, and an empty block must.

    Raises:
        ReadError, or what the compression's check sum raises.
    """
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    end = tar.fileobj.read(tarfile.BLOCKSIZE)
    if any(end) or (plain and len(end) < tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"it breaks off after {tar.offset:,} bytes of content")
    try:
        while tar.fileobj.read(CHUNK):  # to the end, where the check sum stands
            pass
    except gzip.BadGzipFile as error:
        if "Not a gzipped file" not in str(error):  # what follows a whole stream is nobody's
            raise
