# SPDX-License-Identifier: LGPL-2.1-or-later
"""From the opening options to a Kernel.

drgn is imported here, and only when a verb asks for the kernel.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

import click

from ..kernel.progress import Progress, silent
from ..target.base import Target, TargetError, TypeSource, incomplete
from ..target.dump_files import name_dump_inside
from ..target.vmcoreinfo import read_vmcoreinfo

if TYPE_CHECKING:
    from ..kernel.kernel import Kernel

__all__ = ["Opening", "check_files", "lazily", "open_kernel"]


@dataclass(frozen=True)
class Opening:
    """The opening options; neither ``core`` nor ``qemu`` is the running kernel."""

    core: str | None = None
    qemu: str | None = None
    symbols: tuple[str, ...] = ()
    vmcoreinfo: str | None = None
    types: TypeSource = "auto"

    @classmethod
    def from_options(
        cls,
        core: str | None,
        live: bool,
        qemu: str | None,
        symbols: tuple[str, ...],
        vmcoreinfo: str | None,
        types: TypeSource,
    ) -> Opening:
        """Check that the options name one source. Raises click.UsageError."""
        for option, name in (
            ("-c", core),
            ("--qemu", qemu),
            *(("-s", name) for name in symbols),
            ("--vmcoreinfo", vmcoreinfo),
        ):
            if name == "":
                raise click.UsageError(f"{option} was given an empty name")
        sources = {"-c": core is not None, "--live": live, "--qemu": qemu is not None}
        given = [option for option, is_given in sources.items() if is_given]
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(given)} exclude each other")
        if vmcoreinfo is not None and core is None and qemu is None:
            raise click.UsageError("--vmcoreinfo belongs to -c or --qemu")
        return cls(core, qemu, symbols, vmcoreinfo, types)


def lazily(opening: Opening, progress: Progress = silent) -> Callable[[], Kernel]:
    """A function that opens on its first call and keeps the Kernel."""
    opened: list[Kernel] = []

    def kernel() -> Kernel:
        if not opened:
            opened.append(open_kernel(opening))
            opened[0].progress = progress
        return opened[0]

    return kernel


def open_kernel(opening: Opening) -> Kernel:
    """Open what the options name. Raises `TargetError`."""
    check_files(opening)
    from ..kernel.kernel import Kernel

    target = _open_target(opening)
    warning = incomplete(target)
    if warning:
        click.echo(f"vmemmap: {warning}", err=True)
    return Kernel(target)


def _open_target(opening: Opening) -> Target:
    try:
        from ..target.drgn_open import open_dump, open_live, open_qemu
    except ImportError as error:
        if error.name != "drgn":
            raise
        raise TargetError("drgn is not installed: pip install drgn") from None
    note = read_vmcoreinfo(opening.vmcoreinfo) if opening.vmcoreinfo else None
    if opening.core is not None:
        return open_dump(opening.core, opening.symbols, note, opening.types)
    if opening.qemu is not None:
        return open_qemu(opening.qemu, opening.symbols, note, opening.types)
    return open_live(opening.symbols, opening.types)


def check_files(opening: Opening) -> None:
    """Refuse files that cannot be read. Raises `TargetError`."""
    if opening.core is not None and os.path.isdir(opening.core):
        try:
            raise TargetError(name_dump_inside(opening.core))
        except OSError as error:
            raise TargetError(f"{opening.core}: {error.strerror}") from None
    for path in filter(None, (opening.core, *opening.symbols, opening.vmcoreinfo)):
        check_file(path)


def check_file(path: str) -> None:
    """Refuse what is no readable file, before a library does so in its own words."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise TargetError(f"{path} is a directory")
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            raise TargetError(f"{path} is a pipe or socket: write it to a file first")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
