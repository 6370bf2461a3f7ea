"""Writes that fail leave what was there, and one sentence."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import unit

from fashion import FAISSIndex
from fashion.encoder import load_encoder
from fashion.errors import FashionError, OutageError
from fashion.files import explained, write_array, write_text
from fashion.search.catalog import Catalog
from fashion.search.parts import write_part


@contextmanager
def files_limited(size: int) -> Iterator[None]:
    """No file of this process grows larger: the system refuses to write as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "a/b.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "tw\ud800")
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


PRIVATE = """
import os, sys
os.umask(0o077)
from pathlib import Path
from fashion.files import replacing_folder, write_text
write_text(Path("a.txt"), "one")
with replacing_folder(Path("b")):
    pass
assert [os.stat(name).st_mode & 0o777 for name in ("a.txt", "b")] == [0o600, 0o700]
"""


def test_files_are_as_private_as_the_system_is_told(tmp_path: Path):
    subprocess.run([sys.executable, "-c", PRIVATE], cwd=tmp_path, check=True)


def test_a_file_where_a_folder_should_be_is_a_sentence(tmp_path: Path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(FashionError, match=r"a/b.txt could not be written .* choose another place"):
        write_text(tmp_path / "a/b.txt", "one")


def test_a_folder_or_device_is_not_replaced(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(FashionError, match=f"{name} is a folder or a device, not a file; choose another place"):
            write_text(tmp_path / name, "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


def test_an_array_is_what_numpy_reads(tmp_path: Path):
    for array in (unit(3), np.zeros((0, 64), np.float32), np.arange(12).reshape(3, 4)[:, ::2]):
        write_array(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array)
    with pytest.raises(OSError, match="No space left on device"):
        write_array(Path("/dev/full"), unit(3))


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_no_space_for_an_index_is_a_sentence(tmp_path: Path, kind: str):
    index = FAISSIndex(64, kind)
    index.build(unit(1000))
    index.save(tmp_path / "i.faiss")
    before = (tmp_path / "i.faiss").read_bytes()
    with files_limited(100_000), pytest.raises(OutageError, match=r"i\.faiss could not be written .* is unharmed"):
        index.save(tmp_path / "i.faiss")
    assert (tmp_path / "i.faiss").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_no_space_for_embeddings_is_a_sentence(tmp_path: Path, bundle: Path):
    numbers = [str(number) for number in range(1000)]
    items = pa.table({"id": pa.array(range(1000)), "external_id": numbers, "path": numbers, "label": numbers})
    catalog = Catalog.build(items, unit(1000), load_encoder(bundle), tmp_path, {"kind": "flat"})
    for write in (
        lambda: catalog.write(tmp_path / "c"),
        lambda: write_part(tmp_path / "p", 0, unit(1000), pa.table({"image_path": numbers})),
    ):
        with files_limited(100_000), pytest.raises(OutageError, match="could not be written"):
            write()
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    ("number", "way_out"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "let this user write there"), (errno.ENOTDIR, "move away")],
)
def test_what_cannot_be_written_is_told_the_way_out_of_its_own_reason(tmp_path: Path, number: int, way_out: str):
    with pytest.raises(OutageError, match=f"{os.strerror(number)}.*; {way_out}"), explained(tmp_path):
        raise OSError(number, os.strerror(number))
