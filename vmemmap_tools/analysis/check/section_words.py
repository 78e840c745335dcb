# SPDX-License-Identifier: LGPL-2.1-or-later
"""What rule S1 asks of a section besides its flags: its usage structure, its state.

Mirrors ``sparse_init_nid()`` and ``section_deactivate()`` of ``mm/sparse.c`` and
``drivers/base/memory.c``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...kernel.bit_numbers import bit_number
from ...kernel.sections import Section
from ...target.base import Fault
from .context import Context
from .findings import Place, Violation, hexed

__all__ = ["states_agree", "usages_are_sound", "words_are_clear"]

ALIGNMENT = 8
"""``struct mem_section_usage`` holds longs."""


def usages_are_sound(context: Context) -> Iterator[Violation]:
    """Each section's usage can be read, is its own, and lies where it must."""
    if "usage" not in context.kernel.sections.struct:
        return
    used = sorted(
        (s for s in context.kernel.sections if s.has_mem_map and s.usage_va),
        key=lambda s: s.usage_va,
    )
    for section in used:
        wrong = _misplaced(context, section) or _no_usage(context, section)
        if wrong is not None:
            yield _usage(section, "misplaced usage", *wrong)
    size = context.pageblocks.usage_bytes
    for first, second in zip(used, used[1:]):
        if second.usage_va < first.usage_va + size:
            yield _usage(
                second,
                "usage of two sections",
                f"overlaps that of section {first.nr}",
                "a structure of its own",
                {"section": first.nr, "usage_va": f"{first.usage_va:#x}"},
            )


def _misplaced(context: Context, section: Section) -> tuple[str, str, object] | None:
    """(what is wrong, expected, found) of where a usage structure is; None if fine.

    Those of early sections come from memblock, which section_deactivate() tells by
    PageReserved, so as not to free them; such a section may be added again later.
    """
    kernel, va = context.kernel, section.usage_va
    if va % ALIGNMENT:
        return "is not aligned", f"a multiple of {ALIGNMENT}", f"{va:#x}"
    try:
        kernel.memory.read(va, ALIGNMENT)
        translation = kernel.page_table.translate(va)
    except Fault as fault:
        if fault.kind == "unmapped":
            return "is where no memory is", "a structure", f"{va:#x}"
        context.unread(fault, "mem_section_usage")
        return None
    reserved = bit_number(kernel.target, "PG_reserved")
    if translation is None or reserved is None or not section.is_early:
        return None
    if context.is_booting:
        return None  # memblock's pages are marked when the buddy allocator takes over
    frame = translation.pa >> context.geometry.page_shift
    try:
        page = kernel.pages.page(frame)
    except Fault:
        return None  # F12 tells of frames without a struct page, here none backs.
    if page.is_poisoned or page.flags >> reserved & 1:
        return None
    return "is not in boot memory", "PG_reserved", f"{page.flags:#x}"


def _no_usage(context: Context, section: Section) -> tuple[str, str, object] | None:
    """The same of what stands there: pageblock flags that no pageblock has."""
    blocks = context.pageblocks
    if not blocks.is_known:
        return None
    try:
        types = set(blocks.of_section(section))
    except Fault as fault:
        context.unread(fault, "mem_section_usage")
        return None
    unknown = types.difference(blocks.migratetypes.values())
    if not unknown:
        return None
    return "holds migratetypes that there are not", "migratetypes", sorted(unknown)


def _usage(
    section: Section, cause: str, what: str, expected: str, found: object
) -> Violation:
    return Violation(
        Place("section", section.nr),
        cause,
        f"the mem_section_usage of section {section.nr} {what}",
        expected,
        found,
        hexed(section_mem_map=section.word, usage_va=section.usage_va),
    )


def states_agree(context: Context) -> Iterator[Violation]:
    """Sections of system memory are online exactly where their memory block is."""
    kernel, per_section = context.kernel, context.geometry.pages_per_section
    for section in kernel.sections:
        if not section.has_mem_map:
            continue
        end = section.start_pfn + per_section
        if not section.is_early and any(
            context.device_ranges_in(section.start_pfn, end)
        ):
            continue
        try:
            is_online = kernel.sections.block_is_online(section)
        except Fault as fault:
            context.unread(fault, "states of memory blocks")
            continue
        if is_online is None or is_online == section.is_online:
            continue
        yield Violation(
            Place("section", section.nr),
            "online unlike its memory block",
            f"section {section.nr} is {'' if section.is_online else 'not '}marked "
            f"online, but its memory block is {'online' if is_online else 'offline'}",
            "online" if is_online else "offline",
            section.flag_names(),
            hexed(section_mem_map=section.word),
        )


def words_are_clear(context: Context) -> Iterator[Violation]:
    """An entry without a memmap is empty once the kernel runs."""
    for section in context.kernel.sections:
        if section.has_mem_map:
            continue
        yield Violation(
            Place("section", section.nr),
            "remains in an unused section",
            f"section {section.nr} has no memmap, yet its word is not zero",
            "0x0",
            f"{section.word:#x}",
            hexed(section_mem_map=section.word),
            severity="W",
        )
