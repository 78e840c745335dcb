# SPDX-License-Identifier: LGPL-2.1-or-later
"""page_ext: tables beside the memmap, which the memmap counters count as well.

Mirrors ``mm/page_ext.c``: a section that has a table keeps its pointer in
``mem_section.page_ext``.
"""

from __future__ import annotations

from ..target.base import Target
from .sections import Sections

__all__ = ["page_ext_pages"]


def page_ext_pages(target: Target, sections: Sections) -> int | None:
    """Pages of all sections' page_ext tables; None when that cannot be told."""
    if "page_ext" not in sections.struct:
        return 0
    size = target.unsigned("page_ext_size")
    if size is None:
        return None
    g = sections.geometry
    table = -(-g.pages_per_section * size // g.page_size)
    return table * sum(1 for section in sections if section.page_ext_va)
