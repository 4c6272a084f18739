"""The errors a user can cause; each message says what was expected, what was found and what to do."""


class PointsenseError(Exception):
    """Base of all errors that the command line prints as one sentence.

    `exit_code` is what the command line exits with: 1 for data, 2 for usage.
    """

    exit_code = 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: torch's processors and devices each say it in their own way."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in str(error).lower() for sign in ("alloc", "out of memory"))
    )


class DataError(PointsenseError):
    """An image, a table or a model folder is not what it should be."""


class UsageError(PointsenseError):
    """An option, a preset, a key or a value is wrong."""

    exit_code = 2
