# SPDX-License-Identifier: LGPL-2.1-or-later
"""``%vmemmap`` prints what the command line prints, byte for byte.

All verbs are asked in one session, one after the other, against a new process's worth
of reading for each on the other side: nothing that a verb has read may change what the
next one says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from tests.drgn_plugin.doors import by_command_line, by_drgn
from tests.model.kernels import GENERATIONS, GIB
from tests.samples import Sample, open_with_drgn
from vmemmap_tools.commands import VERBS
from vmemmap_tools.model.boot import NodeMemory
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.render import CHECK_FORMATS, FORMATS

WORDS = (
    "summary",
    "info",
    "sections",
    "zones --all",
    "page pfn:0x140000 pfn:0x140123 init_mm",
    "walk 0xffffea0005001000",
    "map",
    "hvo",
    "hvo --folios",
    "dax",
    "check",
)
IN_EVERY_FORMAT = ("6.1", "7.3")
"""Generations asked in every format; the others in JSON, which has every fact."""


def formats(generation: str, words: str) -> tuple[str, ...]:
    if generation not in IN_EVERY_FORMAT:
        return ("json",)
    return CHECK_FORMATS if words == "check" else FORMATS


def test_every_verb_is_asked() -> None:
    assert {words.split()[0] for words in WORDS} == set(VERBS)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_answers_of_a_generation(
    generation: str, sample: Callable[[str], Sample]
) -> None:
    dump = sample(f"gen-{generation}")
    prog = dump.program()
    for words in WORDS:
        for name in formats(generation, words):
            asked = f"{words} --format {name}"
            expected = by_command_line(["-c", dump.core, "-s", dump.vmlinux], asked)
            assert by_drgn(prog, asked) == expected, asked
            assert expected[0], asked


def test_a_dump_without_debug_info(sample: Callable[[str], Sample]) -> None:
    core = sample("gen-7.3").core
    prog = open_with_drgn(core)
    for words in ("summary", "info", "sections", "map", "hvo --folios"):
        assert by_drgn(prog, words) == by_command_line(["-c", core], words), words


def test_a_kdump(sample: Callable[[str], Sample]) -> None:
    dump = sample("gen-7.3")
    core = f"{dump.core}.kdump"
    prog = open_with_drgn(core, dump.vmlinux)
    for words in ("summary", "info", "check"):
        expected = by_command_line(["-c", core, "-s", dump.vmlinux], words)
        assert by_drgn(prog, words) == expected, words


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump that names device memory, with its vmemmap, but does not hold it."""
    machine = Machine("7.3", {0: NodeMemory([(0, GIB)])})
    machine.hugetlb_alloc("2M", 8)
    machine.dax_add("dax0", "4G", "256M", altmap=True)
    directory = tmp_path_factory.mktemp("filtered")
    machine.write(directory)
    return directory


def test_what_is_missing_is_counted_for_each_answer(filtered: Path) -> None:
    """Asked twice in one session: an account that grew would differ."""
    core, vmlinux = str(filtered / "vmcore"), str(filtered / "vmlinux")
    prog = open_with_drgn(core, vmlinux)
    for words in 2 * ("dax --format json", "sections --format json", "check"):
        expected = by_command_line(["-c", core, "-s", vmlinux], words)
        assert by_drgn(prog, words) == expected, words
    assert '"outside"' in by_drgn(prog, "dax --format json")[0]
