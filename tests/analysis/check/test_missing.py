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
    assert told["C1"].status == "not checked"
    assert told["P6"].status == "not checked"
    why = "the page tables are incomplete: vmemmap page tables (1 excluded)"
    assert told["P6"].why == told["F6"].why == why
    assert told["S4"].status == "partly"


def statuses(kernel: Kernel, *rules: str) -> dict[str, tuple[str, str | None]]:
    found = find(kernel)[0].accounts
    return {rule: (found[rule].status, found[rule].why) for rule in rules}


def test_each_rule_says_what_a_look_that_it_shares_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(varied("7.3"))
    readers = "Z4", "Z5", "F10", "F11"
    kernel, _ = bench.faulty(["stale-read-only", "tail-alias-order"])
    assert set(statuses(kernel, *readers).values()) == {("checked", None)}
    monkeypatch.setattr("vmemmap_tools.analysis.check.sharing.MAX_ODD", 1)
    kernel, _ = bench.faulty(["stale-read-only", "tail-alias-order"])
    why = "1 more runs of vmemmap pages mapped oddly"
    assert set(statuses(kernel, *readers).values()) == {("partly", why)}


def test_and_what_it_could_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(varied("7.3"))
    image = bench.machine.image()
    # Where the struct pages of frames behind the vmemmap are.
    frame = image.core.tails[min(image.core.tails)].frame
    hole = image.page(frame).pa >> 12
    found = accounts(bench, {hole})
    # F12 looks at page tables besides.
    assert found["F12"].unread["excluded"] >= found["F8"].unread["excluded"] > 1
    monkeypatch.setattr("vmemmap_tools.analysis.check.frame_scan.MAX_UNUSABLE", 1)
    kernel, _ = bench.faulty(["backing-frame-free", "backing-frame-slab"])
    why = "frames behind the 1 that cannot be in use"
    assert set(statuses(kernel, "F8", "F12").values()) == {("partly", why)}


def test_pools_that_are_not_in_the_dump_are_not_said_to_be_none(bench: Bench) -> None:
    pools = bench.machine.image().hstates
    found = accounts(bench, {hstate.pa >> 12 for hstate in pools})
    for rule in "F1", "F2", "F5", "F9":
        assert found[rule].status == "not checked", rule
        assert str(found[rule].why).startswith("the hstates are incomplete"), rule


UNKNOWN = {
    "hstates": ("F1", "F2", "F5", "F7", "F9", "F10", "F11"),
    "hugetlb_max_hstate": ("F1", "F2", "F5", "F7", "F9", "F10", "F11"),
    "pgmap_array": ("P1", "P2", "P3", "P5", "P8", "P9", "F10", "F11", "S3"),
    "node_data": ("F4", "F11"),
}
"""Variables that a table of symbols may lack, and rules that need them."""


@pytest.mark.parametrize("generation", ["6.12", "7.3"])
@pytest.mark.parametrize("lost", UNKNOWN)
def test_what_no_symbol_tells_is_not_damaged(generation: str, lost: str) -> None:
    kernel = Bench(varied(generation)).healthy()
    variable, unsigned = kernel.target.variable, kernel.target.unsigned
    kernel.target.variable = (  # type: ignore[method-assign]
        lambda name: None if name == lost else variable(name)
    )
    kernel.target.unsigned = (  # type: ignore[method-assign]
        lambda name: None if name == lost else unsigned(name)
    )
    checker, findings = find(kernel)
    assert [(f.rule, f.message) for f in findings if f.severity != "I"] == []
    for rule in UNKNOWN[lost]:
        account = checker.accounts[rule]
        assert account.status in ("not applicable", "not checked", "partly"), rule
        if (rule, generation) != ("F7", "7.3"):
            assert f"no variable {lost}" in str(account.why), rule
