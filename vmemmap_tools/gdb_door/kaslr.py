# SPDX-License-Identifier: LGPL-2.1-or-later
"""``vmemmap kaslr``: where the kernel is, and gdb's own symbols moved there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import gdb

from ..commands.session import Session
from ..formats.elf import Elf
from ..render import Column, Report
from ..target.base import Target, TargetError
from ..target.gdb import loaded_vmlinux

__all__ = ["kaslr_command", "moved_by"]

MARK = "linux_banner"
"""In every kernel, and moved with it."""
MASK_64 = (1 << 64) - 1
PERCPU = ".data..percpu"

COLUMNS = (
    Column("kernel", "Kernel"),
    Column("gdb_va", f"{MARK} in gdb"),
    Column("kernel_va", f"{MARK} in the kernel"),
    Column("offset", "Symbols to be moved by"),
    Column("source", "Known from"),
)


def moved_by(target: Target) -> int | None:
    """How far the kernel lies from where gdb has its symbols, modulo 2^64.

    None where either does not know the kernel's symbols.
    """
    there = target.symbol(MARK)
    try:
        here = int(gdb.parse_and_eval(f"(unsigned long)&{MARK}"))
    except gdb.error:
        return None
    return None if there is None else there - here & MASK_64


@click.command("kaslr")
@click.option(
    "--apply",
    "applies",
    is_flag=True,
    help="Move gdb's symbols, so that breakpoints and gdb's own print work.",
)
@click.pass_obj
def kaslr_command(session: Session, /, applies: bool) -> None:
    """Show how far KASLR has moved the kernel from where gdb has its symbols.

    The vmemmap commands need no moved symbols. --apply loads the vmlinux again at its
    real address, for gdb's own commands and for breakpoints; the programs that gdb
    itself reads initial values from (file, exec-file) are left alone.
    """
    kernel = session.open_kernel()
    target = kernel.target
    offset = moved_by(target)
    if offset is None:
        raise TargetError("gdb has no symbols of this kernel: symbol-file VMLINUX")
    if applies and offset:
        _apply(offset)
        offset = moved_by(target)
        if offset:
            raise TargetError("gdb did not take the symbols at their real address")

    def rows() -> Iterator[dict[str, Any]]:
        there = target.symbol(MARK)
        assert there is not None and offset is not None
        yield {
            "kernel": target.release,
            "gdb_va": f"{there - offset & MASK_64:#x}",
            "kernel_va": f"{there:#x}",
            "offset": f"{_signed(offset):#x}",
            "source": next(
                (f.source for f in target.evidence() if f.subject == "KASLR offset"),
                "symbols of the dump",
            ),
        }

    session.emit(
        Report(
            verb="kaslr",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            records=True,
        )
    )


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _apply(offset: int) -> None:
    """Load the vmlinux that has the kernel's symbols again, at its real address."""
    path = loaded_vmlinux()
    if path is None:
        raise TargetError("gdb has no vmlinux: symbol-file VMLINUX")
    command = f"add-symbol-file {_quoted(path)} -o {offset:#x}"
    if _has_absolute_percpu(path):
        command += f" -s {PERCPU} 0"
    # The name decides: without a file argument this drops the old symbols first.
    with gdb.with_parameter("confirm", False):
        gdb.execute("symbol-file", to_string=True)
        gdb.execute(command, to_string=True)


def _has_absolute_percpu(path: str) -> bool:
    """Whether per-CPU symbols are offsets from 0, which KASLR does not move."""
    with Elf(path) as elf:
        return any(s.name == PERCPU and s.va == 0 for s in elf.sections())


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
