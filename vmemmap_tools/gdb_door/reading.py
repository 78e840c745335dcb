# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Kernel behind what gdb has open: kept while nothing can have changed.

A dump serves all commands with one reading, a stopped machine until it runs, writes or
gets other symbols. /proc/kcore is read anew by every command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
import gdb

from ..kernel.kernel import Kernel
from ..render.text import escape, internal_error
from ..target.base import Fault, TargetError, incomplete
from ..target.gdb import core_path, open_inferior
from ..target.gdb_events import on_change
from ..target.gdb_stub import StubMemory
from .conversions import NoAnswer
from .parameters import Settings, budget, settings
from .progress import gdb_progress

__all__ = ["Reading", "forget", "kernel", "kernel_for_report", "one_line_errors"]


@dataclass
class _Kept:
    kernel: Kernel
    key: tuple[Any, ...]


class Reading:
    """What is kept between two commands."""

    def __init__(self) -> None:
        self._kept: _Kept | None = None
        on_change(self.forget)

    def forget(self) -> None:
        """Open anew at the next command."""
        self._kept = None

    def kernel(self) -> Kernel:
        """The Kernel for an answer. Raises `TargetError`."""
        chosen = settings()
        key = _what_is_open(chosen)
        kept = self._kept
        if kept is None or kept.key != key:
            # Opening may look up types, whereupon gdb tells of new object files.
            target = _open(chosen)
            warning = incomplete(target)
            if warning:
                gdb.write(f"vmemmap: {warning}\n", gdb.STDERR)
            opened = Kernel(target, gdb_progress)
            self._kept = kept = _Kept(opened, key)
        elif kept.kernel.target.live:
            kept.kernel = kept.kernel.fresh()
        memory = getattr(kept.kernel.target, "memory", None)
        if isinstance(memory, StubMemory):
            memory.budget, memory.spent = budget(), 0
        return kept.kernel

    def kernel_for_report(self) -> Kernel:
        """One whose account of what is missing is that of one report alone."""
        found = self.kernel()
        return found.fresh() if found.missing else found


def _open(chosen: Settings) -> Any:
    return open_inferior(
        chosen.types, chosen.symbols, chosen.vmcoreinfo_text(), chosen.physical
    )


def _what_is_open(chosen: Settings) -> tuple[Any, ...]:
    """All that a reading depends on and that gdb does not tell of when it changes."""
    inferior = gdb.selected_inferior()
    connection = inferior.connection
    kind = "" if connection is None else f"{connection.num} {connection.type}"
    core: tuple[Any, ...] = ()
    if connection is not None and connection.type == "core":
        path = core_path(inferior)
        try:
            found = os.stat(path)
            core = (path, found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            core = (path,)
    return chosen, inferior.num, kind, core


_reading = Reading()
kernel = _reading.kernel
kernel_for_report = _reading.kernel_for_report
forget = _reading.forget


@contextmanager
def one_line_errors(name: str, debug: bool = False) -> Iterator[None]:
    """Turn whatever goes wrong into gdb's error of one line, beginning with ``name``.

    The only broad ``except`` of this door.
    """
    try:
        yield
    except gdb.GdbError:
        raise
    except KeyboardInterrupt:
        forget()  # what was being read may be half done
        raise gdb.GdbError("Quit") from None
    except Exception as error:
        if debug:
            import traceback

            gdb.write(traceback.format_exc(), gdb.STDERR)
        text = " ".join(_explain(error).split())
        shown = text if text.isprintable() else escape(text)
        raise gdb.GdbError(f"{name}: {shown}") from None


def _explain(error: Exception) -> str:
    if isinstance(error, click.BadParameter) and error.ctx is None:
        return error.message  # an expression: no option is meant
    if isinstance(error, click.ClickException):
        return error.format_message() + _help_hint(error)
    if isinstance(error, (TargetError, NoAnswer, Fault, gdb.error)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or type(error).__name__}"
    return internal_error(error, "'vmemmap --debug VERB'")


def _help_hint(error: click.ClickException) -> str:
    """Name the help that would have helped, without the usage in full."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see '{context.command_path} --help')" if context else ""
