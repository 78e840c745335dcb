# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules of real kernels against what those guests said of themselves.

The files are made of runs of tests/real; the guest's record lies beside each.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from tests.real.truth import Truth, parse_truth
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_dump

from .test_capsule import ask

CAPTURES = sorted(Path(__file__).parents[2].glob("vmcores/real/*.core.xz"))


def test_there_are_captures_of_every_kernel() -> None:
    names = " ".join(path.name for path in CAPTURES)
    for word in ("6.1.", "6.12.", "7.2.", "7.3-", "la57", "nohvo", "kmem"):
        assert word in names


@pytest.fixture(scope="module", params=CAPTURES, ids=lambda path: path.name[:-8])
def capture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Truth]:
    packed: Path = request.param
    path = tmp_path_factory.mktemp("real") / "core"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    record = packed.with_name(packed.name.replace(".core.", ".truth."))
    return str(path), parse_truth(lzma.decompress(record.read_bytes()).decode())


def test_the_kernel_is_the_guests(capture: tuple[str, Truth]) -> None:
    path, truth = capture
    kernel = Kernel(open_dump(path)).describe()
    assert kernel["release"] == truth.release
    assert kernel["levels"] == (5 if truth.has_la57 else 4)


def test_pools_are_those_of_sysfs(
    capture: tuple[str, Truth], capsys: pytest.CaptureFixture[str]
) -> None:
    path, truth = capture
    pools = {(p.size, p.node): p for p in truth.hugetlb if p.node is not None}
    rows = ask(capsys, f"-c {path} hvo")["rows"]
    found = {
        (r["size_bytes"], r["node"]): (r["total"], r["free"], r["surplus"])
        for r in rows
    }
    assert found == {k: (p.total, p.free, p.surplus) for k, p in pools.items()}


def test_counters_are_those_of_vmstat(
    capture: tuple[str, Truth], capsys: pytest.CaptureFixture[str]
) -> None:
    path, truth = capture
    totals = ask(capsys, f"-c {path} summary")["totals"]
    assert totals["nr_memmap_pages"] == truth.nr_memmap_pages
    assert totals["nr_memmap_boot_pages"] == truth.nr_memmap_boot_pages
