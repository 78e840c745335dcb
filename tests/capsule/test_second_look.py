# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running kernel is looked at twice: what has changed in between is counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.image_target import image_target
from tests.model.kernels import GIB, varied
from vmemmap_tools.capsule import Capsule, capture
from vmemmap_tools.cli.capsule import _ask, _notes
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.image import Image

from .altered import Altered

PAGE = 4096
DAX_PFN = 12 * GIB // PAGE + 0x1234
MARK = b"something else".ljust(PAGE, b"!")
PFN = 0x10000
"""Of the first of the struct pages whose words are read."""
STRUCT_PAGES = 64
FLAGS, MAPPING = 0, 0x18
"""Offsets in this kernel's struct page."""


@pytest.fixture(scope="module")
def image() -> Image:
    return varied("7.3").image()


@pytest.fixture
def target(image: Image) -> Altered:
    return Altered(image_target(image))


@pytest.fixture(scope="module")
def frame(image: Image) -> int:
    """The frame of the struct pages from `PFN` on."""
    kernel = Kernel(image_target(image))
    return kernel.vmemmap.frame(kernel.pages.vmemmap_page(PFN))


def test_the_second_look_counts_what_goes_in_alone(target: Altered) -> None:
    def ask(kernel: Kernel) -> None:
        kernel.memory.read_physical(DAX_PFN * PAGE, PAGE)
        section = next(iter(kernel.sections))
        kernel.sections.subsection_map(section)
        place = kernel.page_table.translate(section.usage_va)
        assert place is not None
        for pfn in (place.pa // PAGE, DAX_PFN):
            target.changed[pfn] = MARK

    capsule = capture(target, ask)
    assert DAX_PFN in capsule.withheld
    assert capsule.changed["mem_section_usage"] >= 1
    assert not capsule.changed["page tables"]


def words_change(target: Altered, frame: int, at: Iterator[int]) -> Capsule:
    """A capsule of two words of each struct page; bytes change after the first look."""

    def ask(kernel: Kernel) -> None:
        before = kernel.pages.read_words(PFN, STRUCT_PAGES, (FLAGS, MAPPING))
        page = bytearray(target.read_physical(frame * PAGE, PAGE))
        for place in at:
            page[place] ^= 0xFF
        target.changed[frame] = bytes(page)
        again = kernel.pages.read_words(PFN, STRUCT_PAGES, (FLAGS, MAPPING))
        assert [again[at::64] for at in (FLAGS, MAPPING)] == [
            before[at::64] for at in (FLAGS, MAPPING)
        ]

    return capture(target, ask)


def test_words_of_struct_pages_are_looked_at_again(target: Altered, frame: int) -> None:
    places = [64 * number + FLAGS for number in (0, 5, 63)] + [64 * 5 + MAPPING + 7]
    capsule = words_change(target, frame, iter(places))
    assert capsule.changed_words == len(places)
    assert capsule.totals["words_changed_while_captured"] == len(places)
    said = [note for note in _notes(capsule) if "words" in note]
    assert said == ["4 words of struct pages changed while they were captured"]


def test_other_words_of_these_struct_pages_may_change(
    target: Altered, frame: int
) -> None:
    capsule = words_change(target, frame, (64 * n + 8 for n in range(STRUCT_PAGES)))
    assert capsule.changed_words == 0 and not capsule.changed


def test_words_that_are_lost_have_changed(target: Altered, frame: int) -> None:
    def ask(kernel: Kernel) -> None:
        kernel.pages.read_words(PFN, STRUCT_PAGES, (FLAGS, MAPPING))
        target.lost = frame

    assert capture(target, ask).changed_words == 2 * STRUCT_PAGES


def test_a_kernel_at_rest_has_not_changed(target: Altered) -> None:
    capsule = capture(target, _ask)
    assert len(capsule.store.words) > 10_000
    assert capsule.changed_words == 0 and not capsule.changed
