# SPDX-License-Identifier: LGPL-2.1-or-later
"""On a running kernel a finding counts when three readings show it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.model.kernels import varied
from vmemmap_tools.analysis.check import Checker
from vmemmap_tools.analysis.check.registry import RULES
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn import DrgnTarget

from .overlay import Bench, Overlay

WRITABLE = "tail-writable"


class Changing(Overlay):
    """A live target that holds something else for every reading."""

    live = True

    def __init__(self, base: DrgnTarget, readings: Sequence[dict[int, bytes]]):
        super().__init__(base, readings[0])
        self.live = True
        self._readings = list(readings)
        self.taken = 1

    def advance(self) -> None:
        self._frames = self._readings[min(self.taken, len(self._readings) - 1)]
        self._page_table = None
        self.taken += 1


class Reading(Kernel):
    """A Kernel whose successor sees the next state of the target."""

    target: Changing

    def fresh(self) -> Kernel:
        self.target.advance()
        return Reading(self.target)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


def check(bench: Bench, faults: Sequence[str | None]) -> tuple[Checker, Changing]:
    """Rule F3 on a kernel that has these faults in its readings."""
    states = []
    for fault in faults:
        kernel = bench.faulty([fault])[0] if fault else bench.healthy()
        states.append(getattr(kernel.target, "_frames", {}))
    target = Changing(bench.target, states)
    return Checker(Reading(target), [RULES["F3"], RULES["C2"]]), target


def test_a_finding_of_three_readings_counts(bench: Bench) -> None:
    checker, target = check(bench, [WRITABLE, WRITABLE, WRITABLE])
    assert [f.rule for f in checker.findings()] == ["F3"]
    assert checker.accounts["F3"].dismissed == 0
    assert target.taken == 3


@pytest.mark.parametrize(
    "readings",
    [
        [WRITABLE, None, None],
        [WRITABLE, WRITABLE, None],
        [WRITABLE, None, WRITABLE],
    ],
)
def test_a_finding_that_does_not_stay_is_dismissed(
    bench: Bench, readings: list[str | None]
) -> None:
    checker, _ = check(bench, readings)
    assert list(checker.findings()) == []
    assert checker.accounts["F3"].dismissed == 1


def test_the_same_rule_elsewhere_confirms_nothing(bench: Bench) -> None:
    first, _ = bench.faulty([WRITABLE], seed=1)
    other, _ = bench.faulty([WRITABLE], seed=3)
    frames = [k.target._frames for k in (first, other, other)]  # type: ignore[attr-defined]
    target = Changing(bench.target, frames)
    checker = Checker(Reading(target), [RULES["F3"]])
    assert list(checker.findings()) == []
    assert checker.accounts["F3"].dismissed == 1


def test_without_a_finding_nothing_is_read_again(bench: Bench) -> None:
    checker, target = check(bench, [None, WRITABLE, WRITABLE])
    assert list(checker.findings()) == []
    assert target.taken == 1


def test_rules_that_cannot_race_are_not_read_again(bench: Bench) -> None:
    faulty = bench.faulty(["counter-underflow"])[0].target
    target = Changing(bench.target, [faulty._frames, {}])  # type: ignore[attr-defined]
    checker = Checker(Reading(target), [RULES["C2"]])
    assert [f.rule for f in checker.findings()] == ["C2"]
    assert target.taken == 1
