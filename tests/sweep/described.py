# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sweep over a dump that describes itself: BTF and kallsyms are in its memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tests.sweep.leave_out import Sweep
from tests.target.machines import SelfDescribed
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import Fault
from vmemmap_tools.target.drgn import DrgnMemory
from vmemmap_tools.target.providers import compose
from vmemmap_tools.target.vmcoreinfo import VmcoreInfo

__all__ = ["SelfDescribedSweep"]

PAGE = 4096


class _Memory(DrgnMemory):
    """A dump without some frames, virtual addresses by its own page tables."""

    def __init__(self, base: DrgnMemory, info: VmcoreInfo, missing: Collection[int]):
        super().__init__(base.prog, base.segments)
        self.vmcoreinfo = info
        self._walks = True
        self._missing = missing
        self.touched: set[int] = set()

    def read_physical(self, address: int, size: int) -> bytes:
        for pfn in range(address // PAGE, (address + size - 1) // PAGE + 1):
            if pfn in self._missing:
                start = max(address, pfn * PAGE)
                raise Fault(start, size, "excluded", physical=True)
            self.touched.add(pfn)
        return super().read_physical(address, size)


class SelfDescribedSweep(Sweep):
    """As `Sweep`, without a vmlinux: pages of types and symbols may be missing."""

    def _prepare(self, machine: Machine) -> None:
        self._described = SelfDescribed(machine)
        self._info = VmcoreInfo(self._described.note.read_text())

    def target_without(self, pfns: Collection[int]) -> Any:
        memory = _Memory(self._described.memory, self._info, pfns)
        target: Any = compose(memory)
        target.touched = memory.touched
        return target

    @property
    def core(self) -> None:
        return None
