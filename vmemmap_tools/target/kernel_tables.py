# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page tables of the kernel itself, for memory that is read by physical address."""

from __future__ import annotations

from collections.abc import Mapping

from ..arch import ARCHITECTURES
from ..arch.pagetable import PageTable
from .base import MemoryProvider, TargetError

__all__ = ["kernel_page_table"]


class _Exported:
    """VMCOREINFO as an architecture's facts; variables would need the table itself."""

    def __init__(self, vmcoreinfo: Mapping[str, str]):
        self.vmcoreinfo = vmcoreinfo

    def symbol(self, name: str) -> int | None:
        return None

    def unsigned(self, name: str) -> int | None:
        return None


def kernel_page_table(memory: MemoryProvider) -> PageTable | None:
    """The tables of ``init_mm`` as VMCOREINFO places them, None if it does not.

    Raises `TargetError` for a VMCOREINFO without numbers.
    """
    arch = ARCHITECTURES.get(memory.arch)
    facts = _Exported(memory.vmcoreinfo)
    try:
        root = arch.root_pa(facts) if arch is not None else None
        if arch is None or root is None:
            return None
        return PageTable(
            memory.read_physical,
            arch.table_format(facts),
            arch.levels(facts).value,
            root.value,
            memory.byteorder,
        )
    except ValueError as error:
        raise TargetError(f"VMCOREINFO is damaged: {error}") from None
