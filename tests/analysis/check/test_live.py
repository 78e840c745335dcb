# SPDX-License-Identifier: LGPL-2.1-or-later
"""On a running kernel a finding counts when further readings show it unaltered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from tests.model.kernels import varied
from vmemmap_tools.analysis.check import Checker, live
from vmemmap_tools.analysis.check.context import Context
from vmemmap_tools.analysis.check.findings import Place, Violation
from vmemmap_tools.analysis.check.registry import RULES, Rule
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import Fault

from .changing import Changing, frames_of
from .overlay import Bench

WRITABLE = "tail-writable"

PAUSES = 2
CAREFUL = 1 + live.SIFTINGS
"""The first reading with a look behind it, counted from 0; then they alternate."""


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PAUSES", (0.0,) * PAUSES)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


def check(bench: Bench, faults: Sequence[str | None]) -> tuple[Checker, Changing]:
    """Rule F3 on a kernel that has these faults in its readings."""
    states = []
    for fault in faults:
        kernel = bench.faulty([fault])[0] if fault else bench.healthy()
        states.append(frames_of(kernel))
    target = Changing(bench.target, states)
    return Checker(Kernel(target), [RULES["F3"], RULES["C2"]]), target


def test_a_finding_of_all_readings_counts(bench: Bench) -> None:
    checker, target = check(bench, [WRITABLE])
    assert [f.rule for f in checker.findings()] == ["F3"]
    assert checker.accounts["F3"].dismissed == 0
    assert target.taken == CAREFUL + 2 * PAUSES


@pytest.mark.parametrize("healthy", range(1, CAREFUL + 2 * PAUSES))
def test_a_finding_that_does_not_stay_is_dismissed(bench: Bench, healthy: int) -> None:
    """Wherever it is gone: a careful reading shows it, but the look behind does not."""
    readings: list[str | None] = [WRITABLE] * (CAREFUL + 2 * PAUSES)
    readings[healthy] = None
    checker, _ = check(bench, readings)
    assert list(checker.findings()) == []
    assert checker.accounts["F3"].dismissed == 1


def test_a_finding_with_other_numbers_each_time_is_dismissed(bench: Bench) -> None:
    """Counters of a machine at work never balance with tables read a little later."""
    drifting = [bench.faulty(["counter-drift"], seed=n)[0] for n in range(1, 9)]
    found = [list(Checker(k, [RULES["C1"]]).findings()) for k in drifting]
    assert len({finding.message for (finding,) in found}) > 1
    assert len({(finding.cause, finding.where) for (finding,) in found}) == 1
    readings = [frames_of(k) for k in drifting]
    checker = Checker(Kernel(Changing(bench.target, readings)), [RULES["C1"]])
    assert list(checker.findings()) == []
    assert checker.accounts["C1"].dismissed == 1


def test_the_same_rule_elsewhere_confirms_nothing(bench: Bench) -> None:
    first, _ = bench.faulty([WRITABLE], seed=1)
    other, _ = bench.faulty([WRITABLE], seed=3)
    frames = [frames_of(k) for k in (first, other, other)]
    target = Changing(bench.target, frames)
    checker = Checker(Kernel(target), [RULES["F3"]])
    assert list(checker.findings()) == []
    assert checker.accounts["F3"].dismissed == 1


def test_without_a_finding_nothing_is_read_again(bench: Bench) -> None:
    checker, target = check(bench, [None, WRITABLE, WRITABLE])
    assert list(checker.findings()) == []
    assert target.taken == 1


CACHED_EARLY = {
    "counter-underflow": "C2",
    "section-bad-order": "S6",
    "section-wrong-map": "S2",
    "tail-pointer-wild": "Z1",
}
"""Faults of rules whose inputs the views keep from different moments."""


@pytest.mark.parametrize("fault", CACHED_EARLY)
def test_what_only_the_first_reading_shows_is_dismissed(fault: str) -> None:
    bench = order_bench()
    rule = RULES[CACHED_EARLY[fault]]
    states = [frames_of(bench.faulty([fault])[0]), {}]
    checker = Checker(Kernel(Changing(bench.target, states)), [rule])
    assert list(checker.findings()) == []
    assert checker.accounts[rule.id].dismissed >= 1


@pytest.mark.parametrize("fault", CACHED_EARLY)
def test_what_every_reading_shows_counts(fault: str) -> None:
    bench = order_bench()
    rule = RULES[CACHED_EARLY[fault]]
    states = [frames_of(bench.faulty([fault])[0])]
    checker = Checker(Kernel(Changing(bench.target, states)), [rule])
    assert {f.rule for f in checker.findings()} == {rule.id}
    assert checker.accounts[rule.id].dismissed == 0


@cache
def order_bench() -> Bench:
    """A kernel that records orders in sections and has shared tails in zones."""
    return Bench(varied("section-order"))


def failing(failures: Iterable[int]) -> Rule:
    """A rule with one finding, of whose readings these (from 0) fail."""
    readings, wrong = count(), frozenset(failures)

    def check(context: Context) -> Iterator[Violation]:
        context.saw()
        if next(readings) in wrong:
            raise Fault(0x1000, 8, "outside", physical=True)
        yield Violation(Place("counter", "x"), "cause", "message", 0, 1)

    return replace(RULES["F3"], id="X1", check=check, applies=lambda context: None)


ALWAYS = range(1, 99)
"""All readings but the first."""


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("failures", [(1,), (3,), (4, 5), ALWAYS])
def test_a_read_that_fails_dismisses_no_finding_of_another_rule(
    bench: Bench, place: int, failures: Sequence[int]
) -> None:
    rules = [RULES["F3"]]
    rules.insert(place, failing(failures))
    states = [frames_of(bench.faulty([WRITABLE])[0])]
    checker = Checker(Kernel(Changing(bench.target, states)), rules)
    assert "F3" in {f.rule for f in checker.findings()}
    assert checker.accounts["F3"].dismissed == 0


@pytest.mark.parametrize("failures", [(1,), (1, 2), (3,), (3, 4), (4,)])
def test_a_reading_that_fails_is_repeated(
    bench: Bench, failures: Sequence[int]
) -> None:
    rule = failing(failures)
    checker = Checker(Kernel(Changing(bench.target, [{}])), [rule])
    assert [f.rule for f in checker.findings()] == ["X1"]
    assert checker.accounts["X1"].status == "checked"


def test_findings_that_cannot_be_read_again_are_told_and_not_dismissed(
    bench: Bench,
) -> None:
    checker = Checker(Kernel(Changing(bench.target, [{}])), [failing(ALWAYS)])
    assert list(checker.findings()) == []
    account = checker.accounts["X1"]
    assert (account.status, account.dismissed) == ("partly", 0)
    assert account.why is not None
    assert account.why.startswith("1 findings could not be looked for again: outside")
