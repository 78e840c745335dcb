# SPDX-License-Identifier: LGPL-2.1-or-later
"""Physical memory of the running kernel, without the zeros that stand for nothing.

/proc/kcore returns zeros, not an error, for frames that it does not read
(``fs/proc/kcore.c``, read_kcore_iter(), since 5.14): those of offline sections, those
that are logically offline (PageOffline: a balloon, virtio-mem) and those with
PG_hwpoison. The vmemmap of an offline block that hosts its own would read as struct
pages that were never initialized, a poisoned page table as a hole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..target.base import Fault, Target

if TYPE_CHECKING:
    from .kernel import Kernel

__all__ = ["Kcore", "is_kcore"]

TYPE_BASE = 0xF0000000
"""Before 6.12 a page type is a cleared bit in a word whose top bits are set."""


def is_kcore(target: Target) -> bool:
    """Whether memory is read through /proc/kcore."""
    # A Target is its own memory, or is put together with one.
    return bool(getattr(getattr(target, "memory", target), "is_kcore", False))


class Kcore:
    """Reads physical memory for a Kernel, and refuses frames that read as zeros only
    because /proc/kcore leaves them out.

    Frames are judged when a read of them is all zeros: by their section, and by their
    struct page. Zeros are refused as well where the struct page cannot be read. Which
    kernels leave out what is of no importance: a frame that holds something is read.
    """

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self._target = kernel.target
        self._page_size = kernel.geometry.page_size
        self._left_out: dict[int, bool] = {}
        self._is_judging = False

    def read_physical(self, address: int, size: int) -> bytes:
        """Bytes at a physical address. Raises `Fault`."""
        data = self._target.read_physical(address, size)
        position = 0
        while position < size:
            place = address + position
            length = min(size - position, self._page_size - place % self._page_size)
            is_zero = data.count(0, position, position + length) == length
            if is_zero and self._is_left_out(place // self._page_size):
                raise Fault(place, size - position, "excluded", physical=True)
            position += length
        return data

    def _is_left_out(self, pfn: int) -> bool:
        if self._is_judging:
            # What says whether a frame is left out is zeros as well: it says nothing,
            # and no cache may keep it.
            return True
        found = self._left_out.get(pfn)
        if found is None:
            self._is_judging = True
            try:
                found = self._judge(pfn)
            except Fault:
                found = True  # Nothing shows that these zeros are its contents.
            finally:
                self._is_judging = False
            self._left_out[pfn] = found
        return found

    def _judge(self, pfn: int) -> bool:
        """Whether read_kcore_iter() leaves a frame out. Raises `Fault`."""
        sections = self._kernel.sections
        section = sections.of_pfn(pfn)
        if section is None or not section.has_mem_map:
            return False
        if not section.is_online:
            return True
        base = section.map_base
        page = self._kernel.geometry.struct_page_size
        struct = self._target.struct("page")
        if base is None or struct is None:
            return False
        record = self._kernel.memory.record(struct, base + pfn * page)
        bit = self._number("PG_hwpoison")
        if bit is not None and record["flags"] >> bit & 1:
            return True
        return self._is_offline_type(record["_mapcount"])

    def _is_offline_type(self, word: int) -> bool:
        """``PageOffline``, of the word that holds a page's type or its mapcount."""
        value = self._target.enumerators("pagetype").get("PGTY_offline")
        if value is not None:
            return word >> 24 == value
        number = self._number("PAGE_OFFLINE_MAPCOUNT_VALUE")
        if number is None:
            return False
        number &= 0xFFFFFFFF
        if not number & 0xFFFFFF:  # a type in the top byte, since 6.12
            return word >> 24 == number >> 24
        bit = ~number & 0xFFFFFFFF
        return word & (TYPE_BASE | bit) == TYPE_BASE

    def _number(self, name: str) -> int | None:
        found = self._target.enumerator(name)
        if found is not None:
            return found
        text = self._target.vmcoreinfo.get(f"NUMBER({name})")
        return None if text is None else int(text, 0)
