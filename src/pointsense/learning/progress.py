"""How a training is going: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from pointsense.learning.course import Progress

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def shown_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Yield what to call with each `Progress` of a training."""
    if not console.is_terminal:
        yield plain_lines(console)
        return
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, total=progress.steps, completed=progress.step, description=describe(progress))

        yield show


def plain_lines(console: Console) -> Callable[[Progress], None]:
    """What prints a line for every new F1 on the selection images, and now and then."""
    printed_at = -SECONDS_BETWEEN_LINES
    last_f1: float | None = None

    def show(progress: Progress) -> None:
        nonlocal printed_at, last_f1
        if progress.seconds - printed_at >= SECONDS_BETWEEN_LINES or progress.selection_f1 != last_f1:
            printed_at, last_f1 = progress.seconds, progress.selection_f1
            line = f"step {progress.step} of {progress.steps}: {describe(progress)}"
            console.print(line, highlight=False, soft_wrap=True)

    return show


def describe(progress: Progress) -> str:
    """What is learned, loss, the last F1 on the selection images, and the time left, in words.

    >>> from types import SimpleNamespace
    >>> describe(SimpleNamespace(stage="", loss=0.0123, selection_f1=0.94, seconds_left=75.2))
    'loss 0.0123, selection F1 0.940, 1:15 left'
    """
    parts = [*filter(None, [progress.stage]), f"loss {progress.loss:.4g}"]
    if progress.selection_f1 is not None:
        parts.append(f"selection F1 {progress.selection_f1:.3f}")
    minutes, seconds = divmod(round(max(progress.seconds_left, 0)), 60)
    return ", ".join([*parts, f"{minutes}:{seconds:02d} left"])
