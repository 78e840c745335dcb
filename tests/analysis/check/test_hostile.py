# SPDX-License-Identifier: LGPL-2.1-or-later
"""Dumps that lie: `check` ends soon, with findings or a refusal, and never a traceback.

Harmless by their nature, and so left out of what has to be detected: the accessed,
dirty and global bits of entries, list pointers and last_cpupid of tail pages, padding,
the bitmap of early sections, and struct pages that belong to no compound page.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.analysis.machines import busy
from tests.commands.test_hostile import DAMAGES, run
from tests.model.kernels import varied
from vmemmap_tools.analysis.check.context import Context, DeviceRange
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.model.faults.find import get_pte
from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.base import TargetError

from .overlay import Bench, find

SECONDS = 15.0
PAGE = 4096


@pytest.fixture(scope="module", params=["6.12", "7.3", "seed"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(varied(request.param))


@pytest.mark.parametrize("name", DAMAGES)
def test_check_ends_with_an_answer_or_a_refusal(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    m = busy()
    m.write_sections()
    DAMAGES[name](m)
    for words in (["check", "--all"], ["check", "--quick"]):
        status, seconds = run(m, words, monkeypatch)
        out, err = capsys.readouterr()
        assert seconds < SECONDS, words
        if status in (0, 1):
            assert err == "", words
            rows = json.loads(out)["rows"]
            assert bool(status) == any(row["severity"] == "E" for row in rows)
        else:
            (line,) = err.splitlines()
            assert status == 2 and "internal error" not in line, (words, line)


@pytest.mark.parametrize("seed", range(12))
def test_random_bytes_anywhere_end_in_findings_or_a_refusal(
    bench: Bench, seed: int
) -> None:
    draw = random.Random(f"bytes {seed}")
    image = bench.machine.image()
    frames = sorted(image.memory._pages)
    for _ in range(draw.choice((1, 4, 40))):
        page = image.memory.page(draw.choice(frames))
        size = draw.choice((1, 8, 64, PAGE))
        at = draw.randrange(PAGE // size) * size
        page[at : at + size] = draw.choice((draw.randbytes(size), b"\xff" * size))
    start = time.process_time()
    with contextlib.suppress(TargetError):  # the kernel cannot be read at all
        find(bench.over(image))
    assert time.process_time() - start < SECONDS


@pytest.mark.parametrize("seed", range(12))
def test_an_entry_that_leads_to_another_frame_is_found(bench: Bench, seed: int) -> None:
    draw = random.Random(f"entry {seed}")
    image = bench.machine.image()
    vmemmap = image.core.vmemmap
    block = draw.choice(sorted(vmemmap.tables))
    mapped = [
        page
        for page in range(block * vmemmap.entries, (block + 1) * vmemmap.entries)
        if get_pte(image, page) & 1
    ]
    page = draw.choice(mapped)
    entry = get_pte(image, page)
    image.write64(image.pte_pa(page), entry ^ draw.choice((1 << 12, 1 << 14, 1 << 20)))
    assert _is_detected(bench.over(image))


@pytest.mark.parametrize("seed", range(8))
def test_a_permission_that_is_turned_over_is_found(bench: Bench, seed: int) -> None:
    draw = random.Random(f"permission {seed}")
    image = bench.machine.image()
    table = bench.machine.hugetlb.table
    optimised = table[table["optimised"]]
    pfn = int(optimised["pfn"][draw.randrange(len(optimised))])
    page = image.core.vmemmap.page_of(pfn) + draw.randrange(8)
    image.write64(image.pte_pa(page), get_pte(image, page) ^ 2)
    assert _is_detected(bench.over(image))


@pytest.mark.parametrize("seed", range(8))
def test_a_bit_of_a_section_word_is_found(bench: Bench, seed: int) -> None:
    draw = random.Random(f"section {seed}")
    image = bench.machine.image()
    nr = draw.choice(sorted(image.core.sections))
    entry = image.sections[nr]
    bit = draw.choice((0, *range(12, 48)))
    entry.set("section_mem_map", entry.get("section_mem_map") ^ 1 << bit)
    assert _is_detected(bench.over(image))


def _is_detected(kernel: Kernel) -> bool:
    return any(f.severity != "I" for f in find(kernel)[1])


@pytest.mark.parametrize("generation", ["5.18", "6.1", "6.12", "7.3", "section-dax"])
@pytest.mark.parametrize("seed", range(3))
def test_healthy_operations_never_make_an_error(generation: str, seed: int) -> None:
    draw = random.Random(f"{generation} {seed}")
    machine = varied(generation)
    for _ in range(20):
        _operate(machine, draw)
    _, findings = find(Bench(machine).healthy())
    assert [f for f in findings if f.severity != "I"] == []


def _operate(machine: Machine, draw: random.Random) -> None:
    count = draw.randrange(1, 9)
    operations = (
        lambda: machine.hugetlb_alloc("2M", count, draw.randrange(2)),
        lambda: machine.hugetlb_free("2M", count),
        lambda: machine.hugetlb_use("2M", 1),
        lambda: machine.hugetlb_demote("1G", 1),
        lambda: machine.set_hvo(draw.random() < 0.7),
        lambda: _toggle_device(machine),
        lambda: machine.memory_use("slab", "64K"),
    )
    # Nothing of the kind may be left, or there is no room.
    with contextlib.suppress(ValueError):
        draw.choice(operations)()


def _toggle_device(machine: Machine) -> None:
    if "dax1" in machine.devices.pgmaps:
        machine.dax_remove("dax1")
    else:
        machine.dax_add("dax1", "14G", "260M", align="2M", namespace=False, dumped=True)


class CountedRanges(list[DeviceRange]):
    """Ranges of device memory, and how many of them were taken to be looked at."""

    taken = 0

    def __iter__(self) -> Iterator[DeviceRange]:
        self.taken += len(self)
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.taken += len(found) if isinstance(index, slice) else 1
        return found


def test_maps_that_name_all_memory_do_not_each_look_at_all_ranges(bench: Bench) -> None:
    kernel = bench.healthy()
    one, *_ = kernel.pgmaps
    maps = [
        replace(one, va=i, ranges=((8 * i, 8 * i + 4), (8 * i + 1, 1 << 40)))
        for i in range(1, 201)
    ]
    ranges = CountedRanges(DeviceRange(p, *p.ranges[0], 0) for p in maps)
    context = Context(kernel)
    context.__dict__["device_ranges"] = ranges
    for pgmap in maps:
        context.map_nodes.of(pgmap)
    assert ranges.taken <= 2 * len(maps)


def test_a_pool_of_an_absurd_order_takes_no_memory() -> None:
    """A shift by the order of a damaged hstate would take half a gigabyte."""
    m = busy()
    m.write_sections()
    m.target.record("hstate", m.pools[0], order=0xFFFFFFFF)
    tracemalloc.start()
    try:
        find(Kernel(m.target))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 64 << 20
