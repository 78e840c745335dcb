# SPDX-License-Identifier: LGPL-2.1-or-later
"""Machines that several tests of analysis ask about."""

from __future__ import annotations

from tests.fakes.devices import add_pgmap, share_compounds
from tests.fakes.machine import DEVICE, NORMAL, SECTION_PAGES, Machine
from tests.fakes.pools import FREED, OPTIMIZED, add_folio, add_pool, add_tail_page

__all__ = ["DAX_END", "DAX_START", "busy", "dax"]

DAX_START, DAX_END = 0x100000, 0x110000
"""Two whole sections: 32 and 33."""


def dax(
    like: str = "7.3",
    start: int = DAX_START,
    end: int = DAX_END,
    shift: int = 9,
    *,
    form: str | None = "D1",
    state: str = "PM",
    altmap: tuple[int, int, int, int] | None = None,
    **section: int,
) -> Machine:
    """Device memory in form D1, D2 or not deduplicated (None)."""
    m = Machine(like)
    for nr in range(start // SECTION_PAGES, -(-end // SECTION_PAGES)):
        m.add_section(nr, state)
        m.sections[nr].update(section)
    m.set_zone(0, DEVICE, start, end - start)
    add_pgmap(m, start, end, shift, altmap=altmap)
    if form:
        tail = add_tail_page(m, 0, DEVICE, shift) if form == "D2" else None
        share_compounds(m, start, end, shift, tail_frame=tail)
    return m


def busy() -> Machine:
    """A 7.3 with everything: a huge-leaf section, folios of both kinds, DAX in D1.

    Sections 0 (huge leaf), 1 (folios: two optimised, one not), 32 and 33 (DAX).
    """
    m = dax("7.3")
    m.add_section(0, leaf="huge")
    m.add_section(1)
    m.set_zone(0, NORMAL, 0, 2 * SECTION_PAGES)
    add_pool(m, 9, [3, 0], free=1)
    tail = add_tail_page(m, 0, NORMAL, 9)
    add_folio(m, 0x8000, 9, "zone", tail_frame=tail, private=OPTIMIZED | FREED)
    add_folio(m, 0x8200, 9, "zone", tail_frame=tail)
    add_folio(m, 0x8400, 9, "private")
    m.add_counters(256, 1008)
    m.target.define_int("vmemmap_optimize_enabled", 1, 1)
    return m
