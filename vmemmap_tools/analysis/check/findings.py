# SPDX-License-Identifier: LGPL-2.1-or-later
"""Findings: what a rule says about a kernel, and how equal causes are put together.

Imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["SEVERITIES", "Finding", "Place", "Violation", "group", "hexed"]

SEVERITIES = ("E", "W", "I")
"""Gravest first: corruption, suspicious, worth knowing."""

ALSO_AT = 8
"""Further places that a group of findings names."""


@dataclass(frozen=True)
class Place:
    """Where: ``kind`` is "section", "folio", "frame", "zone", "pgmap", "hstate", ...

    ``id`` is a pfn, a section number or a name; never an address.
    """

    kind: str
    id: int | str

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "id": self.id}


@dataclass(frozen=True)
class Violation:
    """What a rule function yields. The runner adds the rule's id and severity.

    ``cause`` is a fixed phrase: violations with equal causes are shown as one. In
    ``evidence`` addresses, entries and raw words are "0x..." strings, pfns are ints.
    """

    where: Place
    cause: str
    message: str
    expected: Any = None
    found: Any = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    severity: str | None = None
    known_issue: str | None = None


@dataclass(frozen=True)
class Finding:
    """One finding, or a group of findings with one cause (``count`` of them)."""

    rule: str
    severity: str
    where: Place
    cause: str
    message: str
    expected: Any
    found: Any
    evidence: Mapping[str, Any]
    count: int = 1
    known_issue: str | None = None

    @property
    def key(self) -> tuple[str, str, Place]:
        """What makes two findings of different readings the same."""
        return self.rule, self.cause, self.where

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "severity": self.severity,
            "where": self.where.as_dict(),
            "message": self.message,
            "expected": self.expected,
            "found": self.found,
            "evidence": dict(self.evidence),
            "count": self.count,
            "known_issue": self.known_issue,
        }


def group(findings: Iterable[Finding]) -> Iterator[Finding]:
    """One finding per cause, with a count and the first further places."""
    groups: dict[tuple[str, str, str, str | None], Finding] = {}
    others: dict[tuple[str, str, str, str | None], list[Any]] = {}
    for finding in findings:
        key = (finding.rule, finding.severity, finding.cause, finding.known_issue)
        first = groups.get(key)
        if first is None:
            groups[key], others[key] = finding, []
            continue
        groups[key] = replace(first, count=first.count + finding.count)
        if len(others[key]) < ALSO_AT:
            others[key].append(finding.where.id)
    for key, finding in groups.items():
        more = {"also_at": others[key]} if others[key] else {}
        yield replace(finding, evidence={**finding.evidence, **more})


def hexed(**words: int) -> dict[str, str]:
    """Addresses, entries and raw words as they stand in evidence."""
    return {name: f"{word:#x}" for name, word in words.items()}
