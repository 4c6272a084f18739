"""numba's decorators, as all compiled code uses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.options import DefaultOptions

#: Sums may be reordered and multiply-adds fused; infinities and NaN keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's decorator; what it compiles is kept on disk where there is a place for it."""
    options |= {"nogil": True, "fastmath": FAST, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither the package's folder nor the user's can be written
            return numba.njit(**options)(function)

    return decorate


allocating = _compiler()
# Reference counts of the arrays in a System and a Support would cost as much as the arithmetic. The option to go
# without is none that numba promises.
compiled = _compiler(_nrt=False) if hasattr(DefaultOptions, "_nrt") else allocating
