# SPDX-License-Identifier: LGPL-2.1-or-later
"""A piece of C as a module that a compiler has made and described, and a CPU in it."""

from __future__ import annotations

from pathlib import Path

from tests.tools import output
from vmemmap_tools.formats.elf import Elf

__all__ = ["MODULE_VA", "RDI", "RIP", "RSI", "build_module", "put_registers"]

MODULE_VA = 0xFFFFFFFFC0200000
"""Where its first function lies."""
RSI, RDI, RIP = 13, 14, 16
"""Places in ``struct user_regs_struct``."""
REGISTERS = 112
"""Where that lies in ``struct elf_prstatus``."""


def build_module(directory: Path, source: str) -> Path:
    """Compile and link a source whose first function is called ``probe``."""
    text, module = directory / "probe.c", directory / "probe.elf"
    text.write_text(source)
    output(
        "gcc",
        *("-g", "-O1", "-ffreestanding", "-nostdlib", "-static", "-mcmodel=kernel"),
        *("-fno-pic", "-fcf-protection=none"),
        *(f"-Wl,-Ttext={MODULE_VA:#x}", "-Wl,-e,probe"),
        *(text, "-o", module),
    )
    return module


def put_registers(core: Path, values: dict[int, int]) -> None:
    """Write registers of the CPU that the core's first note is about."""
    with Elf(core) as elf:
        status = elf.note("CORE") or b""
    with open(core, "r+b") as file:
        at = file.read(1 << 16).index(status) + REGISTERS
        for number, value in values.items():
            file.seek(at + 8 * number)
            file.write(value.to_bytes(8, "little"))
