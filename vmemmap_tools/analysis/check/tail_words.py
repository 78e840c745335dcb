# SPDX-License-Identifier: LGPL-2.1-or-later
"""The words that every tail of a compound page holds, as data.

Mirrors ``prep_compound_tail()`` of ``mm/internal.h`` and what
``free_tail_page_prepare()`` of ``mm/page_alloc.c`` looks at. Members that only
``__init_single_page()`` decides (list pointers, last_cpupid) are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ...kernel.bit_numbers import bit_numbers
from ...kernel.strided import all_equal, strided_u64

if TYPE_CHECKING:
    from .context import Context

__all__ = [
    "TAIL_MAPPING",
    "Member",
    "by_word",
    "difference",
    "first_tail_members",
    "flags_mask",
    "tail_members",
    "wrong_members",
]

TAIL_MAPPING = 0x400
"""``TAIL_MAPPING`` less POISON_POINTER_DELTA."""
WORD = 8
MAX_SHOWN = 2
"""Values of one member that a sentence names."""

FREED_WITHOUT = (
    "PG_locked",
    "PG_lru",
    "PG_slab",
    "PG_private",
    "PG_private_2",
    "PG_writeback",
    "PG_reserved",
    "PG_active",
    "PG_unevictable",
    "PG_mlocked",
)
"""``PAGE_FLAGS_CHECK_AT_FREE``: flags with which no page may be freed."""
FLAGS_OF_SECOND = (
    "PG_double_map",
    "PG_has_hwpoisoned",
    "PG_hugetlb",
    "PG_large_rmappable",
    "PG_partially_mapped",
)
"""``PAGE_FLAGS_SECOND``, which share bits with others, and the order's byte."""
ORDER_MASK = 0xFF


@dataclass(frozen=True)
class Member:
    """A member: bytes at ``offset`` that, masked, have one value."""

    name: str
    offset: int
    size: int
    mask: int
    value: int

    def is_wrong_in(self, data: bytes, at: int, byteorder: str) -> bool:
        """Whether the struct at ``at`` of these bytes holds something else."""
        return self.of(data, at, byteorder) & self.mask != self.value

    def of(self, data: bytes, at: int, byteorder: str) -> int:
        """The whole member of the struct at ``at`` of these bytes."""
        start = at + self.offset
        raw = data[start : start + self.size]
        return int.from_bytes(raw, "little" if byteorder == "little" else "big")


def flags_mask(context: Context, names: Iterable[str]) -> int:
    """Those of these page flags that the kernel has, and PG_head."""
    bits = bit_numbers(context.kernel.target, "pageflags")
    mask = context.kernel.pages.head_bit
    for name in names:
        if name in bits:
            mask |= 1 << bits[name]
    return mask


def tail_members(
    context: Context, node: int, zone_index: int, extra_flags: Iterable[str] = ()
) -> list[Member]:
    """What every tail in a zone holds, but for its compound word.

    ``extra_flags`` are set in it, of those that are clear in others.
    """
    flags = flags_mask(context, extra_flags) & ~context.kernel.pages.head_bit
    mask = flags_mask(context, FREED_WITHOUT)
    mapping = TAIL_MAPPING + context.geometry.arch.illegal_pointer
    place_mask, place = _place(context, node, zone_index)
    wanted = [
        _member(context, "flags", flags | place, mask | place_mask),
        _member(context, "mapping", mapping),
        _member(context, "_mapcount", 0xFFFFFFFF),
        _member(context, "_refcount", 0),
        _member(context, "memcg_data", 0),
    ]
    return [m for m in wanted if m is not None]


def first_tail_members(
    context: Context, node: int, zone_index: int, is_second: bool
) -> list[Member]:
    """The same of the first tails, over which struct folio keeps members of its own.

    The page behind the head keeps the order and flags of the folio among its flags.
    """
    members = tail_members(context, node, zone_index)
    kept = [m for m in members if m.name in ("flags", "_refcount")]
    if is_second:
        own = flags_mask(context, FLAGS_OF_SECOND) & ~context.kernel.pages.head_bit
        own |= ORDER_MASK & ~context.kernel.pages.head_bit
        kept = [
            replace(m, mask=m.mask & ~own) if m.name == "flags" else m for m in kept
        ]
    return kept


def _place(context: Context, node: int, zone_index: int) -> tuple[int, int]:
    """(mask, value) of node and zone in the flags; nothing unless they are trusted."""
    if not context.flags_trusted:
        return 0, 0
    pages, all_ones = context.kernel.pages, (1 << 64) - 1
    node_shift = 64 - pages.nodes_width
    value = node << node_shift | zone_index << pages.place_shift
    return all_ones & -1 << pages.place_shift, value & all_ones


def _member(
    context: Context, name: str, value: int, mask: int | None = None
) -> Member | None:
    struct = context.kernel.pages.struct
    if name not in struct:
        return None
    m = struct[name]
    full = (1 << 8 * m.size) - 1
    return Member(name, m.offset, m.size, full if mask is None else mask, value)


def by_word(members: Iterable[Member], byteorder: str) -> list[Member]:
    """Members of one 64-bit word put together, so that they are compared at once."""
    words: dict[int, Member] = {}
    for m in members:
        at = m.offset // WORD * WORD
        inside = m.offset - at
        shift = 8 * (inside if byteorder == "little" else WORD - inside - m.size)
        known = words.get(at, Member("", at, WORD, 0, 0))
        name = f"{known.name} {m.name}".strip()
        mask, value = known.mask | m.mask << shift, known.value | m.value << shift
        words[at] = Member(name, at, WORD, mask, value)
    return list(words.values())


def difference(member: str, values: Iterable[int], expected: int) -> str:
    """One member in words: what was found, what was expected."""
    found = sorted(set(values))
    shown = " or ".join(_number(value) for value in found[:MAX_SHOWN])
    more = " or others" if len(found) > MAX_SHOWN else ""
    return f"{member} {shown}{more}, expected {_number(expected)}"


def _number(value: int) -> str:
    return str(value) if value < 10 else f"{value:#x}"


def wrong_members(
    context: Context, data: bytes, members: list[Member], words: list[Member]
) -> dict[str, list[int]]:
    """{member: numbers of the structs in which it is wrong}.

    ``words`` are the same ``members``, `by_word`: nearly always they say that all is
    well, and nothing is looked at one by one.
    """
    size, order = context.kernel.pages.size, context.kernel.target.byteorder
    full = (1 << 64) - 1
    for word in words:
        if word.mask == full:
            is_sound = all_equal(data, word.offset, size, word.value, order)
        else:
            values = set(strided_u64(data, word.offset, size, order))
            is_sound = all(v & word.mask == word.value for v in values)
        if not is_sound:
            break
    else:
        return {}
    wrong: dict[str, list[int]] = {}
    for at in range(0, len(data), size):
        for m in members:
            if m.is_wrong_in(data, at, order):
                wrong.setdefault(m.name, []).append(at // size)
    return wrong
