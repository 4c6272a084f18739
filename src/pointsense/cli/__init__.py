"""The command line: verbs only. What a verb needs is imported when it runs, so that --help answers at once."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from pointsense import __version__
from pointsense.cli import data, find, learn, show
from pointsense.cli.words import fail, log_to_stderr
from pointsense.errors import PointsenseError, is_out_of_memory

app = typer.Typer(
    name="pointsense",
    help="Cells, nuclei and mitoses as points in microscopy images. Points are (y, x) in pixels; (0, 0) is the "
    "centre of the first pixel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="Models that come with the package.", no_args_is_help=True)
models.command("list")(show.list_models)
for verb in (
    learn.train,
    learn.refit,
    learn.tune,
    find.predict,
    find.evaluate,
    data.check,
    data.convert,
    show.settings,
    show.demo,
    show.reproduce,
):
    app.command()(verb)
app.add_typer(models, name="models")


@app.callback(invoke_without_command=True)
def pointsense(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(f"pointsense {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; whatever a user or a full disk can cause ends in one sentence on stderr."""
    for stream in (sys.stdout, sys.stderr):  # names may hold what a terminal or a pipe has no letters for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    log_to_stderr()
    try:
        app(args=None if arguments is None else list(arguments), prog_name="pointsense")
    except PointsenseError as error:
        fail(f"error: {error}", error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        fail("error: not enough memory; take smaller images or a smaller batch", 1)
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        remedy = "; free some and try again" if error.errno == errno.ENOSPC else ""
        fail(f"error: {error.strerror or error}{place}{remedy}", 1)
    raise SystemExit(0)
