# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a capsule grows by with its machine: nothing but what is new in it."""

from __future__ import annotations

from pathlib import Path

from tests.bench.scale import SPEC
from vmemmap_tools.model import spec

from .made import make_capsule

FOLIOS = {4: 1700, 6: 2500}
"""Optimised 2M folios by GiB: more than those whose first vmemmap page is whole."""

HEADS = 4 * 64
"""Of these struct pages the kernel's own words differ from folio to folio."""
HEADER = 56
ENTRIES = 8 * 8
SECTIONS = 2048
"""Further sections, their usages and page tables beyond those entries, in all 16."""


def size(directory: Path, gib: int) -> int:
    directory.mkdir()
    text = SPEC.format(end=gib + 2, count=FOLIOS[gib])
    (directory / "spec.toml").write_text(text)
    spec.build(spec.load(directory / "spec.toml")).write(directory)
    return make_capsule(directory).stat().st_size


def test_a_further_folio_takes_its_head_and_the_entries_of_its_vmemmap(
    tmp_path: Path,
) -> None:
    small, large = (size(tmp_path / str(gib), gib) for gib in FOLIOS)
    folios = FOLIOS[6] - FOLIOS[4]
    assert large - small < folios * (HEADS + HEADER + ENTRIES) + 16 * SECTIONS
