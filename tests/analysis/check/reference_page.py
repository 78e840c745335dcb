# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part of docs/check.md that says of each rule what ``check --explain`` says.

``python -m tests.analysis.check.reference_page`` writes it anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from vmemmap_tools.analysis.check.known import KNOWN_ISSUES
from vmemmap_tools.analysis.check.registry import FAMILIES, Rule, all_rules

PAGE = Path(__file__).parents[3] / "docs" / "check.md"
FIRST = f"## {FAMILIES['S'].capitalize()}\n"
WIDTH = 96


def reference() -> str:
    """All families, rules and known issues as Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    family = ""
    for rule in all_rules():
        if rule.id[0] != family:
            family = rule.id[0]
            yield from (f"## {FAMILIES[family].capitalize()}", "")
        yield from (f"### {rule.id}", "")
        for paragraph in _paragraphs(rule):
            yield from (*textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False), "")
    yield from ("## Known issues", "")
    for issue in KNOWN_ISSUES.values():
        yield from (f"### {issue.name}", "")
        for paragraph in (_sentence(issue.summary), f"*Mended by:* {issue.fix}"):
            yield from (*textwrap.wrap(paragraph, WIDTH, break_on_hyphens=False), "")


def _paragraphs(rule: Rule) -> Iterator[str]:
    yield f"**{rule.statement}** ({rule.severity}; {rule.holds})"
    yield _sentence(rule.why)
    yield f"*What breaks it:* {rule.bug}."
    yield f"*By hand:* {rule.look}"
    if rule.exceptions:
        yield f"*Exceptions:* {rule.exceptions}"


def _sentence(text: str) -> str:
    """With a capital letter, unless it begins with a name of the kernel's."""
    is_name = any(c in text.split(maxsplit=1)[0] for c in "_()")
    start = text[0] if is_name else text[0].upper()
    end = "" if text.endswith(".") else "."
    return start + text[1:] + end


def written() -> str:
    """That part of the page as it stands in the docs."""
    return PAGE.read_text()[PAGE.read_text().index(FIRST) :]


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(FIRST)] + reference())
