"""Delimited text as columns of numbers and words; what cannot be read is blamed on its line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.errors import InputError
from trajpred.types import Int, Label

NUMBER = "f8"
WORD = "U32"

_ENCODING = "utf-8-sig"  # spreadsheets put a byte order mark before the header


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The rows of one file. fields (R,) structured; row (R,) the place of each among the file's rows."""

    path: Path
    header: bool
    fields: NDArray[Any]
    row: Int

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """(R,) float64 or str, one column."""
        column: NDArray[Any] = self.fields[name]
        return column

    def take(self, rows: NDArray[Any]) -> Columns:
        """Some of the rows (mask or indices); raises InputError if none is left."""
        taken = Columns(self.path, self.header, self.fields[rows], self.row[rows])
        if not len(taken):
            raise InputError(f"{self.path}: no rows but such as are left out")
        return taken

    def points(self, x: str, y: str) -> NDArray[np.float64]:
        """(R, 2) float64, two columns side by side."""
        return np.stack([self[x], self[y]], axis=1)

    def integers(self, name: str) -> Int:
        """(R,) int64 of a column of frames or ids; 12.0 is one, 12.5, -1 and 2^32 are not."""
        values = self[name]
        bad = np.flatnonzero((values != np.rint(values)) | (values < 0) | (values >= 2**32))
        if bad.size:
            raise self.error(bad[0], f"{name} is not a whole number from 0 to 2^32 - 1: {values[bad[0]]:g}")
        return values.astype(np.int64)

    def labels(self, name: str, known: Mapping[str, Label]) -> NDArray[np.uint8]:
        """(R,) uint8 Label of a column of class names; raises InputError at the first unknown one."""
        words, which = np.unique(self[name], return_inverse=True)
        codes = np.array([known.get(word, -1) for word in words.tolist()])[which]
        bad = np.flatnonzero(codes < 0)
        if bad.size:
            raise self.error(bad[0], f"unknown label {str(self[name][bad[0]])!r} (known: {', '.join(known)})")
        return codes.astype(np.uint8)

    def check_no_repeats(self, track: str, time: str) -> None:
        """Raises InputError at the first row that repeats another's track and time."""
        order = np.lexsort((self[time], self[track]))
        ahead, behind = self.fields[order[1:]], self.fields[order[:-1]]
        again = order[1:][(ahead[track] == behind[track]) & (ahead[time] == behind[time])]
        if again.size:
            row = again.min()
            what = f"track {self[track][row]:g} at {time} {self[time][row]:g}"
            raise self.error(row, f"a second row for {what}")

    def error(self, row: int | np.integer[Any], why: str) -> InputError:
        """An InputError that names the file and the line of a row."""
        lines = _lines(self.path, self.header)
        number = next(n for i, (n, _) in enumerate(lines) if i == self.row[row])
        return InputError(f"{self.path}: line {number}: {why}")


def read_columns(
    path: Path, columns: Mapping[str, str], delimiter: str | None = None, header: bool = False
) -> Columns:
    """Every row of a file; empty lines are passed over.

    columns: name -> NUMBER or WORD, in the file's order; with a header line, by name in any order,
    and columns not named here are not looked at. delimiter None: any white space.
    Raises InputError for a missing or empty file, a missing column, and the first line with another
    number of columns, or with something else than a finite number where a number belongs.
    """
    dtype = np.dtype(_header_columns(path, columns, delimiter) if header else list(columns.items()))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            fields = np.loadtxt(
                path,
                dtype,
                comments=None,
                delimiter=delimiter,
                skiprows=int(header),
                ndmin=1,
                quotechar='"',
                encoding=_ENCODING,
            )
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        fault = _first_fault(path, dtype, delimiter, header) or str(error)
        raise InputError(f"{path}: {fault}") from error
    if not fields.size:
        raise InputError(f"{path}: no rows: the file is empty")
    table = Columns(path, header, fields, np.arange(len(fields)))
    for name in (n for n, kind in columns.items() if kind == NUMBER):
        bad = np.flatnonzero(~np.isfinite(table[name]))
        if bad.size:
            raise table.error(bad[0], f"{name} is not finite: {table[name][bad[0]]}")
    return table


def find_files(path: Path, pattern: str) -> list[Path]:
    """The file itself, or the files below a folder that match a pattern of Path.rglob, by name.

    Raises InputError if there is nothing at path, or no such file in the folder.
    """
    if not path.is_dir():
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        return [path]
    found = sorted(path.rglob(pattern))
    if not found:
        raise InputError(f"{path}: no {pattern} in this folder")
    return found


def _header_columns(path: Path, columns: Mapping[str, str], delimiter: str | None) -> list[tuple[str, str]]:
    """The dtype of a file with a header line: the wanted columns where they stand, others as words."""
    try:
        with path.open(encoding=_ENCODING, errors="replace") as file:
            names = file.readline().strip().split(delimiter)
    except OSError as error:
        raise _unreadable(path, error) from error
    wrong = [name for name in columns if names.count(name) != 1]
    if wrong:
        raise InputError(f"{path}: line 1: no column, or more than one, named {', '.join(wrong)}")
    return [(n, columns[n]) if n in columns else (f"column {i}", WORD) for i, n in enumerate(names)]


def _first_fault(path: Path, dtype: np.dtype[Any], delimiter: str | None, header: bool) -> str | None:
    """The first line that does not fit, and why; None if each would fit by itself."""
    names = dtype.names or ()
    for number, line in _lines(path, header):
        words = [word.strip().strip('"') for word in line.split(delimiter)]
        if len(words) != len(names):
            return f"line {number}: {len(words)} columns instead of {len(names)}"
        for name, word in zip(names, words, strict=True):
            if dtype[name].kind == "f" and not _is_number(word):
                return f"line {number}: {name} is not a number: {word!r}"
    return None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lines(path: Path, header: bool) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of every line that holds a row."""
    with path.open(encoding=_ENCODING, errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip() and number > int(header):
                yield number, line


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read: {error.strerror or 'no such file'}")
