"""What the verbs print, and how they end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import NoReturn


def log_to_stderr() -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"{record.levelname.lower()}: {record.getMessage()}")

    log = logging.getLogger("pointsense")
    if not log.handlers:
        log.addHandler(Handler(logging.WARNING))


def listed(radii: Mapping[str, tuple[float, str]]) -> str:
    """Radii by class and where they come from, in words."""
    return ", ".join(
        f"{name} " * (len(radii) > 1) + f"{px:g} px ({how})" for name, (px, how) in radii.items()
    )


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + "s" * (count != 1)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def fail(message: str, code: int) -> NoReturn:
    say(message)
    raise SystemExit(code)
