# SPDX-License-Identifier: LGPL-2.1-or-later
"""A dump of a sample machine, with its books, as files and as a drgn Program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import drgn

from vmemmap_tools.model import spec
from vmemmap_tools.model.books import Books

__all__ = ["Sample", "build_sample", "open_with_drgn"]


@dataclass(frozen=True)
class Sample:
    """A written machine: ``vmcore``, ``vmlinux`` and what the model knows of it."""

    directory: Path
    books: Books

    @property
    def core(self) -> str:
        return str(self.directory / "vmcore")

    @property
    def vmlinux(self) -> str:
        return str(self.directory / "vmlinux")

    def program(self) -> drgn.Program:
        """The dump as a drgn session has it."""
        return open_with_drgn(self.core, self.vmlinux)


def build_sample(name: str, directory: Path) -> Sample:
    """Build the machine that ``vmcores/NAME.toml`` describes."""
    machine = spec.build(spec.load(spec.samples()[name]))
    machine.write(directory, kdump=True)
    return Sample(directory, machine.books())


def open_with_drgn(core: str, *symbols: str) -> drgn.Program:
    """Open a dump with drgn and nothing of ours."""
    prog = drgn.Program()
    prog.set_core_dump(core)
    if symbols:
        prog.load_debug_info(list(symbols))
    return prog
