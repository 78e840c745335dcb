# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an architecture file has to say: the shape of `Architecture`.

The functions in it ask a `KernelFacts` (any Target is one) for VMCOREINFO keys, symbols
and the values of integer variables, newest and surest source first, and name the source
they used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Generic, Protocol, TypeVar

from .pagetable import PageTableFormat

__all__ = ["Architecture", "Fact", "KernelFacts"]

T = TypeVar("T")


class KernelFacts(Protocol):
    """Where an architecture learns the bases that a kernel chose at boot."""

    @property
    def vmcoreinfo(self) -> Mapping[str, str]: ...

    def symbol(self, name: str) -> int | None:
        """Run-time address of a symbol."""

    def unsigned(self, name: str) -> int | None:
        """Value of an integer variable, None when it is unknown or unreadable."""


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A value and the words that say where it came from.

    ``is_assumed`` marks what stands on the absence of a sign alone.
    """

    value: T
    source: str
    is_assumed: bool = False


@dataclass(frozen=True)
class Architecture:
    """One architecture's address-space layout and page-table format.

    ``levels``, ``root_pa`` and ``vmemmap_window`` return None when no source answers.
    ``vmemmap_window`` is (first address, end) of the virtual range reserved for the
    vmemmap; ``direct_map_base`` the address that maps physical address 0.
    """

    name: str
    elf_machine: int
    section_size_bits: int
    max_physmem_bits: Mapping[int, int]
    """By page-table levels; VMCOREINFO's NUMBER(MAX_PHYSMEM_BITS) goes first."""
    huge_page_order: int
    illegal_pointer: int
    """``POISON_POINTER_DELTA``: what poisoned pointers, such as TAIL_MAPPING, add."""
    vmemmap_bytes: Mapping[int, int]
    """Size of the vmemmap's window, by page-table levels."""
    table_format: Callable[[KernelFacts], PageTableFormat]
    levels: Callable[[KernelFacts], Fact[int]]
    root_pa: Callable[[KernelFacts], Fact[int] | None]
    vmemmap_window: Callable[[KernelFacts, int], Fact[tuple[int, int]] | None]
    direct_map_base: Callable[[KernelFacts, int], Fact[int] | None]
