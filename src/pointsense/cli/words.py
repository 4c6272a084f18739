"""What the verbs print, and how they end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import NoReturn


class Words(logging.Handler):
    """Says what is logged, each message once: a training looks at its images again and again."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = f"{record.levelname.lower()}: {record.getMessage()}"
        if message not in self.said:
            self.said.add(message)
            say(message)


def log_to_stderr() -> None:
    log = logging.getLogger("pointsense")
    log.handlers = [*(one for one in log.handlers if not isinstance(one, Words)), Words()]


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
