# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every fault of the model is told by its rule, in every generation, and by no other.

What each rule says is held against the model's own lists: of the rules that a fault
violates, and of those that its consequences may break besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pytest

from tests.model.kernels import GENERATIONS, varied
from vmemmap_tools.analysis.check.context import Context
from vmemmap_tools.analysis.check.registry import RULES, all_rules
from vmemmap_tools.model.faults import FAULTS, NotApplicable
from vmemmap_tools.model.machine import Machine

from .overlay import Bench, find

TOLD_BY = {
    "partial-rollback": "F4 F1",
    "dax-continuation-split": "P7 P1",
    "tail-pointer-stale": "Z1 Z2",
    "head-frame-shared": "F2",
    "stale-read-only": "F10",
    "scattered-tails": "F4",
    "tail-writable": "Z5 F3",
}
"""Rules of which one at least has to tell; else the first of those a fault names."""

GAPS = {
    ("F13", "5.14"): "the head page is never replaced",
    ("F13", "5.18"): "the head page is never replaced",
    ("F13", "6.1"): "the head page is never replaced",
    ("P1", "5.18"): "no device shares its vmemmap",
    ("P3", "5.14"): "no device has gigantic compounds",
    ("P5", "seed"): "shared tails hold no references",
    ("S8", "section-order"): "no section of a healthy machine has an order",
    ("S9", "section-order"): "no section of a healthy machine has an order",
}
"""Rules that apply but that no fault can break: why."""

QUIET = frozenset({"F14", "F15", "S11", "Z7"})
"""Rules about legal states; test_situations.py has them."""

MADE_BEFORE = {"dax-uninitialised"}


def before(name: str, machine: Machine) -> Machine:
    """What a fault needs that the machine does not have."""
    if name == "dax-uninitialised":
        return machine.dax_remove("pmem3").dax_add("dax4", "6912M", "96M")
    return machine


@dataclass(frozen=True)
class Outcome:
    """What `check` said of a fault: {rule: severity}."""

    told: Mapping[str, str]


@cache
def outcomes(generation: str) -> Mapping[str, Outcome]:
    """All faults of a generation, each planted in a machine of its own."""
    bench = Bench(varied(generation))
    found = {}
    for name in FAULTS:
        one = bench
        if name in MADE_BEFORE:
            one = Bench(before(name, varied(generation)))
        try:
            kernel, _ = one.faulty([name])
        except NotApplicable:
            continue
        _, findings = find(kernel)
        found[name] = Outcome({f.rule: f.severity for f in findings})
    return found


every_generation = pytest.mark.parametrize("generation", GENERATIONS)


@every_generation
def test_a_healthy_machine_has_no_error_and_no_warning(generation: str) -> None:
    checker, findings = find(Bench(varied(generation)).healthy())
    assert [f for f in findings if f.severity != "I"] == []
    accounts = checker.accounts.values()
    assert not [a for a in accounts if a.status in ("partly", "not checked")]


@every_generation
def test_each_fault_is_told_by_its_rule(generation: str) -> None:
    silent = {
        name: dict(outcome.told)
        for name, outcome in outcomes(generation).items()
        if not set(outcome.told) & set(told_by(name))
    }
    assert silent == {}


@every_generation
def test_no_rule_speaks_that_a_fault_does_not_break(generation: str) -> None:
    loud = {}
    for name, outcome in outcomes(generation).items():
        listed = {*told_by(name), *FAULTS[name].rules, *FAULTS[name].implied}
        extra = {rule for rule, how in outcome.told.items() if how != "I"} - listed
        if extra:
            loud[name] = sorted(extra)
    assert loud == {}


@every_generation
def test_every_rule_that_applies_has_a_fault_that_breaks_it(generation: str) -> None:
    told = {
        rule
        for name, outcome in outcomes(generation).items()
        for rule in outcome.told
        if rule in {*told_by(name), *FAULTS[name].rules}
    }
    context = Context(Bench(varied(generation)).healthy())
    applying = {rule.id for rule in all_rules() if rule.applies(context) is None}
    without = {r for r in applying - told - QUIET if (r, generation) not in GAPS}
    assert without == set()


def test_every_implied_rule_is_broken_in_some_generation() -> None:
    told: dict[str, set[str]] = {name: set() for name in FAULTS}
    for generation in GENERATIONS:
        for name, outcome in outcomes(generation).items():
            told[name].update(outcome.told)
    never = {name: sorted(set(f.implied) - told[name]) for name, f in FAULTS.items()}
    assert {name: rules for name, rules in never.items() if rules} == {}


def told_by(name: str) -> list[str]:
    return TOLD_BY.get(name, FAULTS[name].rules[0]).split()


def test_the_lists_name_rules_and_faults_that_exist() -> None:
    assert set(TOLD_BY) <= set(FAULTS)
    named = {rule for name in FAULTS for rule in told_by(name)}
    named |= {rule for fault in FAULTS.values() for rule in fault.implied}
    assert named | {rule for rule, _ in GAPS} | QUIET <= set(RULES)


def test_a_rule_is_violated_or_implied_but_not_both() -> None:
    assert not [name for name, f in FAULTS.items() if set(f.implied) & set(f.rules)]
