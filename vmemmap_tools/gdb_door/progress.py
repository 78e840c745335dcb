# SPDX-License-Identifier: LGPL-2.1-or-later
"""Progress of long work on the terminal that gdb runs on.

Python's own standard error, since gdb puts a stream of its own in its place that pages
what is written; a bar is no part of an answer, nor of what ``pipe`` or a log gets.
"""

from __future__ import annotations

import sys

from ..commands.progress import DelayedProgress
from ..commands.session import NoProgress, Progress

__all__ = ["gdb_progress"]


def gdb_progress(label: str, total: int | None) -> Progress:
    """A bar where somebody sees it, else nothing."""
    terminal = sys.__stderr__
    if terminal is None or not terminal.isatty():
        return NoProgress()
    return DelayedProgress(label, total, terminal)
