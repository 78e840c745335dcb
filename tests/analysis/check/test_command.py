# SPDX-License-Identifier: LGPL-2.1-or-later
"""The verb: its options, its exit status, its formats, and data that is missing."""

from __future__ import annotations

import csv
import io
import json
from typing import Any
from xml.etree import ElementTree

import click
import pytest

from tests.analysis.machines import busy
from tests.model.kernels import varied
from vmemmap_tools.analysis.check.registry import RULES, all_rules
from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.kernel import Kernel

from .overlay import Bench, find


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(varied("7.3"))


@pytest.fixture(scope="module")
def faulty(bench: Bench) -> Kernel:
    """One error, one warning."""
    return bench.faulty(["head-read-only", "counter-drift"])[0]


def ask(kernel: Kernel | None, *words: str) -> tuple[str, int]:
    """What `check` prints, and its exit status."""
    stream = io.StringIO()
    session = Session(stream=stream)
    if kernel is not None:
        session.open_kernel = lambda: kernel
    group, status = VerbGroup("vmemmap"), 0
    try:
        with group.make_context("vmemmap", ["check", *words], obj=session) as context:
            group.invoke(context)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    return stream.getvalue(), status


def answer(kernel: Kernel, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(kernel, "--format", "json", *words)[0])
    return found


def test_an_error_is_exit_status_1_and_health_is_0(
    bench: Bench, faulty: Kernel
) -> None:
    assert ask(faulty)[1] == 1
    assert ask(faulty, "--skip", "F2")[1] == 0
    assert ask(bench.healthy())[1] == 0


def test_a_row_says_what_where_and_why(faulty: Kernel) -> None:
    (row,) = answer(faulty, "--rule", "F2")["rows"]
    assert set(row) == {
        *("rule", "severity", "where", "message", "expected", "found", "evidence"),
        *("count", "known_issue"),
    }
    assert row["where"]["kind"] == "folio"
    assert row["evidence"]["head_va"].startswith("0xffff")
    assert (row["expected"], row["found"]) == ("writable", "read-only")


def test_rules_are_chosen_by_id_or_family(faulty: Kernel) -> None:
    rules = [r["rule"] for r in answer(faulty, "--rule", "c")["totals"]["rules"]]
    assert rules == ["C1", "C2", "C3", "C4"]
    rules = [
        r["rule"]
        for r in answer(faulty, "--rule", "c", "--skip", "C2")["totals"]["rules"]
    ]
    assert rules == ["C1", "C3", "C4"]


def test_lower_severities_are_counted_though_not_shown(faulty: Kernel) -> None:
    found = answer(faulty, "--min-severity", "e")
    assert {row["severity"] for row in found["rows"]} == {"E"}
    assert found["totals"]["warnings"] == 1


def test_findings_of_one_cause_are_one_row_unless_all_are_wanted(bench: Bench) -> None:
    kernel, _ = bench.faulty(["tail-of-other-zone"])
    (row,) = answer(kernel, "--rule", "Z4")["rows"]
    each = answer(kernel, "--rule", "Z4", "--all")["rows"]
    assert row["count"] == len(each) > 1
    assert all(one["count"] == 1 for one in each)
    assert row["evidence"]["also_at"] == [one["where"]["id"] for one in each[1:9]]


def test_list_and_explain_open_no_kernel() -> None:
    lines, status = ask(None, "--list")
    assert status == 0
    names = [line.split()[0] for line in lines.splitlines()]
    assert names == [rule.id for rule in all_rules()]
    for rule in all_rules():
        text, status = ask(None, "--explain", rule.id)
        screen = text.splitlines()
        assert status == 0 and screen[0].startswith(rule.id)
        assert len(screen) <= 24 and max(map(len, screen)) <= 80


@pytest.mark.parametrize("words", [["--list"], ["--explain", "P"]])
def test_rules_come_in_the_chosen_format(words: list[str]) -> None:
    for line in (["--format", "json", *words], [*words, "--format", "json"]):
        found = json.loads(ask(None, *line)[0])
        assert found["schema"] == "vmemmap-tools/check-rules/1"
        row = {row["rule"]: row for row in found["rows"]}["P4"]
        assert (row["severity"], row["family"], row["racy"]) == (
            "E",
            "device memory",
            True,
        )
    rows = list(csv.DictReader(io.StringIO(ask(None, "--format", "csv", *words)[0])))
    assert [row["rule"] for row in rows] == [
        rule.id for rule in all_rules() if rule.id[0] in words[-1] or len(words) == 1
    ]


@pytest.mark.parametrize("words", [["--list"], ["--explain", "F6"]])
def test_rules_have_no_form_for_findings(words: list[str]) -> None:
    for format in ("sarif", "junit"):
        with pytest.raises(click.UsageError, match=f"no {format} form: they take"):
            ask(None, *words, "--format", format)


def test_the_table_shows_what_was_expected_and_the_evidence(faulty: Kernel) -> None:
    row = answer(faulty, "--rule", "F2")["rows"][0]
    text = ask(faulty, "--rule", "F2")[0]
    title, _, first, *others = text.partition("\n\n")[0].splitlines()
    assert title.split() == ["RULE", "SEV", "WHERE", "COUNT", "FINDING"]
    pfn = f"{row['where']['id']:#x}"
    assert first.split()[:5] == ["F2", "E", "folio", pfn, "1"]
    below = " ".join(" ".join(others).split())
    assert "expected: writable found: read-only" in below
    assert f"head_va={row['evidence']['head_va']}" in below
    assert max(map(len, text.splitlines())) <= 130


def test_further_places_are_hexadecimal_where_they_are_pfns(bench: Bench) -> None:
    kernel, _ = bench.faulty(["tail-of-other-zone"])
    (row,) = answer(kernel, "--rule", "Z4")["rows"]
    text = " ".join(ask(kernel, "--rule", "Z4")[0].split())
    places = ", ".join(f"{pfn:#x}" for pfn in row["evidence"]["also_at"])
    assert f"also at: {places}" in text


def test_an_unknown_rule_is_wrong_use() -> None:
    with pytest.raises(click.BadParameter, match="no rule 'Q7'"):
        ask(None, "--rule", "Q7")


def test_every_rule_of_the_reference_is_there() -> None:
    counts = {"S": 11, "Z": 7, "F": 15, "C": 4, "P": 9}
    assert set(RULES) == {
        f"{letter}{n}" for letter, last in counts.items() for n in range(1, last + 1)
    }


def test_quick_says_what_it_left_out(faulty: Kernel) -> None:
    rules = {r["rule"]: r for r in answer(faulty, "--quick")["totals"]["rules"]}
    assert rules["F6"]["status"] == "not checked"
    assert rules["F9"]["status"] == "partly" and "--quick" in rules["F9"]["why"]


def test_sarif_has_a_result_for_each_row(faulty: Kernel) -> None:
    (run,) = json.loads(ask(faulty, "--format", "sarif")[0])["runs"]
    results = {r["ruleId"]: r for r in run["results"]}
    assert results["F2"]["level"] == "error" and results["C1"]["level"] == "warning"
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])
    noted = run["invocations"][0]["toolExecutionNotifications"]
    assert any("not applicable" in n["message"]["text"] for n in noted)


def test_junit_has_a_case_for_each_rule(faulty: Kernel) -> None:
    suite = ElementTree.fromstring(ask(faulty, "--format", "junit")[0])[0]
    assert suite.get("tests") == str(len(RULES)) == str(len(suite))
    failed = [
        case.get("name", "")[:2] for case in suite if case.find("failure") is not None
    ]
    assert failed == ["F2"] and suite.get("failures") == "1"
    skipped = sum(case.find("skipped") is not None for case in suite)
    assert suite.get("skipped") == str(skipped) and skipped > 0


def test_what_cannot_be_read_is_no_finding_but_is_told() -> None:
    m = busy()
    m.write_sections()
    kernel = m.kernel()
    before = {(f.rule, f.cause) for f in find(kernel)[1]}
    for page in range(512, 540):
        frame = m.frame(page)
        if frame >= 0:
            m.memory.lose(frame)
    checker, findings = find(m.kernel())
    assert {(f.rule, f.cause) for f in findings} <= before
    assert any(a.status == "partly" for a in checker.accounts.values())


def test_a_rule_whose_symbols_are_unknown_says_so() -> None:
    m = busy()
    m.write_sections()
    checker, _ = find(m.kernel())
    account = checker.accounts["P4"]
    assert (account.status, account.why) == (
        "not applicable",
        "this kernel has no pgd_list",
    )


def test_a_rule_that_was_left_out_found_nothing_because_nobody_looked(
    bench: Bench,
) -> None:
    text, status = ask(bench.healthy(), "--quick", "--rule", "F6")
    assert "nothing was checked" in text and "no finding" not in text
    assert status == 0
