# SPDX-License-Identifier: LGPL-2.1-or-later
"""`page` on a capsule answers about every page of folios and of devices.

The capsules are made as if all of them came after the ones whose struct pages are
whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.commands.asking import ask
from tests.model.image_target import image_target
from tests.model.kernels import varied
from vmemmap_tools.capsule import capture, write_elf
from vmemmap_tools.cli import capsule as door
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_dump

Both = tuple[Kernel, Kernel]
PLACES = (0, 1, 3, 4, 5, 63, 64, 65, 68, 128, 200, 511)


def _one_of_each(kernel: Kernel) -> Iterator[int]:
    yield next(iter(kernel.hugetlb.for_each_folio())).pfn
    yield next(iter(kernel.pgmaps)).ranges[0][0]


@pytest.fixture(scope="module", params=["6.1", "7.3"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    """(original, capsule)"""
    path = tmp_path_factory.mktemp("any") / "capsule"
    image = varied(request.param).image()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door, "_interesting", _one_of_each)
        with open(path, "w+b") as file:
            write_elf(capture(image_target(image), door._ask), file)
    yield Kernel(image_target(image)), Kernel(open_dump(str(path)))


def answers(kernels: Both, pfns: set[int]) -> tuple[list[Any], list[Any]]:
    words = [f"pfn:{pfn}" for pfn in sorted(pfns)]
    original, ours = (ask(kernel, "page", *words)["rows"] for kernel in kernels)
    assert all(row["struct_page"] is not None for row in original)
    return original, ours


def test_any_page_of_a_folio_is_told(both: Both) -> None:
    folios = ask(both[0], "hvo", "--folios")["rows"]
    assert {row["optimised"] for row in folios} == {True, False}
    pfns = {row["pfn"] + at for row in folios for at in PLACES}
    pfns |= {row["pfn"] + (1 << row["order"]) - 1 for row in folios}
    original, ours = answers(both, pfns)
    assert ours == original


def test_any_page_of_a_device_is_told(both: Both) -> None:
    ranges = ask(both[0], "dax")["rows"]
    assert {row["vmemmap_shift"] > 0 for row in ranges} >= {False}
    pfns: set[int] = set()
    for row in ranges:
        start, end = row["start_pfn"], row["end_pfn"]
        pfns |= {start + at for at in PLACES} | set(range(start, end, 16385))
    original, ours = answers(both, pfns)
    told = [row for row in original if not row["dax"]["in_altmap"]]
    assert len(told) > len(ranges)
    assert [row for row in ours if not row["dax"]["in_altmap"]] == told
