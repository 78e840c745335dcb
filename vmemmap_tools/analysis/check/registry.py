# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rules and what is to be said about each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from ...kernel.gaps import PARTS
from .findings import SEVERITIES, Violation

if TYPE_CHECKING:
    from .context import Context

__all__ = ["FAMILIES", "RULES", "Rule", "all_rules", "rule"]

Check = Callable[["Context"], Iterator[Violation]]
Applies = Callable[["Context"], "str | None"]

FAMILIES = {
    "S": "sections",
    "Z": "shared tail pages",
    "F": "hugetlb folios",
    "C": "counters",
    "P": "device memory",
}
"""First letter of a rule's id -> what the rules of that family are about."""

RESTS_ON: Mapping[str, tuple[str, ...]] = {
    "S": ("sections",),
    "Z": ("zones", "page tables"),
    "F": ("hstates", "folios"),
    "C": (),
    "P": ("device maps", "sections"),
}
"""Family -> parts of the kernel (`gaps.PARTS`) in which its rules look for things.

Where one is incomplete, such a rule may have missed some of them.
"""


@dataclass(frozen=True)
class Rule:
    """A rule: what must hold, and everything that helps to read a finding.

    ``applies`` gives the reason why the rule does not apply to a kernel, or None. Of
    ``needs`` (keys of `gaps.PARTS`) nothing may be missing, or what is there would
    look wrong for want of the rest: then the rule is not checked.
    ``racy`` rules read what a running kernel changes meanwhile. ``thorough`` ones read
    much and are left out by ``--quick``; of others it leaves out ``quick_omits``.
    """

    id: str
    statement: str
    severity: str
    holds: str
    reads: tuple[str, ...]
    bug: str
    why: str
    look: str
    applies: Applies
    check: Check
    needs: tuple[str, ...] = ()
    racy: bool = False
    thorough: bool = False
    exceptions: str = ""
    quick_omits: str = ""

    def hindrance(self, context: Context) -> str | None:
        """What is missing without which this rule would see damage that is none."""
        return next(filter(None, map(context.gap, self.needs)), None)

    def gap(self, context: Context) -> str | None:
        """What is missing of the parts in which this rule looks; None if nothing is."""
        parts = RESTS_ON.get(self.id[0], ())
        return next(filter(None, map(context.gap, parts)), None)

    @property
    def docs(self) -> str:
        """Where the documentation describes the rule."""
        return f"docs/check.md#{self.id.lower()}"


RULES: dict[str, Rule] = {}
"""All rules by id, in the order in which the families' files define them."""


def _always(context: Context) -> str | None:
    return None


def rule(
    id: str,
    statement: str,
    *,
    severity: str,
    holds: str,
    reads: tuple[str, ...],
    bug: str,
    why: str,
    look: str,
    applies: Applies = _always,
    needs: tuple[str, ...] = (),
    racy: bool = False,
    thorough: bool = False,
    exceptions: str = "",
    quick_omits: str = "",
) -> Callable[[Check], Check]:
    """Register the decorated generator function as a rule."""
    assert severity in SEVERITIES
    assert id not in RULES
    assert id[0] in FAMILIES
    assert set(needs) <= set(PARTS)

    def register(check: Check) -> Check:
        RULES[id] = Rule(
            id=id,
            statement=statement,
            severity=severity,
            holds=holds,
            reads=reads,
            bug=bug,
            why=why,
            look=look,
            applies=applies,
            check=check,
            needs=needs,
            racy=racy,
            thorough=thorough,
            exceptions=exceptions,
            quick_omits=quick_omits,
        )
        return check

    return register


def all_rules() -> list[Rule]:
    """Every rule, by family and number."""
    order = list(FAMILIES)
    return sorted(RULES.values(), key=lambda r: (order.index(r.id[0]), int(r.id[1:])))
