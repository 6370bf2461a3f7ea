"""Writes that fail leave what was there, and one sentence."""

from pathlib import Path

import pytest

from fashion.errors import FashionError
from fashion.files import write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "a/b.txt"
    write_text(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "tw\ud800")
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_where_a_folder_should_be_is_a_sentence(tmp_path: Path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(FashionError, match=r"a/b.txt could not be written .* choose another place"):
        write_text(tmp_path / "a/b.txt", "one")
