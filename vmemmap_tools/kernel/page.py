# SPDX-License-Identifier: LGPL-2.1-or-later
"""One struct page, decoded."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Page"]

MASK_64 = (1 << 64) - 1


@dataclass(frozen=True)
class Page:
    """One struct page as it stands in memory. ``head_va`` is its true compound head."""

    pfn: int
    va: int
    data: bytes
    flags: int
    compound_word: int
    refcount: int
    mapcount_word: int
    head_va: int
    is_fake_head: bool

    @property
    def is_tail(self) -> bool:
        return self.head_va != self.va

    @property
    def is_poisoned(self) -> bool:
        """All ones: ``PagePoisoned``, never initialised."""
        return self.flags == MASK_64
