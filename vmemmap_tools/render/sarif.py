# SPDX-License-Identifier: LGPL-2.1-or-later
"""SARIF 2.1.0, the form in which code-scanning services take findings.

Only for reports whose rows are findings and whose totals list the rules (`check`).
What a finding is about is no file but a section, folio or frame: a logical location.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from .report import Report, Row

__all__ = ["render_sarif"]

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"E": "error", "W": "warning", "I": "note"}


def render_sarif(report: Report, stream: TextIO) -> None:
    """Write one run: the rules, a result for each finding, what was not checked."""
    rows = list(report.rows)
    totals = report.totals()
    rules = totals["rules"]
    index = {rule["rule"]: i for i, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": f"vmemmap {report.verb}",
                "rules": [_rule(rule) for rule in rules],
            }
        },
        "results": [_result(row, index) for row in rows],
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    _notification(rule) for rule in rules if rule["status"] != "checked"
                ],
            }
        ],
        "properties": {
            "kernel": report.kernel,
            "schema": report.schema,
            "missing": report.missing(),
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    stream.write(json.dumps(log, indent=1) + "\n")


def _rule(rule: Row) -> dict[str, Any]:
    return {
        "id": rule["rule"],
        "shortDescription": {"text": rule["statement"]},
        "defaultConfiguration": {"level": LEVELS[rule["severity"]]},
        "properties": {"docs": rule["docs"]},
    }


def _result(row: Row, index: dict[str, int]) -> dict[str, Any]:
    where = row["where"]
    return {
        "ruleId": row["rule"],
        "ruleIndex": index[row["rule"]],
        "level": LEVELS[row["severity"]],
        "message": {"text": row["message"]},
        "occurrenceCount": row["count"],
        "locations": [
            {
                "logicalLocations": [
                    {
                        "name": str(where["id"]),
                        "fullyQualifiedName": f"{where['kind']}:{where['id']}",
                        "kind": where["kind"],
                    }
                ]
            }
        ],
        "properties": {
            key: row[key] for key in ("expected", "found", "evidence", "known_issue")
        },
    }


def _notification(rule: Row) -> dict[str, Any]:
    return {
        "level": "note",
        "message": {"text": f"{rule['status']}: {rule['why']}"},
        "associatedRule": {"id": rule["rule"]},
    }
