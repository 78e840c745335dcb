# SPDX-License-Identifier: LGPL-2.1-or-later
"""A progress bar on a terminal, for work that takes over a second."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Any, TextIO

import click

from .session import NoProgress, Progress

__all__ = ["DelayedProgress", "terminal_progress"]

PATIENCE_SECONDS = 1.0


def terminal_progress(label: str, total: int | None) -> Progress:
    """Progress on standard error where somebody sees it, else none."""
    if sys.stderr.isatty():
        return DelayedProgress(label, total)
    return NoProgress()


class DelayedProgress:
    """A progress bar that appears once the work has lasted `PATIENCE_SECONDS`.

    On ``file``, or standard error as it then is.
    """

    def __init__(self, label: str, total: int | None, file: TextIO | None = None):
        self._label = label
        self._file = file
        self._total = total
        self._done = 0
        self._since = 0.0
        self._bar: Any = None
        self._stack = ExitStack()

    def __enter__(self) -> DelayedProgress:
        self._since = time.monotonic()
        return self

    def update(self, n: int) -> None:
        """Count ``n`` more units as done."""
        self._done += n
        if self._bar is not None:
            self._bar.update(n)
        elif time.monotonic() - self._since >= PATIENCE_SECONDS:
            self._show()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _show(self) -> None:
        units = count() if self._total is None else None  # endless: a moving mark
        bar: Any = click.progressbar(
            units,
            length=self._total,
            label=self._label,
            file=self._file or sys.stderr,
        )
        self._bar = self._stack.enter_context(bar)
        self._bar.update(self._done)
