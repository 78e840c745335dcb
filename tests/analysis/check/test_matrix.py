# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every fault of the model is told by its rule, in every generation, and by no other.

A fault may break other rules as well (a frame mapped twice leaves another frame without
a user, which the counters notice): those are listed. What each rule says is held
against the model's own list of the rules that its faults violate.
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

IMPLIED = {
    "counter-underflow": "C1",
    # The private frames come from free memory: the model leaves them free.
    "dax-compound-private": "F12 C1 P5",
    "altmap-outside": "P2 P8",
    "dax-continuation-split": "F12 C1 P5",
    # Compounds at the range's end lose their map.
    "pgmap-range-wrong": "S3 F10 F11 Z4",
    # The folio whose head page is gone: its tails, its place on a list.
    "head-frame-shared": "F7 F9 F10 F11 Z4 C1",
    "partial-rollback": "F5 F6 F7 F12 C1",
    "order-mismatch": "F7",
    "stale-read-only": "F2 F11 C1",
    "frame-mapped-twice": "F1 F2 F5 F9 P2 C1",
    "head-page-lost": "F7 F9",
    "scattered-tails": "F5 F12 C1",
    "section-empty-bitmap": "S5",
    "section-stray-subsection": "S4",
    "vmemmap-hole": "C1",
    "vmemmap-leak": "F12 C1",
    "section-stale-order": "S8",
    "section-order-huge-leaf": "C1 F12 P1 P5",
    # Without the pointer no tail page is known for those folios.
    "tail-pointer-wild": "C1 F4 F11",
    "tail-pointer-stale": "C1 F4 F11 P1 P5 Z3",
    "tail-freed": "F12 P5",
    "tail-alias-order": "F4",
    "tail-of-other-zone": "Z2",
    "tail-doubled": "Z2 Z4",
    "tail-page-table": "C1 F4 F11 P1 P5 Z2 Z3",
}
"""Rules that a fault may break besides."""

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
        listed = {*told_by(name), *IMPLIED.get(name, "").split(), *FAULTS[name].rules}
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


def told_by(name: str) -> list[str]:
    return TOLD_BY.get(name, FAULTS[name].rules[0]).split()


def test_the_lists_name_rules_and_faults_that_exist() -> None:
    assert set(TOLD_BY) | set(IMPLIED) <= set(FAULTS)
    named = {r for text in (*TOLD_BY.values(), *IMPLIED.values()) for r in text.split()}
    assert named | {rule for rule, _ in GAPS} | QUIET <= set(RULES)
