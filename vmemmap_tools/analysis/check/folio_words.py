# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rule F5 asks of a hugetlb folio's struct pages besides the way to the head.

Whatever freeing a folio looks at must stand there, or the folio is lost ("Bad page
state"); a free one must be as ``free_huge_folio()`` leaves it. Words that nothing reads
in a hugetlb folio are not judged, nor those that may hold anything while it is in use.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from ...kernel.hugetlb import Folio
from ...kernel.pages import PAGES_OF_FOLIO_HEAD
from ...target.base import ByteOrder, Struct
from .clones import has_restored_clones
from .context import Context
from .findings import Place, Violation, hexed
from .known import BOOT_TAIL_REFCOUNT, RESTORE_COPIES_HEAD
from .tail_words import (
    TAIL_MAPPING,
    Member,
    by_word,
    difference,
    first_tail_members,
    flags_mask,
    tail_members,
    wrong_members,
)

__all__ = ["FolioWords"]

NEVER_ON_HUGETLB = (
    "PG_lru",
    "PG_slab",
    "PG_reserved",
    "PG_writeback",
    "PG_unevictable",
    "PG_mlocked",
)
CGROUPS = ("_hugetlb_cgroup", "_hugetlb_cgroup_rsvd")
MAX_SHOWN = 4
PARTS = ((1, 2), (2, PAGES_OF_FOLIO_HEAD), (PAGES_OF_FOLIO_HEAD, 1 << 63))
"""Tails that hold alike: behind the head, below the rest of a folio, the others."""
Checks = tuple[list[Member], list[Member]]
"""Members, and the same by word."""


class FolioWords:
    """The words of hugetlb folios, and what must stand in them."""

    def __init__(self, context: Context):
        self._context = context
        self._size = context.kernel.pages.size
        self._order = context.kernel.target.byteorder
        self._tails: dict[tuple[int, int, bool], tuple[Checks, ...]] = {}
        self._offsets: dict[int, list[int]] = {}
        self._sound: dict[int, bytes] = {}
        """The last tails that were as they should be: many folios have the same."""
        self._most = _buddy_order(context)
        self._head = _head_members(context)
        self._free = _free_members(context)
        self._unwritten = _unwritten_members(context)
        self._counts = _count_members(context)
        head, free = self._head, (self._free, self._free_without_cgroups)
        self._usual_heads = [
            [_Words(head, self._order)],
            [_Words([*head, *members], self._order) for members in free],
        ]

    @property
    def _free_without_cgroups(self) -> list[Member]:
        """What the head of a free folio holds in a kernel without CGROUP_HUGETLB."""
        kept = [m for m in self._free if m.name not in CGROUPS]
        return [*kept, *self._unwritten] if self._unwritten else self._free

    def offsets_of(self, folio: Folio) -> list[int]:
        """Of which words of its tails `judge` asks."""
        checks = self._checks_of(folio)
        if id(checks) not in self._offsets:
            offsets = {word.offset for _, words in checks for word in words}
            self._offsets[id(checks)] = sorted(offsets)
        return self._offsets[id(checks)]

    def judge(self, folio: Folio, index: int, data: bytes) -> Iterator[Violation]:
        """Struct pages of a folio, from its ``index``-th on.

        Those of the head are whole; of the others the words at `offsets_of` will do.
        """
        if index == 0:
            yield from self._judge_head(folio, data)
        size = self._size
        for (low, high), checks in zip(PARTS, self._checks_of(folio)):
            start = max(low, index)
            part = data[(start - index) * size : max(0, high - index) * size]
            yield from self._judge_tails(folio, start, part, checks)

    def _checks_of(self, folio: Folio) -> tuple[Checks, ...]:
        """What the tails of each of `PARTS` hold.

        Gigantic folios are made and broken up by functions of their own
        (``destroy_compound_gigantic_page()``), which do not look at ``mapping``: up to
        6.x it is zero there.
        """
        is_gigantic = folio.order > self._most
        key = folio.node, folio.zone_index, is_gigantic
        if key not in self._tails:
            others = tail_members(self._context, folio.node, folio.zone_index)
            if is_gigantic:
                others = [m for m in others if m.name != "mapping"]
            first = [
                first_tail_members(self._context, *key[:2], is_second)
                for is_second in (True, False)
            ]
            self._tails[key] = tuple(map(self._checks, (*first, others)))
        return self._tails[key]

    def _checks(self, members: list[Member]) -> Checks:
        return members, by_word(members, self._order)

    def _judge_tails(
        self, folio: Folio, index: int, data: bytes, checks: Checks
    ) -> Iterator[Violation]:
        if not data or data == self._sound.get(id(checks)):
            return
        wrong = wrong_members(self._context, data, *checks)
        if not wrong:
            self._sound[id(checks)] = data
            return
        pages = self._context.kernel.pages
        numbers = sorted({i for some in wrong.values() for i in some})
        first = folio.pfn + index + numbers[0]
        by_name = {m.name: m for m in checks[0] if m.name in wrong}
        found = {
            name: f"{by_name[name].of(data, some[0] * self._size, self._order):#x}"
            for name, some in wrong.items()
        }
        differences = "; ".join(
            difference(
                name,
                (m.of(data, i * self._size, self._order) & m.mask for i in wrong[name]),
                m.value,
            )
            for name, m in by_name.items()
        )
        known = None
        if found == {"_refcount": "0x1"} and self._context.has_zone_tails:
            # Copied from a boot-time tail page when the folio was restored.
            known = BOOT_TAIL_REFCOUNT
        elif has_restored_clones(self._context):
            known = RESTORE_COPIES_HEAD
        yield Violation(
            Place("folio", folio.pfn),
            f"damaged tails: {', '.join(wrong)}",
            f"{len(numbers)} tails of the hugetlb folio of order {folio.order} at pfn "
            f"{folio.pfn:#x}, the first at pfn {first:#x}, have {differences}",
            {n: f"{m.value:#x} of {m.mask:#x}" for n, m in by_name.items()},
            found,
            {
                **hexed(page_va=pages.va(first)),
                "pfns": [folio.pfn + index + i for i in numbers[:MAX_SHOWN]],
                "struct_pages": len(numbers),
            },
            known_issue=known,
        )

    def _judge_head(self, folio: Folio, data: bytes) -> Iterator[Violation]:
        context, order = self._context, self._order
        is_free = bool(context.hpg(folio, "freed"))
        count = self._counts[0].of(data, 0, order) if self._counts else 0
        is_usual = any(words.fit(data) for words in self._usual_heads[is_free])
        if count in (0, 1 << folio.order) and is_usual:
            return
        members = [*self._head, *self._free] if is_free else self._head
        if any(not m.is_wrong_in(data, 0, order) for m in self._unwritten):
            members = [m for m in members if m.name not in CGROUPS]
        expected = {m.name: m.value for m in members}
        wrong = {
            m.name: m.of(data, 0, order)
            for m in members
            if m.is_wrong_in(data, 0, order)
        }
        for m in self._counts:
            if m.is_wrong_in(data, 0, order) and m.of(data, 0, order) != (
                1 << folio.order
            ):
                wrong[m.name], expected[m.name] = m.of(data, 0, order), 1 << folio.order
        if not wrong:
            return
        yield Violation(
            Place("folio", folio.pfn),
            f"damaged {'free' if is_free else 'used'} head: {', '.join(wrong)}",
            f"the head of the {'free ' if is_free else ''}hugetlb folio of order "
            f"{folio.order} at pfn {folio.pfn:#x} has {', '.join(wrong)} as no such "
            "head can have",
            {name: f"{expected[name]:#x}" for name in wrong},
            {name: f"{value:#x}" for name, value in wrong.items()},
            {
                **hexed(head_va=context.kernel.pages.va(folio.pfn)),
                "flags": context.kernel.hugetlb.flag_names(folio),
            },
        )


class _Words:
    """Members of a head, compared word by word: nearly every head is as it should."""

    def __init__(self, members: list[Member], byteorder: ByteOrder):
        words = by_word(members, byteorder)
        count = max((word.offset // 8 for word in words), default=-1) + 1
        self._format = f"{'<' if byteorder == 'little' else '>'}{count}Q"
        self._size = 8 * count
        self._words = [(w.offset // 8, w.mask, w.value) for w in words]

    def fit(self, data: bytes) -> bool:
        """Whether all members have their value."""
        if len(data) < self._size:
            return False  # a damaged pool may have any order
        found = unpack_from(self._format, data)
        return all([found[i] & mask == value for i, mask, value in self._words])


def _buddy_order(context: Context) -> int:
    """``MAX_PAGE_ORDER``: the largest order of the buddy allocator."""
    zone = context.kernel.target.struct("zone")
    if zone is not None and "free_area" in zone and zone["free_area"].length:
        return (zone["free_area"].length or 0) - 1
    return context.geometry.arch.huge_page_order + 1


def _head_members(context: Context) -> list[Member]:
    """What no head of a hugetlb folio may have: flags of other pages, unknown HPG_*."""
    pages, bits = context.kernel.pages, context.kernel.hugetlb.flag_bits.values()
    members = [
        Member(
            "flags",
            pages.flags_offset,
            8,
            flags_mask(context, NEVER_ON_HUGETLB),
            pages.head_bit,
        )
    ]
    if bits:
        unknown = (1 << 64) - (1 << max(bits) + 1)
        members.append(Member("private", pages.private_offset, 8, unknown, 0))
    return members


def _free_members(context: Context) -> list[Member]:
    """What ``free_huge_folio()`` leaves in the head of a free folio."""
    pages, folio = context.kernel.pages.struct, context.kernel.target.struct("folio")
    members = []
    for struct, name, value in (
        (pages, "_refcount", 0),
        (pages, "mapping", 0),
        (pages, "memcg_data", 0),
        (folio, "_entire_mapcount", -1),
        (folio, "_large_mapcount", -1),
        (folio, "_pincount", 0),
        (folio, "_hugetlb_subpool", 0),
        *((folio, name, 0) for name in CGROUPS),
    ):
        if struct is not None and name in struct:
            members.append(_member(struct, name, value))
    return members


def _unwritten_members(context: Context) -> list[Member]:
    """What stands for the cgroup of a folio in a kernel without CGROUP_HUGETLB.

    ``set_hugetlb_cgroup()`` does nothing there: it is the ``mapping`` of a tail still,
    and the next word is what the page before it left behind.
    """
    pages, folio = context.kernel.pages, context.kernel.target.struct("folio")
    if folio is None or not all(name in folio for name in CGROUPS):
        return []
    if "mapping" not in pages.struct or folio.offset(
        CGROUPS[0]
    ) % pages.size != pages.struct.offset("mapping"):
        return []
    mapping = TAIL_MAPPING + context.geometry.arch.illegal_pointer
    return [_member(folio, CGROUPS[0], mapping)]


def _count_members(context: Context) -> list[Member]:
    """Where a head keeps the number of its pages, besides its order."""
    folio, pages = context.kernel.target.struct("folio"), context.kernel.pages
    for name in ("_nr_pages", "_folio_nr_pages"):
        if folio is not None and name in folio:
            return [_member(folio, name, 0)]
    if "compound_nr" in pages.struct:
        m = _member(pages.struct, "compound_nr", 0)
        return [Member(m.name, m.offset + pages.size, m.size, m.mask, m.value)]
    return []


def _member(struct: Struct, name: str, value: int) -> Member:
    m = struct[name]
    full = (1 << 8 * m.size) - 1
    return Member(name, m.offset, m.size, full, value & full)
