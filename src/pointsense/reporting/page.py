"""One self-contained HTML page: text, tables and pictures, no other file and no network needed."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from pointsense.writing import write_text

CSS = """
:root { color-scheme: light dark; --ink: #1d2327; --soft: #5c666d; --paper: #ffffff; --line: #dde2e5;
  --panel: #f5f7f8; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9eb; --soft: #9aa5ac; --paper: #14181a;
  --line: #2f373c; --panel: #1d2326; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 68rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: .5rem 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr));
  gap: 1.25rem; margin: 1rem 0; align-items: start; }
figure { margin: 0; }
figure.wide { grid-column: 1 / -1; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .4rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.numbers div { background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem 1rem; min-width: 8rem; }
.numbers b { display: block; font-size: 1.6rem; line-height: 1.2; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.numbers span { color: var(--soft); font-size: .875rem; }
"""


@dataclass(frozen=True)
class Figure:
    """A picture: PNG bytes or a PIL image. A wide one takes the page's whole width."""

    picture: bytes | Image.Image
    caption: str
    wide: bool = False

    def html(self) -> str:
        """Return the figure with its picture inside."""
        if isinstance(self.picture, bytes):
            png = self.picture
        else:
            buffer = io.BytesIO()
            self.picture.save(buffer, format="PNG")
            png = buffer.getvalue()
        source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        kind = ' class="wide"' if self.wide else ""
        caption = escape(self.caption)
        return (
            f'<figure{kind}><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        )


@dataclass(frozen=True)
class Table:
    """A table: a header and rows of text, the first column naming the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def html(self) -> str:
        """Return the table in a box that scrolls sideways on narrow screens."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in self.rows
        )
        below = f"<p><small>{escape(self.caption)}</small></p>" if self.caption else ""
        return (
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
            + below
        )


@dataclass(frozen=True)
class Section:
    """A part of the page, in this order: heading, text, large numbers, tables, figures.

    `text` is split into paragraphs at empty lines; `numbers` are (value, what it is).
    """

    heading: str
    text: str = ""
    numbers: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()

    def html(self) -> str:
        """Return the section."""
        parts = [f"<h2>{escape(self.heading)}</h2>"] if self.heading else []
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in self.text.split("\n\n") if paragraph.strip()]
        if self.numbers:
            boxes = "".join(
                f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>"
                for value, name in self.numbers
            )
            parts.append(f'<div class="numbers">{boxes}</div>')
        parts += [table.html() for table in self.tables]
        if self.figures:
            pictures = "\n".join(figure.html() for figure in self.figures)
            parts.append(f'<div class="figures">{pictures}</div>')
        return "<section>" + "\n".join(parts) + "</section>"


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write the page to `path`, all or nothing.

    Raises
    ------
    DataError
        If the file cannot be written.
    """
    body = "\n".join(section.html() for section in sections)
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n",
    )
