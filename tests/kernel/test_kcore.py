# SPDX-License-Identifier: LGPL-2.1-or-later
"""Zeros that /proc/kcore returns in place of memory are not taken for its contents."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache

import pytest

from tests.analysis.check.overlay import Bench, Overlay
from tests.model.kernels import small
from vmemmap_tools.analysis.check import Checker
from vmemmap_tools.analysis.check.registry import all_rules
from vmemmap_tools.analysis.explain import explain_page, resolve
from vmemmap_tools.capsule.recorder import RecordedKernel, Recorder
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import Fault

PAGE = 4096
HOSTED = 4 << 30 >> 12
"""First pfn of the block that holds its own vmemmap, and is offline."""
PFN = 0x12345
"""Some pfn of boot memory."""
HWPOISON = 1 << 21
"""PG_hwpoison of 7.3; the kernel of the model's 6.1 has no such flag."""
OFFLINE = {"6.1": 0xFFFFFEFF, "7.3": 0xF1000000}
"""``page_type`` of a page that is logically offline."""


class Kcore(Overlay):
    """A live target that gives zeros for some frames, without an error."""

    def __init__(
        self,
        bench: Bench,
        zeroed: Collection[int],
        changed: dict[int, bytes] | None = None,
        is_kcore: bool = True,
    ):
        zeros = dict.fromkeys(zeroed, bytes(PAGE))
        super().__init__(bench.target, {**(changed or {}), **zeros})
        self.live = True
        self.is_kcore = is_kcore


@cache
def bench_of(generation: str) -> Bench:
    machine = small(generation)
    machine.memory_add("4G", "128M", self_hosted=True, online=False)
    return Bench(machine)


@pytest.fixture(params=["6.1", "7.3"])
def generation(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def bench(generation: str) -> Bench:
    return bench_of(generation)


@pytest.fixture
def new_bench() -> Bench:
    return bench_of("7.3")


def hosted_frames(kernel: Kernel) -> set[int]:
    """Frames behind the vmemmap of the offline block: they are its first ones."""
    pages = range(HOSTED * 64 // PAGE, (HOSTED + 0x8000) * 64 // PAGE)
    return {kernel.vmemmap.frame(number) for number in pages}


def with_word(kernel: Kernel, pfn: int, offset: int, word: bytes) -> dict[int, bytes]:
    """The frame that holds a pfn's struct page, with other bytes in it."""
    frame = kernel.vmemmap.frame(kernel.pages.vmemmap_page(pfn))
    data = bytearray(kernel.memory.read_physical(frame * PAGE, PAGE))
    start = kernel.pages.va(pfn) % PAGE + offset
    data[start : start + len(word)] = word
    return {frame: bytes(data)}


def poisoned(kernel: Kernel, pfn: int) -> dict[int, bytes]:
    flags = kernel.pages.page(pfn).flags | HWPOISON
    return with_word(
        kernel, pfn, kernel.pages.flags_offset, flags.to_bytes(8, "little")
    )


def refusal(kernel: Kernel, frame: int) -> tuple[str, int]:
    with pytest.raises(Fault) as caught:
        kernel.memory.read_physical(frame * PAGE + 64, 64)
    assert caught.value.physical
    return caught.value.kind, caught.value.address


def test_frames_of_an_offline_block_are_left_out(bench: Bench) -> None:
    frames = hosted_frames(bench.healthy())
    assert frames and all(HOSTED <= frame < HOSTED + 0x8000 for frame in frames)
    kernel = Kernel(Kcore(bench, frames))
    for frame in frames:
        assert refusal(kernel, frame) == ("excluded", frame * PAGE + 64)
    with pytest.raises(Fault, match="excluded"):
        kernel.pages.page(HOSTED + 0x4000)


def test_the_vmemmap_of_an_offline_block_is_unread_and_not_uninitialized(
    bench: Bench,
) -> None:
    frames = hosted_frames(bench.healthy())
    seen = {}
    for is_kcore in (True, False):
        kernel = Kernel(Kcore(bench, frames, is_kcore=is_kcore))
        explained = explain_page(kernel, resolve(kernel, "pfn", HOSTED + 0x4000, ""))
        seen[is_kcore] = explained.facts["struct_page"]
        if is_kcore:
            assert kernel.missing.as_dict()["excluded"]["struct pages"]
            assert list(Checker(kernel, all_rules()).findings()) == []
    # What a target that does not know of it makes of the same bytes.
    assert seen[True] is None
    assert seen[False]["initialised"] is False


def test_what_an_older_kernel_returns_of_such_frames_is_read(bench: Bench) -> None:
    healthy = bench.healthy()
    frame = min(hosted_frames(healthy))
    expected = healthy.memory.read_physical(frame * PAGE, PAGE)
    assert any(expected)
    kernel = Kernel(Kcore(bench, ()))
    assert kernel.memory.read_physical(frame * PAGE, PAGE) == expected


def test_zeros_of_a_frame_in_use_are_its_contents(bench: Bench) -> None:
    kernel = Kernel(Kcore(bench, [PFN]))
    assert kernel.memory.read_physical(PFN * PAGE, 2 * PAGE)[:PAGE] == bytes(PAGE)


def test_frames_with_hwpoison_are_left_out(new_bench: Bench) -> None:
    changed = poisoned(new_bench.healthy(), PFN)
    kernel = Kernel(Kcore(new_bench, [PFN], changed))
    assert refusal(kernel, PFN)[0] == "excluded"
    # In one read with its neighbours: the fault names the frame.
    with pytest.raises(Fault) as caught:
        kernel.memory.read_physical((PFN - 1) * PAGE, 3 * PAGE)
    assert caught.value.address == PFN * PAGE


def test_frames_that_are_logically_offline_are_left_out(
    bench: Bench, generation: str
) -> None:
    healthy = bench.healthy()
    at = healthy.pages.struct.offset("_mapcount")
    word = OFFLINE[generation].to_bytes(4, "little")
    kernel = Kernel(Kcore(bench, [PFN], with_word(healthy, PFN, at, word)))
    assert refusal(kernel, PFN)[0] == "excluded"


def test_a_poisoned_page_table_is_missing_and_no_hole(new_bench: Bench) -> None:
    """Its own struct page is mapped by this very table: nothing shows what it holds."""
    healthy = new_bench.healthy()
    va = healthy.vmemmap.page_va(HOSTED * 64 // PAGE)
    table = healthy.page_table.walk(va)[-1].table_pa // PAGE
    kernel = Kernel(Kcore(new_bench, [table], poisoned(healthy, table)))
    assert [a.pa for a in kernel.vmemmap.absent] == [table * PAGE]
    assert kernel.missing.as_dict()["excluded"]["vmemmap page tables"] == 1
    with pytest.raises(Fault):
        kernel.page_table.translate(va)


def test_a_capsule_of_a_running_kernel_does_not_hold_the_zeros(bench: Bench) -> None:
    frame = min(hosted_frames(bench.healthy()))
    kernel = RecordedKernel(Recorder(Kcore(bench, [frame])))
    with pytest.raises(Fault, match="excluded"):
        kernel.pages.page(HOSTED)
    assert not kernel.recorder.store.pieces(frame)
