# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hypothesis damages a dump's bytes: no crash, no hang, no traceback, bounded memory.

Through the command line, in a process of its own each time: headers and notes of both
forms of dump, and every structure that `check` follows. CHECK_FUZZ_EXAMPLES sets how
many dumps each test damages; the draws are the same in every run.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tests.model.kernels import varied
from vmemmap_tools.model.image import Image

from .fuzzing import Dump, Patch, Region, judge, regions

EXAMPLES = int(os.environ.get("CHECK_FUZZ_EXAMPLES", "5"))
WORDS = ("--format", "json", "check", "--all")
HEADERS = 1 << 16
"""Bytes at the start of a file that hold headers, notes and page descriptors."""

fuzz = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tmp_path_factory.mktemp


@pytest.fixture(scope="module", params=["vmcore", "vmcore.kdump"])
def headers(request: pytest.FixtureRequest, directory: Callable[[str], Path]) -> Dump:
    return Dump(varied("7.3"), directory("headers"), request.param)


@given(data=st.data())
@fuzz
def test_headers_and_notes(headers: Dump, data: st.DataObject) -> None:
    end = min(HEADERS, headers.size)
    patches = []
    for _ in range(data.draw(st.integers(1, 4))):
        # Small offsets first: that is where headers are.
        offset = data.draw(st.one_of(st.integers(0, 4095), st.integers(0, end - 1)))
        old = headers.read(offset, 8)
        patches.append((offset, data.draw(damaged(old))))
    with headers.damaged(patches):
        judge(headers.run(*WORDS))


@given(data=st.data())
@fuzz
def test_the_text_of_vmcoreinfo(headers: Dump, data: st.DataObject) -> None:
    start = headers.find(b"OSRELEASE=")
    text = headers.read(start, HEADERS).partition(b"\0")[0]
    lines = [line for line in text.splitlines(keepends=True) if b"=" in line]
    chosen = data.draw(st.sampled_from(range(1, len(lines))))
    offset = start + sum(map(len, lines[:chosen])) + lines[chosen].index(b"=") + 1
    length = len(lines[chosen].partition(b"=")[2])
    other = data.draw(st.text("0123456789abcdefx-=\n \x1b\xff", max_size=length))
    patch = offset, other.encode("latin-1")[:length].ljust(length, b"0")[:-1]
    with headers.damaged([patch]):
        judge(headers.run(*WORDS))


@pytest.fixture(scope="module", params=["6.12", "7.3", "seed"])
def whole(
    request: pytest.FixtureRequest, directory: Callable[[str], Path]
) -> tuple[Dump, dict[str, list[Region]], list[int]]:
    machine = varied(request.param)
    found = regions(machine.image())
    dump = Dump(machine, directory("whole"))
    return dump, found, addresses(machine.image(), found)


def addresses(image: Image, found: dict[str, list[Region]]) -> list[int]:
    """Pointers that lead somewhere: what a structure may be made to point at."""
    direct = [image.direct(0) + one.pa for some in found.values() for one in some[:4]]
    pages = [image.page_va(pfn) for pfn in (0, 0x100000, 0x200000)]
    entries = [one.pa | 0x63 for one in found["tables"][:8]]
    return [*direct, *pages, *entries, *(e | 1 << 7 for e in entries)]


@given(data=st.data())
@fuzz
def test_structures(
    whole: tuple[Dump, dict[str, list[Region]], list[int]], data: st.DataObject
) -> None:
    dump, found, pointers = whole
    kinds = sorted(found)
    patches: list[Patch] = []
    for _ in range(data.draw(st.integers(1, 6))):
        region = data.draw(st.sampled_from(found[data.draw(st.sampled_from(kinds))]))
        slot = data.draw(st.integers(0, min(region.size, 4096) // 8 - 1))
        count = data.draw(st.sampled_from((1, 1, 1, 8, 512)))
        offset = dump.offset(region.pa + 8 * slot)
        assert offset is not None, region
        size = 8 * min(count, region.size // 8 - slot)
        word = data.draw(
            st.one_of(
                st.sampled_from(pointers).map(lambda p: p.to_bytes(8, "little")),
                damaged(dump.read(offset, 8)),
            )
        )
        patches.append((offset, (word * 512)[:size]))
    with dump.damaged(patches):
        judge(dump.run(*WORDS))


def damaged(old: bytes) -> st.SearchStrategy[bytes]:
    """Other bytes in the place of these: flipped bits, extremes, noise."""
    bits = 8 * len(old)
    value = int.from_bytes(old, "little")

    def as_bytes(number: int) -> bytes:
        return (number & (1 << bits) - 1).to_bytes(len(old), "little")

    return st.one_of(
        st.integers(0, bits - 1).map(lambda bit: as_bytes(value ^ 1 << bit)),
        st.integers(-64, 64).map(lambda step: as_bytes(value + step)),
        st.sampled_from((0, 1, (1 << bits) - 1, 1 << bits - 1)).map(as_bytes),
        st.binary(min_size=len(old), max_size=len(old)),
    )
