"""Write the tables of docs/results.md and docs/recovery.md from docs/results/*.json, between two marks.

python benchmarks/table.py            write them
python benchmarks/table.py --check    exit 1 where a page is not what the JSON files say
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import real_data_table
import recovery_table
from pointsense.writing import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def with_tables(page: str, tables: str) -> str:
    """The page with `tables` between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or only look whether they are up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages and of results/")
    parsed = parser.parse_args(arguments)
    results = real_data_table.read_results(parsed.docs / "results")
    pages = {"results.md": real_data_table.render(results)}
    recovery = parsed.docs / "results" / "recovery.json"
    if recovery.is_file():
        pages["recovery.md"] = recovery_table.render(json.loads(recovery.read_text(encoding="utf-8")))
    return max(update(parsed.docs / name, tables, parsed.check) for name, tables in pages.items())


def update(page: Path, tables: str, check: bool) -> int:
    """Put the tables into a page, or only look whether they are there; exit code."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        print(
            f"error: {page} lacks the marks {BEGIN} and {END}; write them where the tables go",
            file=sys.stderr,
        )
        return 1
    wanted = with_tables(text, tables)
    if check:
        if text != wanted:
            print(f"{page} is not what its JSON files say; run python benchmarks/table.py", file=sys.stderr)
        return int(text != wanted)
    write_text(page, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
