# SPDX-License-Identifier: LGPL-2.1-or-later
"""Progress of long work, as a callback that the door gives: no view knows a terminal.

Imports the standard library only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Callable, Optional

__all__ = ["Progress", "silent"]

Progress = Callable[[str, Optional[int]], AbstractContextManager[Any]]
"""Makes a progress bar from a label and a number of units (None if unknown); the bar's
``update(n)`` counts units that are done."""


class _Silent:
    def update(self, n: int) -> None:
        pass


def silent(label: str, total: int | None) -> AbstractContextManager[Any]:
    """Progress that shows nothing."""
    return nullcontext(_Silent())
