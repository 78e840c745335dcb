# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running rules over a kernel, and the account of what was checked.

On a live kernel a finding of a racy rule counts only when further readings, each
through a fresh Kernel, show it as it was (`live`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ...kernel.kernel import Kernel
from ...target.base import Fault, TargetError
from .context import Context, Progress, silent
from .findings import Finding, Violation
from .live import confirm
from .registry import Rule

__all__ = ["MAX_FINDINGS", "Account", "Checker"]

MAX_FINDINGS = 100_000
"""Findings of one rule that are kept; a damaged dump has no say in our memory."""


@dataclass
class Account:
    """What became of one rule.

    ``status`` is "checked", "partly" (some of it could not be read), "not checked" or
    "not applicable"; ``why`` explains the last three. ``could_not_look`` is True where
    something was missing, so that there may be more findings.
    """

    rule: Rule
    status: str = "checked"
    why: str | None = None
    examined: int = 0
    findings: int = 0
    not_listed: int = 0
    dismissed: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    could_not_look: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "rule": self.rule.id,
            "severity": self.rule.severity,
            "statement": self.rule.statement,
            "docs": self.rule.docs,
            "status": self.status,
            "why": self.why,
            "examined": self.examined,
            "findings": self.findings,
            "not_listed": self.not_listed,
            "dismissed": self.dismissed,
            "unread": dict(self.unread),
        }


class Checker:
    """Runs rules over one kernel; ``accounts`` is complete when `findings` ends."""

    def __init__(
        self,
        kernel: Kernel,
        rules: Sequence[Rule],
        quick: bool = False,
        progress: Progress = silent,
    ):
        self.kernel = kernel
        self._rules = rules
        self._quick = quick
        self._progress = progress
        self.accounts: dict[str, Account] = {}

    def findings(self) -> Iterator[Finding]:
        """All findings, rule by rule."""
        context = Context(self.kernel, self._progress, self._quick)
        with suppress(Fault, TargetError):
            self.kernel.hugetlb.folios()  # most rules ask: one look serves all
        found = {rule.id: self._run(context, rule) for rule in self._rules}
        if self.kernel.target.live:
            found = self._confirmed(found)
        for rule in self._rules:
            self.accounts[rule.id].findings = len(found[rule.id])
            yield from found[rule.id]

    def _run(self, context: Context, rule: Rule) -> list[Finding]:
        account = self.accounts[rule.id] = Account(rule)
        if rule.thorough and self._quick:
            account.status, account.why = "not checked", "left out by --quick"
            return []
        context.begin()
        found: list[Finding] = []
        try:
            account.why = rule.hindrance(context)
            if account.why is None:
                account.why = rule.applies(context)
                if account.why is not None:
                    account.status = "not applicable"
                    self._look_for_gaps(context, rule, account)
                    return []
            else:
                account.status, account.could_not_look = "not checked", True
                return []
            for violation in rule.check(context):
                if len(found) < MAX_FINDINGS:
                    found.append(as_finding(rule, violation))
                else:
                    account.not_listed += 1
        except Fault as fault:
            context.unread(fault, f"what {rule.id} reads")
            account.status, account.why = "partly", f"ended early: {fault}"
        except TargetError as error:
            account.status, account.why = "not checked", str(error)
            account.could_not_look = True
        account.examined = context.examined
        account.unread = context.unread_counts
        if account.unread:
            account.could_not_look = True
            if account.status == "checked":
                kinds = ", ".join(f"{n} {kind}" for kind, n in account.unread.items())
                account.status, account.why = "partly", f"not in the dump: {kinds}"
        self._look_for_gaps(context, rule, account)
        if context.left_out and account.status == "checked":
            account.status, account.why = "partly", "; ".join(context.left_out)
        if self._quick and rule.quick_omits and account.status == "checked":
            account.status = "partly"
            account.why = f"--quick leaves out {rule.quick_omits}"
        if not account.examined and not found and account.status == "checked":
            account.why = "nothing of the kind is there"
        return found

    @staticmethod
    def _look_for_gaps(context: Context, rule: Rule, account: Account) -> None:
        """Mark a rule that looked in incomplete parts as checked in part at most."""
        why = rule.gap(context)
        if why is None:
            return
        account.could_not_look = True
        if account.status == "not applicable" or not account.examined:
            account.status, account.why = "not checked", why
        elif account.status == "checked":
            account.status, account.why = "partly", why

    def _confirmed(self, found: dict[str, list[Finding]]) -> dict[str, list[Finding]]:
        """Without those findings of racy rules that later readings do not show."""
        racy = [rule for rule in self._rules if rule.racy and found[rule.id]]
        result = confirm(
            self.kernel,
            racy,
            {rule.id: found[rule.id] for rule in racy},
            self._progress,
        )
        for rule in racy:
            account = self.accounts[rule.id]
            account.dismissed = result.dismissed[rule.id]
            if rule.id in result.failed:
                lost, why = result.failed[rule.id]
                account.status = "partly"
                account.why = f"{lost} findings could not be looked for again: {why}"
        return {**found, **result.kept}


def as_finding(rule: Rule, violation: Violation) -> Finding:
    """A violation with its rule's id and severity."""
    return Finding(
        rule=rule.id,
        severity=violation.severity or rule.severity,
        where=violation.where,
        cause=violation.cause,
        message=violation.message,
        expected=violation.expected,
        found=violation.found,
        evidence=violation.evidence,
        known_issue=violation.known_issue,
    )
