# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on the real dumps: verbs as the command line, `lx-*` as the guest and QEMU."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property

import pytest

from tests.gdb_door.door import ask
from tests.gdb_door.runner import Answer, Gdb, find_gdb
from tests.target.gdb.cores import without_sources

from .compare import Compare
from .dumps import Dump
from .runs import Run
from .truth import Truth
from .walk import STRUCT_PAGE, QemuWalk

VERBS = (
    "info",
    "summary",
    "sections",
    "zones --all",
    "hvo",
    "hvo --folios",
    "dax",
    "page pfn:0x150000",
    "walk vmemmap_base",
    "check --quick",
)
PFNS = (0x1, 0x200, 0x12345, 0x150000, 0x1A0300, 0x27FFFF)
"""Base pages, 2M and 1G leaves of the direct map, on both nodes and on a device."""
MODULES_VA = 0xFFFFFFFFC0000000
OFFSET = 0x468
LINE = re.compile(r"(\w+)\((0x[0-9a-f]+|\d+)\) = (0x[0-9a-f]+|\d+)\n")


class Judge:
    """What each lx-* command has to print, from QEMU's walk and the guest."""

    def __init__(self, walk: QemuWalk, truth: Truth) -> None:
        self._walk = walk
        self._truth = truth

    @cached_property
    def addresses(self) -> dict[str, int]:
        """One kernel address of each area, by the area's name."""
        walk = self._walk
        found = {
            f"direct map of pfn {pfn:#x}": walk.direct_map + (pfn << 12) + OFFSET
            for pfn in PFNS
        }
        found["kernel text"] = self._truth.kallsyms["_stext"]
        found["kernel data"] = self._truth.kallsyms["vmemmap_base"]
        found["vmemmap"] = walk.vmemmap[-1].va + OFFSET
        end = self._truth.kallsyms["_end"]
        outside = [x.va for x in walk.leaves if end <= x.va < MODULES_VA + (1 << 30)]
        found.update({f"behind the image at {va:#x}": va for va in outside[-1:]})
        found.update(
            (f"vmalloc at {x.va:#x}", x.va + OFFSET)
            for x in [x for x in walk.leaves if self._is_vmalloc(x.va)][:1]
        )
        return found

    def _is_vmalloc(self, va: int) -> bool:
        start = self._walk.variable("vmalloc_base")
        return start <= va < self._walk.vmemmap_base

    def _has_struct_page(self, pa: int) -> bool:
        """Whether the vmemmap is mapped where this page's struct page would be."""
        try:
            self._walk.translate(self._walk.vmemmap_base + (pa >> 12) * STRUCT_PAGE)
        except KeyError:
            return False
        return True

    def lines(self) -> Iterator[tuple[str, str]]:
        """(command, what it has to print)"""
        base, direct = self._walk.vmemmap_base, self._walk.direct_map
        for pfn in PFNS:
            page, pa, va = base + pfn * STRUCT_PAGE, pfn << 12, direct + (pfn << 12)
            yield f"lx-pfn_to_page {pfn}", f"pfn_to_page({pfn:#x}) = {page:#x}\n"
            yield f"lx-page_to_pfn {page:x}", f"page_to_pfn({page:#x}) = {pfn:#x}\n"
            yield f"lx-page_to_phys {page:#x}", f"page_to_phys({page:#x}) = {pa:#x}\n"
            yield f"lx-page_address {page:x}", f"page_address({page:#x}) = {va:#x}\n"
            yield f"lx-pfn_to_kaddr {pfn}", f"pfn_to_kaddr({pfn}) = {va:#x}\n"
        for va in self.addresses.values():
            pa = self._walk.translate(va).pa
            page = base + (pa >> 12) * STRUCT_PAGE
            yield f"lx-virt_to_phys {va:x}", f"virt_to_phys({va:#x}) = {pa:#x}\n"
            if self._has_struct_page(pa):
                expected = f"virt_to_page({va:#x}) = {page:#x}\n"
                yield f"lx-virt_to_page {va:#x}", expected
            yield f"lx-sym_to_pfn {va:x}", f"sym_to_pfn({va:#x}) = {pa >> 12}\n"
        for name in ("init_top_pgt", "_text", "vmemmap_base"):
            va = self._truth.kallsyms[name]
            pfn = self._walk.translate(va).pa >> 12
            yield f"lx-sym_to_pfn {name}", f"sym_to_pfn({va:#x}) = {pfn}\n"
            yield f"lx-sym_to_pfn &{name}", f"sym_to_pfn({va:#x}) = {pfn}\n"

    def refused(self) -> Iterator[str]:
        """Questions without an answer."""
        base = self._walk.vmemmap_base
        for va in self.addresses.values():
            if not self._has_struct_page(self._walk.translate(va).pa):
                yield f"lx-virt_to_page {va:x}"
        yield f"lx-virt_to_phys {self._walk.hole():x}"
        yield "lx-virt_to_phys 401000"
        yield "lx-page_to_pfn 1234"
        yield f"lx-page_to_pfn {base + 65:x}"
        yield f"lx-page_address {self._walk.direct_map:x}"
        yield "lx-pfn_to_page 99999999999"
        yield f"lx-pfn_to_kaddr {1 << 33}"


class Session:
    """All that gdb is asked about a run, in one session."""

    def __init__(self, gdb: Gdb, run: Run, judge: Judge) -> None:
        self.lines = list(judge.lines())
        self.refused = list(judge.refused())
        commands = [
            *(f"vmemmap --format json {verb}" for verb in VERBS),
            *(command for command, _ in self.lines),
            *self.refused,
        ]
        found = ask(gdb, run.elf, run.vmlinux, *commands, timeout=900)
        self.answers: dict[str, Answer] = dict(zip(commands, found))


@pytest.fixture(scope="session")
def judge(walk: QemuWalk, truth: Truth) -> Judge:
    return Judge(walk, truth)


@pytest.fixture(scope="session")
def session(run: Run, judge: Judge) -> Session:
    return Session(find_gdb("distribution"), run, judge)


@pytest.fixture
def elf(dumps: dict[str, Dump]) -> Dump:
    """The dump that gdb has open, on the command line."""
    return dumps["elf"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_in_gdb_is_the_command_lines(
    session: Session, elf: Dump, compare: Compare, verb: str
) -> None:
    answer = session.answers[f"vmemmap --format json {verb}"]
    assert answer.error is None, answer.error
    ours = without_sources(json.loads(answer.text))
    expected = without_sources(elf.ask_anew(*verb.split()))
    compare.equal(
        f"gdb: {verb} = command line", ours, expected, f"{len(ours['rows'])} rows"
    )


def test_lx_commands_are_qemus_walk_and_the_guests_symbols(
    session: Session, compare: Compare
) -> None:
    for command, expected in session.lines:
        answer = session.answers[command]
        compare.equal(
            f"gdb: {command} = info tlb, kallsyms",
            answer.error or answer.text,
            expected,
            expected.strip(),
        )


def test_lx_commands_refuse_what_has_no_answer(
    session: Session, compare: Compare
) -> None:
    for command in session.refused:
        answer = session.answers[command]
        compare.true(
            f"gdb: {command} is refused",
            answer.error is not None and "\n" not in answer.error,
            str(answer.error),
        )
