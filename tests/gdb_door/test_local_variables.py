# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words that are expressions over a frame's variables, as at a breakpoint in a module.

The frame is in a function that a compiler has made and described; its arguments are in
the registers that the dump says. The types that they point to are the vmlinux's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.target.gdb.cores import Modelled, small_machine

from .door import opening
from .module import MODULE_VA, RDI, RIP, RSI, build_module, put_registers
from .runner import Gdb
from .test_docs import NEEDS_A_FRAME

SOURCE = """
struct page;
struct folio;
unsigned long probe(struct page *page, struct folio *folio)
{
    return (unsigned long)page ^ (unsigned long)folio;
}
"""
PAGE_PFN, FOLIO_PFN = 0x123, 0x10000


@dataclass(frozen=True)
class Stopped:
    """Commands that open the dump, and what the two arguments point to."""

    opening: list[str]
    page_va: int
    folio_va: int

    def told(self, gdb: Gdb, *commands: str) -> list[str]:
        answers = gdb.run(*self.opening, *commands)
        for command, answer in zip([*self.opening, *commands], answers):
            assert answer.error is None, f"{command}: {answer.error}"
        return [answer.text for answer in answers[len(self.opening) :]]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A machine whose CPU is in a function of a module."""
    directory = tmp_path_factory.mktemp("module")
    module = build_module(directory, SOURCE)
    modelled = Modelled(small_machine("four-level").image(), directory)
    vmemmap, core = modelled.image.facts["vmemmap"], modelled.core("vmcore")
    page_va, folio_va = (vmemmap + 64 * pfn for pfn in (PAGE_PFN, FOLIO_PFN))
    put_registers(core, {RDI: page_va, RSI: folio_va, RIP: MODULE_VA})
    symbols, open_core, loader = opening(core, modelled.vmlinux)
    load = [symbols, f"add-symbol-file {module}", open_core, loader]
    return Stopped(load, page_va, folio_va)


def pfns(text: str) -> list[int]:
    return [row["pfn"] for row in json.loads(text)["rows"]]


def test_a_word_may_be_a_local_variable(gdb: Gdb, stopped: Stopped) -> None:
    told = stopped.told(
        gdb,
        "vmemmap --format json page page",
        "vmemmap --format json page &folio->page",
        "vmemmap --format json page folio page $rdi &folio->page",
        "vmemmap --format json page (struct page *)$rsi",
        "vmemmap --format json page pfn:$lx_page_to_pfn(page)",
        "vmemmap --format json page &page[1]",
    )
    assert [pfns(text) for text in told] == [
        [PAGE_PFN],
        [FOLIO_PFN],
        [FOLIO_PFN, PAGE_PFN, PAGE_PFN, FOLIO_PFN],
        [FOLIO_PFN],
        [PAGE_PFN],
        [PAGE_PFN + 1],
    ]


def test_conversions_take_them_too(any_gdb: Gdb, stopped: Stopped) -> None:
    page, folio = stopped.page_va, stopped.folio_va
    told = stopped.told(
        any_gdb,
        "lx-page_to_pfn page",
        "lx-page_to_pfn &folio->page",
        "output $lx_page_to_pfn(&folio->page)",
    )
    assert told == [
        f"page_to_pfn({page:#x}) = {PAGE_PFN:#x}\n",
        f"page_to_pfn({folio:#x}) = {FOLIO_PFN:#x}\n",
        str(FOLIO_PFN),
    ]


def test_an_arrow_in_a_word_is_no_redirection(
    any_gdb: Gdb, stopped: Stopped, tmp_path: Path
) -> None:
    _, shown, written = stopped.told(
        any_gdb,
        f"cd {tmp_path}",
        "vmemmap --format json page &folio->page",
        "vmemmap --format json page &folio->page > out",
    )
    assert pfns(shown) == [FOLIO_PFN] and written == ""
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == shown


def test_documented_lines_that_need_a_frame_run(any_gdb: Gdb, stopped: Stopped) -> None:
    assert all(stopped.told(any_gdb, *NEEDS_A_FRAME))
