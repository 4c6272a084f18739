"""Reading the CSV files people bring: columns by name, lines by number, nothing guessed."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pointsense.errors import DataError

ALIASES = {"axis-0": "y", "axis-1": "x"}  # napari and Spotiflow name the columns by array axis


@dataclass(frozen=True)
class Row:
    """One line of a table: the file, the line number (from 1) and the text of each column."""

    path: Path
    line: int
    cells: dict[str, str]

    def text(self, column: str, default: str = "") -> str:
        """The text of `column` without surrounding blanks; `default` where the column is absent."""
        return self.cells.get(column, default)

    def number(self, column: str, default: float | None = None) -> float:
        """The finite number in `column`.

        Raises
        ------
        DataError
            If the cell holds text, nothing, NaN or an infinity, naming the file and the line.
        """
        if default is not None and column not in self.cells:
            return default
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            comma = "," in text and _is_number(text.replace(",", ".", 1))
            remedy = "write decimal points" if comma else "correct the line"
            raise DataError(
                f"{self.path}, line {self.line}: {column} is '{text}', expected a finite number; {remedy} or "
                "delete it"
            )
        return value


@dataclass(frozen=True)
class Table:
    """The rows of a CSV file and the names of its columns (lower case)."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]


def read_table(path: Path | str, required: Sequence[str]) -> Table:
    """Read a CSV file with a header line.

    Columns are found by name, in any order and case; `axis-0` and `axis-1` are read as y and x;
    further columns are kept. Blank lines are skipped.

    Raises
    ------
    DataError
        If the file cannot be read as UTF-8 text, is empty, has no header (the order of the columns is
        never guessed), is separated by semicolons or tabs, lacks a `required` column, has a line with more fields
        than the header, or a field over several lines, as a quotation mark that is not closed makes.
    """
    path = Path(path)
    header = ",".join(required)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected a CSV file with the header '{header}'") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise DataError(
            f"{where}: {error}; close the quotation mark, or save the file again as CSV"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not CSV text in UTF-8 ({error}); save it again, in Excel as 'CSV UTF-8'"
        ) from error
    if broken := [number for number, cells in lines if any("\n" in cell or "\r" in cell for cell in cells)]:
        raise DataError(
            f"{path}: a field goes over several lines, to line {broken[0]}: close its quotation mark, or take it out"
        )
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if lines and lines[0][1] == ["sep=", ""]:  # Excel's, for commas
        del lines[0]
    if not lines:
        raise DataError(f"{path} is empty; expected at least the header line '{header}'")

    first = lines[0][1]
    columns = tuple(ALIASES.get(name.lower(), name.lower()) for name in first)
    missing = [name for name in required if name not in columns]
    if missing:
        raise DataError(_header_problem(path, first, missing, header))
    if twice := [name for name in required if columns.count(name) > 1]:
        raise DataError(f"{path} has the column {twice[0]} more than once; keep one of them")
    if longer := [(number, cells) for number, cells in lines[1:] if any(cells[len(columns) :])]:
        number, cells = longer[0]
        raise DataError(
            f"{path}, line {number} has {len(cells)} fields ('{','.join(cells)}'), the header has {len(columns)}: "
            "write decimal points, not commas, and name every column in the first line"
        )
    rows = [
        Row(path, number, dict(zip_longest(columns, cells[: len(columns)], fillvalue="")))
        for number, cells in lines[1:]
    ]
    return Table(path, columns, rows)


def _header_problem(path: Path, first: Sequence[str], missing: Sequence[str], header: str) -> str:
    if any(_is_number(cell) for cell in first):
        return (
            f"{path} has no header line (it starts with '{','.join(first)}'); the order of the columns "
            f"is never guessed: name them in the first line, for example '{header}'"
        )
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(first) == 1 and mark in first[0]:
            return f"{path} is separated by {name}; save it with commas, and points as decimal marks"
    return (
        f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}: expected '{header}' "
        f"in the first line, found '{','.join(first)}'; rename the columns"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
