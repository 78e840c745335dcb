# SPDX-License-Identifier: LGPL-2.1-or-later
"""JUnit XML, the form in which CI services take test results: a rule is a test.

A rule with a finding of severity E has failed, one that could not be checked was
skipped; warnings and information stand in the output of a test that passed. Only for
reports whose rows are findings and whose totals list the rules (`check`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TextIO
from xml.sax.saxutils import escape as escape_xml
from xml.sax.saxutils import quoteattr

from .report import Report, Row
from .text import cell, escape

__all__ = ["render_junit"]

FAILING = "E"


def render_junit(report: Report, stream: TextIO) -> None:
    """Write one suite with a case for each rule."""
    by_rule: dict[str, list[Row]] = {}
    for row in report.rows:
        by_rule.setdefault(row["rule"], []).append(row)
    rules = report.totals()["rules"]
    failed = sum(any(_fails(r) for r in rows) for rows in by_rule.values())
    skipped = sum(
        rule["status"].startswith("not") and rule["rule"] not in by_rule
        for rule in rules
    )
    name = f"vmemmap {report.verb}"
    stream.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    stream.write(
        f'<testsuites name="{name}" tests="{len(rules)}" failures="{failed}">\n'
        f"<testsuite name={_attribute(str(report.kernel.get('release', name)))} "
        f'tests="{len(rules)}" failures="{failed}" errors="0" skipped="{skipped}">\n'
    )
    for rule in rules:
        stream.writelines(_case(rule, by_rule.get(rule["rule"], [])))
    stream.write("</testsuite>\n</testsuites>\n")


def _case(rule: Row, rows: Iterable[Row]) -> Iterator[str]:
    rows = list(rows)
    yield (
        f"<testcase classname={_attribute('vmemmap.' + rule['rule'][0])} "
        f"name={_attribute(rule['rule'] + ': ' + rule['statement'])}>\n"
    )
    for row in filter(_fails, rows):
        yield (
            f"<failure type={_attribute(row['severity'])} "
            f"message={_attribute(row['message'])}>{_details(row)}</failure>\n"
        )
    if not rows and rule["status"].startswith("not"):
        why = f"{rule['status']}: {rule['why']}"
        yield f"<skipped message={_attribute(why)}/>\n"
    others = [row for row in rows if not _fails(row)]
    if others:
        lines = "\n".join(
            f"{_text(row['severity'])}: {_text(row['message'])}\n{_details(row)}"
            for row in others
        )
        yield f"<system-out>{lines}</system-out>\n"
    yield "</testcase>\n"


def _fails(row: Row) -> bool:
    return bool(row["severity"] == FAILING)


def _details(row: Row) -> str:
    keys = ("where", "count", "expected", "found", "evidence", "known_issue")
    return "\n".join(f"{key}: {_text(cell(row[key]))}" for key in keys)


def _text(text: str) -> str:
    """Text of an element; control characters, which XML cannot hold, made visible."""
    return escape_xml(escape(text))


def _attribute(text: str) -> str:
    """A quoted attribute value."""
    return quoteattr(escape(text))
