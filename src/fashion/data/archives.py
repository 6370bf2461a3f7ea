"""Archives of pictures, unpacked safely and once."""

import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from fashion.errors import FashionError
from fashion.files import explained, locked, sha256

MAX_BYTES = 20 * 2**30
"""An archive may not unpack to more."""
MAX_FILES = 2_000_000
ENDINGS = (".tar.gz", ".tgz", ".tar", ".tar.xz", ".tar.bz2", ".zip")
BEGINNINGS = {
    b"PK\x03\x04": ".zip",
    b"PK\x05\x06": ".zip",
    b"\x1f\x8b": ".tar.gz",
    b"\xfd7zXZ\0": ".tar.xz",
    b"BZh": ".tar.bz2",
}
"""What files of these kinds begin with."""
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
"""What unpacking raises for archives that are truncated, altered, encrypted, or compressed in an unknown way."""

CHUNK = 1 << 20

EXTENSIONS = b"LKxgX"
"""Types of a tar's headers that go on after it, with a long name or more."""

MAX_HEADER = 1 << 20
"""They may go on for so many bytes each: tarfile reads them into memory whole."""


class BoundedHeader(tarfile.TarInfo):
    """A tar's header that does not go on for longer."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in EXTENSIONS and not 0 <= header.size <= MAX_HEADER:
            raise ValueError(f"it has a name or header of {header.size:,} bytes")  # a ReadError is one among others
        return header


def kind_of(archive: Path) -> str | None:
    """Which of `ENDINGS` suits it: by its content, as a download may be called anything, or else by its name.

    None: it is no archive.
    """
    named = next((ending for ending in ENDINGS if archive.name.lower().endswith(ending)), None)
    if archive.suffix and not named:
        return None
    with archive.open("rb") as file:
        start = file.read(tarfile.BLOCKSIZE)
    if start[257:262] == b"ustar":  # before the others, as it begins with a file's name
        return ".tar"
    return next((kind for sign, kind in BEGINNINGS.items() if start.startswith(sign)), named)


def extract(archive: Path, folder: Path) -> Path:
    """Unpack `archive` below `folder`, once, and return the folder that holds the pictures.

    Nothing is written outside, links and special files are refused, and size and number of files are bounded.  The
    result appears under its name only when it is complete.  Of several processes one unpacks, and the others wait.
    """
    target = folder / sha256(archive)[:16]
    if not _has_content(target):
        with locked(folder.with_name(f".{folder.name}.lock")):
            if not _has_content(target):  # another process may have been sooner
                folder.mkdir(parents=True, exist_ok=True)
                with _building(folder) as building:
                    _unpack(archive, building)
                    building.rename(target)
    inside = [one for one in target.iterdir() if one.name != "__MACOSX" and not one.name.startswith(".")]
    # GitHub's archives hold one folder named after the commit; macOS puts notes of its own beside it.
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else target


def _has_content(folder: Path) -> bool:
    """Whether there is anything in it: somebody may have emptied it."""
    return folder.exists() and any(folder.iterdir())


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
    try:
        with explained(folder.parent.parent, "set cache_dir to a larger disk"):
            _write_content(archive, folder)
    except DAMAGED as error:
        raise FashionError(
            f"{archive} is damaged or cannot be unpacked safely ({error!s:.200}); delete it and fetch it again."
        ) from error


def _write_content(archive: Path, folder: Path) -> None:
    count = size = 0

    def account(name: str, more: int) -> None:
        nonlocal count, size
        count, size = count + 1, size + more
        if count > MAX_FILES or size > MAX_BYTES:
            raise FashionError(
                f"{archive} unpacks to over {MAX_BYTES >> 30} GiB or {MAX_FILES:,} files; unpack it by hand."
            )
        if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
            raise FashionError(
                f"{archive} holds {name[:200]!r}, which would land outside its folder; it is not unpacked."
            )

    kind = kind_of(archive)
    if kind == ".zip":
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                account(info.filename, info.file_size)
                # ZipFile itself never writes links or outside the folder; sizes are checked as they unpack.
                zipped.extract(info, folder)
        return
    with tarfile.open(archive, tarinfo=BoundedHeader) as tar:
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
                raise FashionError(
                    f"{archive} holds the link or special file {member.name[:200]!r}; it is not unpacked."
                )
        _check_end(tar, plain=kind == ".tar")
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
        if "Not a gzipped file" not in str(error):  # trailing bytes after a complete stream are ignored
            raise
