import numpy as np
import pytest

from data_tools.text import NUMBER, WORD, find_files, read_columns
from trajpred.errors import InputError
from trajpred.types import Label

PLAIN = {"frame": NUMBER, "who": WORD, "x": NUMBER}


def columns_of(tmp_path, text, columns=None, **kwargs):
    (tmp_path / "f.txt").write_text(text)
    return read_columns(tmp_path / "f.txt", columns or PLAIN, **kwargs)


def test_columns_in_order_without_a_header(tmp_path):
    table = columns_of(tmp_path, '0 "ann b" 1.5\n\n  10\tbob -2e1')
    assert table["frame"].tolist() == [0, 10]
    assert table["who"].tolist() == ["ann b", "bob"]
    assert table["x"].tolist() == [1.5, -20.0]


def test_columns_by_name_with_a_header(tmp_path):
    text = "\ufeffx,comment,frame,who\r\n1.5,,0,ann\r\n2.5,hi,1,bob\r\n"
    table = columns_of(tmp_path, text, delimiter=",", header=True)
    assert table["x"].tolist() == [1.5, 2.5]
    assert table["who"].tolist() == ["ann", "bob"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no rows"),
        ("\n \n", "no rows"),
        ("0 ann 1\n1 bob\n", "line 2: 2 columns instead of 3"),
        ("0 ann 1\n\n1 bob 2 3\n", "line 3: 4 columns instead of 3"),
        ("0 ann 1\n1 bob two\n", "line 2: x is not a number: 'two'"),
        ("0 ann 1\n\n1 bob nan\n", "line 3: x is not finite: nan"),
        ("0 ann -inf\n", "line 1: x is not finite"),
        ("0 ann 1\n\x00\x01\x02\n", "line 2: 1 columns"),
    ],
)
def test_the_first_bad_line_is_named(tmp_path, text, complaint):
    with pytest.raises(InputError, match=rf"f\.txt: {complaint}"):
        columns_of(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: no column, or more than one, named frame, who, x"),
        ("frame,who\n1,ann\n", "line 1: no column.*named x"),
        ("frame,who,x,x\n1,ann,1,1\n", "line 1: .*more than one, named x"),
        ("frame,who,x\n", "no rows"),
        ("frame,who,x\n1,ann,1\n2,,\n", "line 3: x is not a number: ''"),
        ("frame,who,x\n1,ann,1\n2,bob\n", "line 3: 2 columns"),
    ],
)
def test_the_first_bad_line_below_a_header_is_named(tmp_path, text, complaint):
    with pytest.raises(InputError, match=rf"f\.txt: {complaint}"):
        columns_of(tmp_path, text, delimiter=",", header=True)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "f.txt").write_bytes(b"0 ann 1\n\xff\xfe\xfa")
    with pytest.raises(InputError, match=r"f\.txt: line 2"):
        read_columns(tmp_path / "f.txt", PLAIN)


@pytest.mark.parametrize("header", [False, True])
def test_a_missing_file_and_a_folder(tmp_path, header):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_columns(path, PLAIN, header=header)


def test_integers(tmp_path):
    table = columns_of(tmp_path, "3.0 a 1.5\n4 b -1\n")
    assert table.integers("frame").tolist() == [3, 4]
    assert table.integers("frame").dtype == np.int64
    with pytest.raises(InputError, match=r"line 1: x is not a whole number .*: 1\.5"):
        table.integers("x")
    with pytest.raises(InputError, match=r"line 2: x is not a whole number .*: -1"):
        table.take([1]).integers("x")


def test_labels(tmp_path):
    table = columns_of(tmp_path, "0 ann 1\n\n0 bob 2\n0 ann 3\n")
    known = {"ann": Label.CAR, "bob": Label.BUS}
    assert table.labels("who", known).tolist() == [Label.CAR, Label.BUS, Label.CAR]
    with pytest.raises(InputError, match=r"line 3: unknown label 'bob' \(known: ann\)"):
        table.labels("who", {"ann": Label.CAR})


def test_repeats_are_found_however_the_rows_are_sorted(tmp_path):
    table = columns_of(tmp_path, "1 a 7\n0 a 7\n1 a 8\n1 a 7\n0 a 7\n")
    with pytest.raises(InputError, match="line 4: a second row for track 7 at frame 1"):
        table.check_no_repeats("x", "frame")
    table.take([0, 1, 2]).check_no_repeats("x", "frame")


def test_taken_rows_remember_their_lines(tmp_path):
    table = columns_of(tmp_path, "0 a 1\n\n1 b 2\n2 c 3\n").take([False, True, True])
    assert "line 4: why" in str(table.error(1, "why"))
    with pytest.raises(InputError, match="no rows but such as are left out"):
        table.take([False, False])


def test_find_files(tmp_path):
    for name in ("b.txt", "a.txt", "c.csv"):
        (tmp_path / name).touch()
    assert [p.name for p in find_files(tmp_path, "*.txt")] == ["a.txt", "b.txt"]
    assert find_files(tmp_path / "c.csv", "*.txt") == [tmp_path / "c.csv"]
    with pytest.raises(InputError, match="no such file or folder"):
        find_files(tmp_path / "none", "*.txt")
    with pytest.raises(InputError, match=r"no \*\.json in this folder"):
        find_files(tmp_path, "*.json")
