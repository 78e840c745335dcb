# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a dump lacks is never a finding: a healthy machine stays healthy with holes.

Any frame may be missing: page tables, nodes, pools, lists, roots of mem_section, device
maps, struct pages. `check` says less then, and why; it never takes the remains of what
it cannot see for damage.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from tests.model.kernels import varied
from vmemmap_tools.analysis.check import Account
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import TargetError

from .overlay import Bench, Holes, find


@pytest.fixture(scope="module", params=["6.1", "6.12", "7.3", "section-dax"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(varied(request.param))


def grave(bench: Bench, missing: Collection[int]) -> list[tuple[str, str]]:
    """(rule, message) of findings above information; none where check refuses."""
    try:
        _, findings = find(Kernel(Holes(bench.target, missing)))
    except TargetError as refusal:
        assert str(refusal)
        return []
    return [(f.rule, f.message) for f in findings if f.severity != "I"]


def test_no_single_structure_is_missed_in_a_way_that_looks_like_damage(
    bench: Bench,
) -> None:
    draw = random.Random("structures")
    structures = draw.sample(bench.structures, 15)
    found = {pfn: grave(bench, {pfn}) for pfn in structures}
    assert {pfn: what for pfn, what in found.items() if what} == {}


@pytest.mark.parametrize("count", [1, 10, 100])
def test_nor_do_random_holes_look_like_damage(bench: Bench, count: int) -> None:
    whole = Holes(bench.target, ())
    find(Kernel(whole))
    draw = random.Random(f"holes {count}")
    for _ in range(3):
        missing = frozenset(draw.sample(sorted(whole.touched), count))
        assert grave(bench, missing) == [], sorted(missing)


def accounts(bench: Bench, missing: Collection[int]) -> dict[str, Account]:
    checker, _ = find(Kernel(Holes(bench.target, missing)))
    return checker.accounts


def test_a_rule_says_what_it_misses() -> None:
    bench = Bench(varied("7.3"))
    table = bench.machine.image().core.vmemmap.tables
    told = accounts(bench, {next(iter(table.values()))})
    assert told["C1"].status == "not applicable"
    assert told["P6"].status == "not checked"
    why = "the page tables are not whole here: 1 excluded"
    assert told["P6"].why == told["F6"].why == why
    assert told["S4"].status == "partly"
