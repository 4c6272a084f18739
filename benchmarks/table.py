"""Write the tables of README and docs/ from docs/results/*.json, each between two marks.

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
from results import read_results

DOCS = Path(__file__).resolve().parents[1] / "docs"


def marks(name: str) -> tuple[str, str]:
    """What stands before and after the tables of that name."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def with_tables(page: str, name: str, tables: str) -> str | None:
    """The page with `tables` between its marks; None if it lacks them."""
    begin, end = marks(name)
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        return None
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{tables}\n\n{end}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or only look whether they are up to date."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the pages and of results/")
    docs: Path = (parsed := parser.parse_args(arguments)).docs
    results = read_results(docs / "results")
    glance = {"glance": real_data_table.glance_table(results)}
    pages = {docs.parent / "README.md": glance, docs / "results.md": glance} | {
        docs / "results" / f"{name}.md": {"tables": tables(results)}
        for name, tables in (
            ("scores", real_data_table.scores_page),
            ("paper", real_data_table.papers_page),
            ("choices", real_data_table.choices_page),
            ("trainings", real_data_table.cells_table),
        )
    }
    recovery = docs / "results" / "recovery.json"
    if recovery.is_file():
        measured = json.loads(recovery.read_text(encoding="utf-8"))
        pages[docs / "recovery.md"] = {"tables": recovery_table.render(measured)}
    return max(update(page, tables, parsed.check) for page, tables in pages.items())


def update(page: Path, tables: dict[str, str], check: bool) -> int:
    """Put tables into a page, by their names, or only look whether they are there; exit code."""
    if not page.is_file():
        print(f"error: there is no {page}, which the tables go into", file=sys.stderr)
        return 1
    text = wanted = page.read_text(encoding="utf-8")
    for name, one in tables.items():
        changed = with_tables(wanted, name, one)
        if changed is None:
            begin, end = marks(name)
            print(
                f"error: {page} lacks the marks {begin} and {end}; write them where the tables go",
                file=sys.stderr,
            )
            return 1
        wanted = changed
    if check:
        if text != wanted:
            print(f"{page} is not what its JSON files say; run python benchmarks/table.py", file=sys.stderr)
        return int(text != wanted)
    write_text(page, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
