# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap check"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ..analysis.check import Account, Checker, Finding, Rule
from ..analysis.check.findings import SEVERITIES, group
from ..analysis.check.known import KNOWN_ISSUES
from ..analysis.check.registry import FAMILIES, all_rules
from ..render import CHECK_FORMATS, FORMATS, Column, Detail, Report, Row, place_kind
from ..target.base import TargetError
from .options import choose_format
from .session import Session

COLUMNS = (
    Column("rule", "RULE"),
    Column("severity", "SEV"),
    Column("where", "WHERE", "place"),
    Column("count", "COUNT", "int"),
    Column("message", "FINDING"),
)

RULE_COLUMNS = (
    Column("rule", "RULE"),
    Column("severity", "SEV"),
    Column("statement", "STATEMENT"),
)

FOUND_ERROR = 1


def _choose(
    ctx: click.Context, parameter: click.Parameter, words: tuple[str, ...]
) -> tuple[Rule, ...]:
    """Rules by id or by the letter of a family. Raises click.BadParameter."""
    chosen = []
    for word in words:
        name = word.upper()
        found = [r for r in all_rules() if name in (r.id, r.id[0])]
        if not found:
            raise click.BadParameter(f"no rule {word!r} (see --list).")
        chosen += found
    return tuple(chosen)


SEVERITY_WORDS = {"E": "error", "W": "warning", "I": "information"}


def _tell(session: Session, rules: Sequence[Rule], whole: bool) -> None:
    """Rules themselves, without a kernel: a line for each, or all about them."""
    if session.format == "table":
        for rule in rules:
            line = f"{rule.id:<4} {rule.severity}  {rule.statement}"
            click.echo("\n".join(_screen(rule)) if whole else line, file=session.stream)
        return
    if session.format not in FORMATS:
        raise click.UsageError(
            f"--list and --explain have no {session.format} form: they take "
            f"--format {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        )
    rows = [_about(rule) for rule in rules]
    session.emit(Report("check-rules", {}, rows, RULE_COLUMNS))


def _about(rule: Rule) -> dict[str, Any]:
    """A rule as a row; None where there is nothing to say."""
    return {
        "rule": rule.id,
        "severity": rule.severity,
        "family": FAMILIES[rule.id[0]],
        "statement": rule.statement,
        "why": rule.why,
        "holds": rule.holds,
        "exceptions": rule.exceptions or None,
        "reads": ", ".join(rule.reads),
        "bug": rule.bug,
        "look": rule.look,
        "racy": rule.racy,
        "thorough": rule.thorough,
        "docs": rule.docs,
    }


def _screen(rule: Rule) -> Iterator[str]:
    """One screen about a rule."""
    words = [SEVERITY_WORDS[rule.severity], FAMILIES[rule.id[0]]]
    words += ["re-read on a live kernel"] if rule.racy else []
    words += ["left out by --quick"] if rule.thorough else []
    yield f"{rule.id} ({', '.join(words)})"
    for title, text in (
        ("What must hold", rule.statement),
        ("Why", rule.why),
        ("Holds in", rule.holds),
        ("Exceptions", rule.exceptions),
        ("Reads", ", ".join(rule.reads)),
        ("What breaks it", rule.bug),
        ("By hand", rule.look),
        ("More", rule.docs),
    ):
        if text:
            yield click.wrap_text(
                f"{title}: {text}", 78, initial_indent="  ", subsequent_indent="    "
            )


@click.command()
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="RULE",
    callback=_choose,
    help="Only this rule, or those of a family (S, Z, F, C, P). May be repeated.",
)
@click.option(
    "--skip",
    multiple=True,
    metavar="RULE",
    callback=_choose,
    help="Not this rule or family. May be repeated.",
)
@click.option(
    "--min-severity",
    type=click.Choice(SEVERITIES, case_sensitive=False),
    metavar="E|W|I",
    default="I",
    show_default=True,
    help="Leave out findings below it: error, warning, information.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Leave out what reads much: tails of folios, lists, stale heads.",
)
@click.option("--all", "each", is_flag=True, help="Each finding, not one per cause.")
@click.option(
    "--list",
    "list_all",
    is_flag=True,
    help="A line for each rule. Opens no kernel.",
)
@click.option(
    "--explain",
    multiple=True,
    metavar="RULE",
    callback=_choose,
    help="What a rule says, why it must hold, and how to look by hand. Opens no "
    "kernel. May be repeated.",
)
@click.option(
    "--format",
    type=click.Choice(CHECK_FORMATS),
    expose_value=False,
    callback=choose_format,
    help="How to print the answer; sarif and junit are for CI.  [default: table]",
)
@click.pass_context
def command(
    ctx: click.Context,
    rules: tuple[Rule, ...],
    skip: tuple[Rule, ...],
    min_severity: str,
    quick: bool,
    each: bool,
    list_all: bool,
    explain: tuple[Rule, ...],
) -> None:
    """Is the vmemmap right? Consistency rules for sections, shared tail pages, hugetlb
    folios, counters and device memory.

    Findings with one cause are shown once, with a count. SEV is E (corruption),
    W (suspicious) or I (worth knowing); KNOWN ISSUE names a kernel defect whose pattern
    fits. What could not be read is never a finding: the answer ends with what was
    checked and what was not. On a running kernel a finding has to show unaltered in
    all of several readings.

    Exit status: 0 if there is no finding of severity E, 1 if there is one, 2 for wrong
    use or a kernel that cannot be read.
    """
    session = ctx.find_object(Session) or Session()
    if list_all or explain:
        _tell(session, explain or all_rules(), whole=bool(explain))
        return
    chosen = [r for r in all_rules() if r not in skip and (not rules or r in rules)]
    if not chosen:
        raise click.UsageError("--skip leaves no rule to check")
    kernel = session.open_kernel()
    if not kernel.types_are_known:
        raise TargetError(NO_TYPES)
    checker = Checker(kernel, chosen, quick, session.progress)
    lowest = SEVERITIES.index(min_severity.upper())
    tally = _Tally()

    def rows() -> Iterator[dict[str, Any]]:
        found = checker.findings()
        for finding in found if each else group(found):
            tally.count(finding)
            if SEVERITIES.index(finding.severity) <= lowest:
                yield finding.as_dict()

    session.emit(
        Report(
            verb="check",
            kernel=kernel.describe(),
            rows=rows(),
            columns=COLUMNS,
            details=_details,
            totals=lambda: tally.totals(checker.accounts),
            totals_columns=TOTALS,
            missing=kernel.missing.as_dict,
            notes=lambda: list(_notes(tally, checker.accounts)),
            empty=lambda: _no_finding(checker.accounts),
        )
    )
    if tally.by_severity["E"]:
        ctx.exit(FOUND_ERROR)


CHECKED = "checked", "partly"
"""Status of rules that looked, at least in part."""


def _no_finding(accounts: dict[str, Account]) -> str:
    """What the absence of findings means."""
    blind = [a for a in accounts.values() if a.could_not_look]
    if not blind and not any(a.status in CHECKED for a in accounts.values()):
        return "nothing was checked"
    if not blind:
        return "no finding"
    return (
        f"cannot be determined: {len(blind)} of {len(accounts)} rules could not look "
        "at all that they need, and the others found nothing"
    )


def _details(row: Row) -> Iterator[Detail]:
    """What a reader of the table wants to see of a finding besides."""
    if row["expected"] is not None or row["found"] is not None:
        yield "expected", row["expected"], "text"
        yield "found", row["found"], "text"
    evidence = dict(row["evidence"])
    others = evidence.pop("also_at", [])
    if evidence:
        yield "evidence", evidence, "text"
    if others:
        yield "also at", others, place_kind(row["where"]["kind"])
    if row["known_issue"] is not None:
        yield "known issue", row["known_issue"], "text"


NO_TYPES = (
    "check needs the kernel's types, which VMCOREINFO alone does not have: give a "
    "vmlinux or BTF with -s"
)

TOTALS = (
    Column("errors", "Errors", "int", needs_all=True),
    Column("warnings", "Warnings", "int", needs_all=True),
    Column("information", "Information", "int", needs_all=True),
    Column("checked", "Rules checked", "int"),
    Column("partly", "Rules checked in part", "int"),
    Column("not_checked", "Rules not checked", "int"),
    Column("not_applicable", "Rules not applicable", "int"),
)


class _Tally:
    """Counts findings as they pass."""

    def __init__(self) -> None:
        self.by_severity: Counter[str] = Counter()
        self.known: Counter[str] = Counter()

    def count(self, finding: Finding) -> None:
        self.by_severity[finding.severity] += finding.count
        if finding.known_issue is not None:
            self.known[finding.known_issue] += finding.count

    def totals(self, accounts: dict[str, Account]) -> dict[str, Any]:
        """Findings by severity, and for each rule what became of it.

        Where rules could not look, nobody knows how many findings there are.
        """
        status = Counter(account.status for account in accounts.values())
        is_whole = not any(account.could_not_look for account in accounts.values())
        return {
            "errors": self.by_severity["E"] if is_whole else None,
            "warnings": self.by_severity["W"] if is_whole else None,
            "information": self.by_severity["I"] if is_whole else None,
            "checked": status["checked"],
            "partly": status["partly"],
            "not_checked": status["not checked"],
            "not_applicable": status["not applicable"],
            "dismissed": sum(a.dismissed for a in accounts.values()),
            "known_issues": dict(self.known),
            "rules": [account.as_dict() for account in accounts.values()],
        }


def _notes(tally: _Tally, accounts: dict[str, Account]) -> Iterator[str]:
    """The closing account in words."""
    for name, count in tally.known.items():
        issue = KNOWN_ISSUES[name]
        findings = "finding" if count == 1 else "findings"
        yield f"known issue {name} ({count} {findings}): {issue.summary}"
        yield f"  mended by: {issue.fix}"
    by_why: dict[tuple[str, str], list[str]] = {}
    for account in accounts.values():
        if account.status != "checked":
            key = account.status, account.why or ""
            by_why.setdefault(key, []).append(account.rule.id)
        if account.dismissed:
            yield (
                f"{account.rule.id}: {account.dismissed} findings dismissed, since "
                "further readings did not show them"
            )
        if account.not_listed:
            yield f"{account.rule.id}: {account.not_listed} more findings not listed"
    for (status, why), ids in by_why.items():
        yield f"{status}: {' '.join(ids)}: {why}"
