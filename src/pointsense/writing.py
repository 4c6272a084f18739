"""Writing files so that a reader, or a kill, never meets half of one."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pointsense.errors import DataError, UsageError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` when the block ends well.

    Each call has a temporary name of its own, so that threads and processes may write the same file: the
    last one to finish wins, whole.

    Raises
    ------
    DataError
        If the file cannot be written (disk full, no permission); nothing is left half-written.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"cannot write {path}: it is a folder; give the name of a file")
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(
            OSError
        ):  # what failed above may make this fail too; the first reason is the one to tell
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` (UTF-8), all or nothing; bytes that are no letters, as names may have, are escaped."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_table(path: Path | str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header to `path`, all or nothing."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON to `path`, all or nothing."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def claim_folder(path: Path | str, *, overwrite: bool) -> Path:
    """Make sure that results may go to the folder `path`; it is made by whoever writes into it.

    Raises
    ------
    UsageError
        If it is a file, may not be written to, or holds something and `overwrite` does not allow to replace files of
        it.
    """
    path = Path(path)
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not there.is_dir():
        raise UsageError(f"{there} is a file, expected a folder to write to; give another --out")
    if not os.access(there, os.W_OK):
        raise UsageError(f"nothing may be written to {there}; give another folder, or change its permissions")
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise UsageError(
            f"the folder {path} is not empty; give another --out, or --overwrite to replace what is in it"
        )
    return path
