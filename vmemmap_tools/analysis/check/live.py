# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running kernel changes between two reads: findings have to show again.

Page tables and struct pages are read at different times, and the kernel rewrites both
step by step (hot add, optimisation, restore). What three independent readings agree on
is no step of such an operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...kernel.kernel import Kernel
from ...target.base import Fault, TargetError
from .context import Context, Progress
from .findings import Finding
from .registry import Rule

__all__ = ["FURTHER_READINGS", "confirm"]

FURTHER_READINGS = 2


def confirm(
    kernel: Kernel,
    rules: Sequence[Rule],
    found: Mapping[str, Sequence[Finding]],
    progress: Progress,
) -> tuple[dict[str, list[Finding]], dict[str, int]]:
    """(findings that every further reading shows, number dismissed), by rule."""
    kept = {rule.id: list(found[rule.id]) for rule in rules}
    for _ in range(FURTHER_READINGS):
        pending = [rule for rule in rules if kept[rule.id]]
        if not pending:
            break
        again = _read_again(kernel, pending, progress)
        for rule in pending:
            kept[rule.id] = [
                f for f in kept[rule.id] if (f.cause, f.where) in again[rule.id]
            ]
    dismissed = {rule.id: len(found[rule.id]) - len(kept[rule.id]) for rule in rules}
    return kept, dismissed


def _read_again(
    kernel: Kernel, rules: Iterable[Rule], progress: Progress
) -> dict[str, set[tuple[str, object]]]:
    """What a fresh reading of the kernel shows, by rule."""
    context = Context(kernel.fresh(), progress)
    again: dict[str, set[tuple[str, object]]] = {}
    for rule in rules:
        seen = again[rule.id] = set()
        context.begin()
        try:
            if rule.applies(context) is None and rule.hindrance(context) is None:
                for violation in rule.check(context):
                    seen.add((violation.cause, violation.where))
        except (Fault, TargetError):
            continue  # A reading that failed confirms nothing.
    return again
