# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap check` on real kernels: silent but for the defects that they really have."""

from __future__ import annotations

import io
import json
from typing import Any

import click
import pytest

from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session

from .compare import Compare
from .dumps import Dump
from .expect import (
    boot_pages,
    has_hvo,
    has_lost_boot_page,
    has_restore_defect,
    optimised_pages,
)
from .truth import Truth

pytestmark = pytest.mark.rare

ALWAYS_SEEN = (
    *("S1", "S2", "S3", "S4", "S5", "S10", "F1", "F2", "F5", "F6", "F9", "F12", "F13"),
    *("C4", "P1", "P2", "P3", "P4", "P6", "P8", "P9"),
)
"""Rules that must find something to look at in every guest."""

TAIL_RULES = ("Z1", "Z2", "Z3", "Z4", "Z5", "Z6", "Z7")

FREED_PAGES = 8
"""2M pages that each guest gives back after they were optimised."""


def check(dump: Dump, *words: str) -> tuple[dict[str, Any], int]:
    """The JSON of `check` and its exit status."""
    out = io.StringIO()
    session = Session(lambda: dump.kernel, format="json", stream=out)
    group, status = VerbGroup("vmemmap"), 0
    try:
        with group.make_context("vmemmap", ["check", *words], obj=session) as context:
            group.invoke(context)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    return json.loads(out.getvalue()), status


def findings(answer: dict[str, Any], severity: str) -> dict[tuple[str, str], int]:
    """{(rule, known issue): count} of a severity."""
    found: dict[tuple[str, str], int] = {}
    for row in answer["rows"]:
        if row["severity"] == severity:
            key = row["rule"], row["known_issue"]
            found[key] = found.get(key, 0) + row["count"]
    return found


def has_boot_tail(dump: Dump, truth: Truth) -> bool:
    """Whether a gigantic page was populated in optimised form at boot."""
    if not has_hvo(truth) or not dump.kernel.has("zone-shared-tails"):
        return False
    return bool(boot_pages(truth, "1.00 GiB"))


def counts_whole_dax(dump: Dump) -> bool:
    """Whether the kernel counts what optimised device DAX ranges do not keep."""
    has = dump.kernel.has
    return has("memmap-counters") and not has("dax-accounting-fixed")


def expected_errors(dump: Dump, truth: Truth) -> dict[tuple[str, str], int]:
    expected: dict[tuple[str, str], int] = {}
    if has_restore_defect(truth):
        # Seven clones for each page given back, and its own lost head.
        expected["F6", "restore-copies-head"] = 8 * FREED_PAGES
    if has_boot_tail(dump, truth):
        expected["Z2", "boot-tail-refcount"] = 1
        if has_lost_boot_page(truth):
            expected["F6", "boot-tail-refcount"] = 1
    return expected


def test_errors_are_the_defects_that_this_kernel_has(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    answer, status = check(dump)
    expected = expected_errors(dump, truth)
    compare.equal("check: errors = known defects", findings(answer, "E"), expected)
    compare.equal("check: exit status", status, int(bool(expected)))


def test_warnings_are_defects_that_were_mended_upstream(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    answer, _ = check(dump)
    found, mended = set(findings(answer, "W")), {("P3", "dax-migratetype")}
    if counts_whole_dax(dump):
        mended.add(("C3", "dax-accounting"))
    unknown = found - mended
    compare.equal("check: warnings that no upstream fix explains", unknown, set())
    is_told = ("C3", "dax-accounting") in found
    wanted = counts_whole_dax(dump) and any(
        row["optimised_compounds"] for row in dump.rows("dax")
    )
    compare.equal("check: dax-accounting is told", is_told, wanted)


def test_unoptimised_folios_are_those_of_the_guest(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    answer, _ = check(dump, "--rule", "F14")
    if not answer["totals"]["checked"]:
        pytest.skip("the optimisation is switched off")
    total = sum(pool.total for pool in truth.hugetlb if pool.node is None)
    optimised = sum(count for count, _ in optimised_pages(truth).values())
    compare.equal(
        "check: F14 counts what the guest did not optimise",
        sum(row["count"] for row in answer["rows"]),
        total - optimised,
    )


def test_no_rule_is_silent_because_it_saw_nothing(
    dump: Dump, truth: Truth, compare: Compare
) -> None:
    answer, _ = check(dump)
    rules = {rule["rule"]: rule for rule in answer["totals"]["rules"]}
    wanted = set(ALWAYS_SEEN)
    if has_hvo(truth) and dump.kernel.has("zone-shared-tails"):
        wanted |= set(TAIL_RULES)
    blind = {name for name in wanted if not rules[name]["examined"]}
    compare.equal("check: rules that saw nothing", blind, set())
    partly = {name for name, rule in rules.items() if rule["status"] == "partly"}
    compare.equal("check: rules that could not see all", partly, set())


def test_quick_finds_no_more(dump: Dump, compare: Compare) -> None:
    quick, _ = check(dump, "--quick")
    whole, _ = check(dump)
    more = set(findings(quick, "E")) - set(findings(whole, "E"))
    compare.equal("check --quick: errors that check does not tell", more, set())
