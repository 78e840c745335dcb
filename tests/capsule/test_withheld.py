# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must not go into a capsule: users' memory, and what lies beside a structure.

Frames that only a damaged pointer could lead to are read on purpose, and every byte of
the machine that a capsule has no need of is marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import drgn
import pytest

from tests.model.image_target import image_target
from tests.model.kernels import GIB, varied
from vmemmap_tools.capsule import Capsule, capture, write_elf, write_kdump_file
from vmemmap_tools.cli.capsule import _ask
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.kernel.pages import Page
from vmemmap_tools.model.image import Image

from .altered import Altered

PAGE = 4096
MARK = b"payload of a user"
DAX_PFN = 12 * GIB // PAGE + 0x1234


@pytest.fixture(scope="module")
def image() -> Image:
    return varied("7.3").image()


@pytest.fixture(scope="module")
def kernel(image: Image) -> Kernel:
    return Kernel(image_target(image))


def led_to(target: Any, *pfns: int) -> Capsule:
    """A capsule of a kernel whose page tables lead to these frames."""

    def ask(kernel: Kernel) -> None:
        for pfn in pfns:
            kernel.memory.read_physical(pfn * PAGE, PAGE)

    return capture(target, ask)


def first(kernel: Kernel, is_wanted: Callable[[Page], object]) -> int:
    """The first page that is wanted by its struct page; of every 64th."""
    pages, per_section = kernel.pages, kernel.geometry.pages_per_section
    return next(
        pfn
        for section in kernel.sections
        for pfn in range(section.start_pfn, section.start_pfn + per_section, 64)
        if not (page := pages.page(pfn)).is_poisoned and is_wanted(page)
    )


def users_frames(kernel: Kernel) -> Iterator[tuple[str, int]]:
    yield "it is memory of a device", DAX_PFN
    on_a_list = first(kernel, lambda page: kernel.pages.has_flag(page, "PG_lru"))
    yield "its struct page says that it is on an LRU list", on_a_list
    folio = next(iter(kernel.hugetlb.folios()))
    yield "its struct page says that it is hugetlb", folio.pfn
    yield "its struct page says that it is hugetlb", folio.pfn + 5


def test_users_frames_are_withheld_and_named(image: Image, kernel: Kernel) -> None:
    expected = {pfn: why for why, pfn in users_frames(kernel)}
    capsule = led_to(image_target(image), *expected)
    assert {pfn: capsule.withheld.get(pfn) for pfn in expected} == expected
    assert not any(capsule.store.pieces(pfn) for pfn in expected)


def test_a_frame_of_which_nothing_is_known_is_withheld(
    image: Image, kernel: Kernel
) -> None:
    pfn = 0x2000
    backing = kernel.vmemmap.frame(kernel.pages.vmemmap_page(pfn))
    capsule = led_to(Altered(image_target(image), lost=backing), pfn)
    assert "cannot be read" in capsule.withheld[pfn]
    assert not capsule.store.pieces(pfn)


def search(capsule: Capsule, folder: Path) -> list[str]:
    """The forms of a capsule in whose bytes a mark is found."""
    with open(folder / "elf", "w+b") as file:
        write_elf(capsule, file)
    found = ["elf"] if MARK in (folder / "elf").read_bytes() else []
    with open(folder / "kdump", "w+b") as file:
        write_kdump_file(capsule, file)
    prog = drgn.Program()
    prog.set_core_dump(folder / "kdump")
    pages = (prog.read(p * PAGE, PAGE, physical=True) for p in capsule.store.frames())
    return [*found, "kdump"] if any(MARK in page for page in pages) else found


def test_what_lies_beside_a_structure_stays_out(
    image: Image, kernel: Kernel, tmp_path: Path
) -> None:
    pfn = first(kernel, lambda page: kernel.pages.type_name(page) == "slab")
    target = Altered(image_target(image))
    page = MARK * (PAGE // len(MARK) + 1)
    target.changed[pfn] = page[:256] + bytes(64) + page[320:PAGE]
    slide = led_to(image_target(image)).slide

    def ask(kernel: Kernel) -> None:
        assert kernel.memory.read(pfn * PAGE + slide + 256, 64) == bytes(64)

    capsule = capture(target, ask)
    assert capsule.store.pieces(pfn) == [(256, bytes(64))]
    assert search(capsule, tmp_path) == []


def mark(image: Image, capsule: Capsule) -> Image:
    """The image with every byte marked that its capsule does not hold.

    Beside what is carried these are the frames around, and a sample of all others.
    """
    marked = image.memory
    text = MARK * (PAGE // len(MARK) + 1)
    carried = set(capsule.store.frames())
    others = {pfn + step for pfn in carried for step in (-1, 1)}
    others |= {DAX_PFN, *range(0x1000, 0x80000, 997)}
    words = set(capsule.store.words.frames())
    ranges = [(start // PAGE, end // PAGE) for start, end in marked.ranges]
    for pfn in others - carried - words:
        if any(start <= pfn < end for start, end in ranges):
            marked.write(pfn * PAGE, text[:PAGE])
    for pfn in carried - words:
        page = bytearray(text[:PAGE])
        for start, data in capsule.store.pieces(pfn):
            page[start : start + len(data)] = data
        marked.write(pfn * PAGE, bytes(page))
    return image


@pytest.mark.parametrize("struct_pages", [True, False])
def test_nothing_that_is_marked_goes_in(tmp_path: Path, struct_pages: bool) -> None:
    image = varied("7.3").image()
    whole = capture(image_target(image), _ask)
    beside = set(whole.store.frames()) - set(whole.store.words.frames())
    kinds = {kind for pfn in beside for kind in whole.store.kinds(pfn)}
    assert kinds >= {"hstate", "dev_pagemap", "pglist_data", "mem_section_usage"}
    mark(image, whole)
    capsule = capture(image_target(image), _ask, struct_pages)
    assert capsule.store.size > 10_000
    assert search(capsule, tmp_path) == []
