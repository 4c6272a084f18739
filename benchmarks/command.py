"""What the commands of all benchmarks have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps

from pointsense.errors import PointsenseError


def in_one_sentence(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """A command that tells what went wrong in a sentence on stderr, and returns the exit code of it."""

    @wraps(main)
    def told(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments)
        except PointsenseError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code

    return told
