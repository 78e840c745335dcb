# SPDX-License-Identifier: LGPL-2.1-or-later
"""`page` and `check` say the same of one struct page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.kernels import varied
from vmemmap_tools.analysis.check import RULES, Checker, Finding
from vmemmap_tools.analysis.explain import Subject, explain_page
from vmemmap_tools.kernel.kernel import Kernel

from .overlay import Bench


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("6.12"))


def found_by(kernel: Kernel, rule: str) -> list[Finding]:
    return list(Checker(kernel, [RULES[rule]]).findings())


def page(kernel: Kernel, pfn: int) -> dict[str, Any]:
    return explain_page(kernel, Subject("x", pfn)).as_dict()


@pytest.mark.parametrize("fault", ["restored-head-clones", "demoted-head-clones"])
def test_a_stale_head_is_told_in_the_same_words(bench: Bench, fault: str) -> None:
    kernel, _ = bench.faulty([fault])
    findings = found_by(kernel, "F6")
    assert findings
    for one in findings:
        found = page(kernel, int(str(one.where.id)))
        assert found["verdict"].startswith(one.message)
        kind = found["struct_page"]["stale_head"]["kind"]
        assert isinstance(one.found, dict) and kind == one.found["kind"]


@pytest.mark.parametrize(
    "fault",
    [
        *("dax-tail-astray", "dax-tail-cleared"),
        *("altmap-tail-astray", "altmap-tail-cleared"),
    ],
)
def test_a_tail_that_p9_tells_is_told_by_page(bench: Bench, fault: str) -> None:
    kernel, (planted,) = bench.faulty([fault])
    (one,) = found_by(kernel, "P9")
    assert one.evidence["pfns"] == [planted.where["pfn"]]
    found = page(kernel, planted.where["pfn"])
    assert found["compound"] is None
    assert found["strayed_from"]["pfn"] == planted.where["head_pfn"]
    word = found["struct_page"]["compound_word"]
    assert ("is damaged" in found["verdict"]) is fault.endswith("astray")
    assert one.found == [word]


def test_pages_of_a_healthy_kernel_are_neither_stale_nor_strayed(bench: Bench) -> None:
    kernel = bench.healthy()
    pfns = set()
    for one in (r for p in kernel.pgmaps for r in p.device_ranges()):
        pfns |= {one.start, one.first_pfn, one.first_pfn + 100, one.end - 1}
    for folio in kernel.hugetlb.folios():
        pfns |= {folio.pfn, folio.pfn + 64, folio.pfn + (1 << folio.order) - 1}
    for pfn in pfns:
        found = page(kernel, pfn)
        assert found["strayed_from"] is None, found["verdict"]
        assert not (found["struct_page"] or {}).get("stale_head"), found["verdict"]
