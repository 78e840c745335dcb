# SPDX-License-Identifier: LGPL-2.1-or-later
"""Session: what a door hands to every verb, as click's ``obj``.

A verb asks it for the kernel and gives it the Report; whether that is a command line,
a drgn prompt or gdb it need not know.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Callable, Protocol, TextIO

import click

from ..render import FORMATS, Report, render

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ["NoProgress", "Progress", "Session"]


class Progress(Protocol):
    """Shows how far a long piece of work has come."""

    def update(self, n: int) -> None:
        """Count ``n`` more units as done."""

    def __enter__(self) -> Progress:
        """Begin the work."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the work, also where it fails."""


class NoProgress:
    """Progress that shows nothing, for pipes, scripts and tests."""

    def __init__(self, label: str = "", total: int | None = None):
        pass

    def update(self, n: int) -> None:
        """Show nothing."""

    def __enter__(self) -> NoProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def _no_kernel() -> Kernel:
    raise click.UsageError("no kernel is open here")


@dataclass
class Session:
    """One run of a verb.

    ``open_kernel`` opens on the first call and returns the same Kernel afterwards: a
    verb calls it in its body, so that ``VERB --help`` opens nothing. ``progress`` takes
    a label and the number of units, None when unknown. Without a ``stream`` the answer
    goes to standard output as it then is. ``evaluate`` turns a word into a number where
    the door has expressions (gdb) or variables (drgn), None for what is none of these.
    """

    open_kernel: Callable[[], Kernel] = _no_kernel
    format: str = FORMATS[0]
    stream: TextIO | None = None
    progress: Callable[[str, int | None], Progress] = NoProgress
    evaluate: Callable[[str], int | None] | None = None

    def emit(self, report: Report) -> None:
        """Write a report in the chosen format. Reading errors of lazy rows pass."""
        render(report, self.format, self.stream or sys.stdout)
