# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write a machine to a directory: vmlinux, vmcore, vmcore.kdump, books.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmemmap_tools.formats.output import check_output
from vmemmap_tools.model.faults import apply

if TYPE_CHECKING:
    from vmemmap_tools.model.machine import Machine

__all__ = ["write_machine"]


def write_machine(
    machine: Machine,
    directory: Path,
    kdump: bool,
    variant: str,
    faults: list[str],
    seed: int,
) -> None:
    """Write all files; the books name the faults and where they were put.

    A symbolic link in the place of one of them is not followed. Raises `OutputError`.
    """
    from vmemmap_tools.model.write import write

    directory.mkdir(parents=True, exist_ok=True)
    kdumps = ["vmcore.kdump"] if kdump else []
    for name in ("vmlinux", "vmcore", *kdumps, "books.json"):
        check_output(directory / name, may_replace=True)
    image = machine.image()
    books = machine.books()
    books.data["faults"] = [p.as_dict() for p in apply(image, faults, seed)]
    write(image, directory, kdump=kdump, variant=variant)
    books.write(directory / "books.json")
