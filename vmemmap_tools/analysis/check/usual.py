# SPDX-License-Identifier: LGPL-2.1-or-later
"""Telling the folios that are as they should be from those that need a look.

A host has half a million optimised folios that are all alike. One test here clears a
folio for several rules at once; what it does not clear they judge one by one.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...kernel.hugetlb import Folio
from ..hvo import OPTIMISED_FLAG

if TYPE_CHECKING:
    from .context import Context

__all__ = ["UsualFolios", "prescribed_layout"]


def prescribed_layout(context: Context) -> str | None:
    """The layout that this kernel gives to an optimised folio."""
    if context.has_zone_tails:
        return "zone-shared"
    if not context.kernel.has("hugetlb-hvo"):
        return None
    return "page1-shared" if context.kernel.kept_pages > 1 else "self-shared"


class UsualFolios:
    """Which hugetlb folios are optimised, flagged and mapped just as this kernel does.

    Of these F1 to F4, F10, F11, Z4 and Z5 have nothing to say.
    """

    def __init__(self, context: Context):
        self._folios = context.folios
        numbers = context.kernel.pages.vmemmap_pages([f.pfn for f in self._folios])
        self.starts = array("Q", [max(0, number) for number in numbers])
        self._usual = bytearray(len(self._folios))
        flag = context.kernel.hugetlb.flag_bits.get(OPTIMISED_FLAG)
        self._mark(context, None if flag is None else 1 << flag)

    def _mark(self, context: Context, flag: int | None) -> None:
        layout, vmemmap = prescribed_layout(context), context.kernel.vmemmap
        tails, shared = context.kernel.tail_frames, vmemmap.frames.shared
        is_readonly, usual = vmemmap.is_readonly, self._usual
        for i, folio in enumerate(self._folios):
            backing = folio.backing
            if backing.layout != layout or backing.tail_readonly is not True:
                continue
            if flag is not None and not folio.private & flag:
                continue
            if layout == "zone-shared":
                tail = tails.get(backing.tail_frame)
                own = tail == (folio.node, folio.zone_index, folio.order)
                own = own and backing.head_frame not in shared
            elif layout == "self-shared":
                own = shared.get(backing.head_frame) == backing.pages
            else:
                own = backing.head_frame not in shared
                own = own and shared.get(backing.tail_frame) == backing.pages - 1
            usual[i] = own and not is_readonly(self.starts[i])

    def others(self) -> Iterator[Folio]:
        """The folios that need a look: not optimised, or not in the usual way."""
        return (f for f, usual in zip(self._folios, self._usual) if not usual)

    def is_usual(self, index: int) -> bool:
        """Whether the folio of this index needs no look."""
        return bool(self._usual[index])

    def uncovered(self, first: int, end: int, index: int) -> list[tuple[int, int]]:
        """The parts of vmemmap pages ``first`` to ``end`` outside usual folios.

        ``index`` is that of the last folio that begins at or before ``first``, -1 if
        there is none.
        """
        parts: list[tuple[int, int]] = []
        position, i = first, max(index, 0)
        starts, folios = self.starts, self._folios
        while i < len(starts) and starts[i] < end:
            if self._usual[i]:
                start, stop = starts[i], starts[i] + folios[i].backing.pages
                if start > position:
                    parts.append((position, start))
                position = max(position, stop)
            i += 1
        if position < end:
            parts.append((position, end))
        return parts
