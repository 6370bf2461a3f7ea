"""Tables of other programs: what they hold comes out as it was meant."""

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from fashion.data.tables import read_rows
from fashion.errors import FashionError

NAN = float("nan")


def rows(path, table: pa.Table) -> list[dict]:
    parquet.write_table(table, path)
    return read_rows(path)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
def test_short_floats_are_the_decimals_that_they_were_written_as(tmp_path, kind):
    prices = pa.array([9.5, 19.25, None, NAN], pa.float32()).cast(kind)
    assert [row["price"] for row in rows(tmp_path / "a.parquet", pa.table({"price": prices}))] == [
        9.5,
        19.25,
        None,
        None,
    ]
    if kind != pa.float16():
        read = rows(tmp_path / "b.parquet", pa.table({"price": pa.array([9.99, 19.95], kind)}))
        assert [row["price"] for row in read] == [9.99, 19.95]


def test_names_and_ids_are_text_whatever_they_were(tmp_path):
    table = pa.table(
        {
            "product_id": pa.array([12.0, 13.0, NAN, None]),  # as pandas writes whole numbers, some of them missing
            "group": pa.array([1, 2, 3, None]),
            "label": pa.array([1.5, 2.0, 3.0, NAN]),
            "external_id": pa.array(["a", "b", "c", "d"]),
        }
    )
    read = rows(tmp_path / "a.parquet", table)
    assert [row["product_id"] for row in read] == ["12", "13", None, None]
    assert [row["group"] for row in read] == ["1", "2", "3", None]
    assert [row["label"] for row in read] == ["1.5", "2", "3", None]
    assert [row["external_id"] for row in read] == ["a", "b", "c", "d"]


def test_line_breaks_in_quotes_are_read_wherever_arrow_cuts_the_file(tmp_path):
    table = pa.table({"path": [f"{n}.jpg" for n in range(40_000)], "text": ["a dress\nof two lines"] * 40_000})
    csv.write_csv(table, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").stat().st_size > 1 << 20
    assert read_rows(tmp_path / "a.csv") == table.to_pylist()


def test_a_crooked_csv_is_refused_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("path,label\na.jpg,hat\nb.jpg,hat,more\n")
    with pytest.raises(FashionError, match=r"a\.csv cannot be read as CSV .*Expected 2 columns, got 3"):
        read_rows(tmp_path / "a.csv")


@pytest.mark.parametrize("word", ["NA", "null", "n/a", "nan", '"NA"'])
def test_a_name_may_be_a_word_for_nothing(tmp_path, word):
    (tmp_path / "a.csv").write_text(
        "path,label,external_id,product_id,price,colour\n"
        f"{word},{word},{word},{word},{word},{word}\n"
        "a.jpg,,,7,9.5,red\n"
    )  # fmt: skip
    name = word.strip('"')
    assert read_rows(tmp_path / "a.csv") == [
        {"path": name, "label": name, "external_id": name, "product_id": None, "price": None, "colour": None},
        {"path": "a.jpg", "label": None, "external_id": None, "product_id": "7", "price": 9.5, "colour": "red"},
    ]


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("path,label,label\na.jpg,hat,cap\n")
    with pytest.raises(FashionError, match=r"a\.csv has 2 columns 'label'; rename or remove all but one"):
        read_rows(tmp_path / "a.csv")


def read(folder, content: str | bytes) -> list[dict]:
    (folder / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(folder / "a.csv")


def test_numbers_that_begin_with_zero_are_names(tmp_path):
    found = read(tmp_path, "path,sku,ean,price,left\na.jpg,00003,0400638133303,0.5,3\nb.jpg,12,,7,-1\n")
    assert found[0] == {"path": "a.jpg", "sku": "00003", "ean": "0400638133303", "price": 0.5, "left": 3}
    assert found[1] == {"path": "b.jpg", "sku": "12", "ean": None, "price": 7.0, "left": -1}


@pytest.mark.parametrize("comma", [";", "\t"])
def test_spreadsheets_divide_columns_otherwise_too(tmp_path, comma):
    lines = ["path;label;price;seen", "a, b.jpg;hat;12,50;01,02", '"c;d.jpg";"shoe";-7;x', ";;;"]
    found = read(tmp_path, "\ufeff" + "\r\n".join(lines).replace(";", comma).replace(f"c{comma}d", "c;d"))
    price = 12.5 if comma == ";" else "12,50"
    assert found[0] == {"path": "a, b.jpg", "label": "hat", "price": price, "seen": "01,02"}
    assert found[1] == {"path": "c;d.jpg", "label": "shoe", "price": -7 if comma == ";" else "-7", "seen": "x"}
    assert len(found) == 2  # the empty last line is none


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_names_of_columns_may_hold_what_divides_others(tmp_path, comma):
    rows = [["label", '"path"', '"size, EU; US\t"'], ["hat", "a.jpg", "3"]]
    found = read(tmp_path, "\n".join(map(comma.join, rows)))
    assert found == [{"label": "hat", "path": "a.jpg", "size, EU; US": 3}]
    if comma == ";":  # unquoted, as it is no comma of the table's
        assert read(tmp_path, "path;price, EUR\na.jpg;3\n") == [{"path": "a.jpg", "price, EUR": 3}]


def test_names_of_columns_lose_the_blanks_around_them(tmp_path):
    assert read(tmp_path, "path, product_id ,price\na.jpg,7,3\n") == [{"path": "a.jpg", "product_id": "7", "price": 3}]


@pytest.mark.parametrize("content", ["path,Größe\na,1\n".encode("latin-1"), "path,label\na,b\n".encode("utf-16")])
def test_another_encoding_is_refused_with_the_way_out(tmp_path, content):
    with pytest.raises(FashionError, match=r"a\.csv, line 1: this is no UTF-8; save the table as CSV in UTF-8"):
        read(tmp_path, content)


@pytest.mark.parametrize("rest", ["c.jpg,hat\n", 'c.jpg,"hat"\n', 'c.jpg,"hat, or cap"\nd.jpg,hat\n'])
def test_a_quotation_mark_that_swallows_rows_is_refused(tmp_path, rest):
    with pytest.raises(FashionError, match=r"a\.csv, line 3: a quotation mark opens a value"):
        read(tmp_path, f'path,label\na.jpg,hat\nb.jpg,"Sommer\n{rest}')
    assert read(tmp_path, 'path,label\na.jpg,6" heels\n')[0]["label"] == '6" heels'


def test_two_numbers_beside_each_other_are_no_decimal_comma(tmp_path):
    found = read(tmp_path, "price,left\n9.5,3\n12,50\n")
    assert found == [{"price": 9.5, "left": 3}, {"price": 12.0, "left": 50}]


@pytest.mark.parametrize("sku", [" 00421", "-0421"])
def test_a_sign_or_blank_before_a_zero_makes_no_number_of_a_name(tmp_path, sku):
    assert read(tmp_path, f"path,sku\na.jpg,{sku}\nb.jpg,7\n")[0]["sku"] == sku


def test_a_comma_in_the_head_line_divides_whatever_else_is_in_it(tmp_path):
    assert read(tmp_path, "path,a;b\nx.jpg,1;2\n") == [{"path": "x.jpg", "a;b": "1;2"}]
