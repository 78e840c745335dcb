# SPDX-License-Identifier: LGPL-2.1-or-later
"""On a running kernel a finding counts when further readings show it unaltered."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.model.kernels import varied
from vmemmap_tools.analysis.check import Checker, live
from vmemmap_tools.analysis.check.registry import RULES
from vmemmap_tools.kernel.kernel import Kernel

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


def test_rules_that_cannot_race_are_not_read_again(bench: Bench) -> None:
    faulty = bench.faulty(["counter-underflow"])[0].target
    target = Changing(bench.target, [faulty._frames, {}])  # type: ignore[attr-defined]
    checker = Checker(Kernel(target), [RULES["C2"]])
    assert [f.rule for f in checker.findings()] == ["C2"]
    assert target.taken == 1
