"""Progress of a training: a bar on a terminal, a line now and then elsewhere."""

import io

from rich.console import Console

from pointsense.learning.course import Progress
from pointsense.learning.progress import SECONDS_BETWEEN_LINES, shown_progress


def at(step, seconds, f1=None, stage=""):
    return Progress(step, 100, 1 / step, f1, seconds, 100.0 - step, stage)


def shown(*progress, **console):
    text = io.StringIO()
    with shown_progress(Console(file=text, width=100, **console)) as report:
        for one in progress:
            report(one)
    return text.getvalue()


def test_lines_where_there_is_no_terminal():
    text = shown(
        at(1, 0.5),
        at(2, 1.0),
        at(10, 5.0, f1=0.5),
        at(20, 6.0, f1=0.5),
        at(40, 5.0 + SECONDS_BETWEEN_LINES, f1=0.5),
        at(100, 30.0, f1=0.875),
        at(1, 40.0, stage="second look"),
    )
    assert text.splitlines() == [
        "step 1 of 100: loss 1, 1:39 left",
        "step 10 of 100: loss 0.1, selection F1 0.500, 1:30 left",
        "step 40 of 100: loss 0.025, selection F1 0.500, 1:00 left",
        "step 100 of 100: loss 0.01, selection F1 0.875, 0:00 left",
        "step 1 of 100: second look, loss 1, 1:39 left",
    ]


def test_bar_on_a_terminal():
    text = shown(at(10, 5.0, f1=0.5), at(100, 30.0, f1=0.5), force_terminal=True)
    assert "100/100" in text
    assert "loss 0.01, selection F1 0.500, 0:00 left" in text
