# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb with the door loaded on a core, as a user loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmemmap_tools.model import spec
from vmemmap_tools.model.write import write_vmcore, write_vmlinux

from .runner import TOP, Answer, Gdb

__all__ = ["LOADER", "Small", "ask", "build_small", "opening"]

LOADER = TOP / "gdb_scripts" / "vmemmap-gdb.py"


def opening(core: Path | str, vmlinux: Path | str) -> list[str]:
    """Commands that open a core and load the door."""
    return [f"symbol-file {vmlinux}", f"core-file {core}", f"source {LOADER}"]


def ask(
    gdb: Gdb, core: Path | str, vmlinux: Path | str, *commands: str, **how: Any
) -> list[Answer]:
    """The answers to commands in a session with the door."""
    before = opening(core, vmlinux)
    answers = gdb.run(*before, *commands, **how)
    for answer in answers[: len(before)]:
        assert answer.error is None, answer.error
    return answers[len(before) :]


@dataclass(frozen=True)
class Small:
    """A small machine's files, and what the model knows of it."""

    directory: Path
    facts: dict[str, int]
    symbols: dict[str, int]
    """Run-time addresses."""
    phys_base: int
    books: dict[str, Any]

    @property
    def core(self) -> Path:
        return self.directory / "vmcore"

    @property
    def vmlinux(self) -> Path:
        return self.directory / "vmlinux"

    def page_va(self, pfn: int) -> int:
        """Address of a pfn's struct page."""
        return self.facts["vmemmap"] + 64 * pfn

    def ask(self, gdb: Gdb, *commands: str, **how: Any) -> list[Answer]:
        """The answers to commands in a session on the dump."""
        return ask(gdb, self.core, self.vmlinux, *commands, **how)

    def told(self, gdb: Gdb, *commands: str, **how: Any) -> list[str]:
        """What the commands print; all have to succeed."""
        answers = self.ask(gdb, *commands, **how)
        for command, answer in zip(commands, answers):
            assert answer.error is None, f"{command}: {answer.error}"
        return [answer.text for answer in answers]


def build_small(directory: Path) -> Small:
    """Half a GiB at 0 and a quarter at 22 GiB: sections 171 to 177 lie in root 1."""
    machine = spec.build(
        spec.parse(
            {
                "generation": "section-order",
                "machine": {"levels": 4, "kaslr": 5},
                "node": [{"memory": ["0-512M", "22G-22784M"]}],
                "step": [{"do": "hugetlb_alloc", "size": "2M", "count": 8}],
            }
        )
    )
    image = machine.image()
    write_vmlinux(image, directory / "vmlinux")
    write_vmcore(image, directory / "vmcore")
    offset = image.kaslr_offset
    symbols = {name: s.address + offset for name, s in image.symbols.items()}
    return Small(directory, image.facts, symbols, image.phys_base, machine.books().data)
