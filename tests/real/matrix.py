# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which runs are compared: matrices of suite and variant, made or taken as cached."""

from __future__ import annotations

from dataclasses import dataclass

from .kernels import fetch, newest_suite
from .runs import RARE, VARIANTS, Run, boot, cached_runs

__all__ = ["HELP", "Choice", "chosen"]

DEFAULT = (
    "bookworm:kaslr",
    "trixie:kaslr",
    "newest:kaslr",
    "newest:la57",
    "newest:nohvo",
    "newest:kmem",
    "bookworm:pools",
    "bookworm:removed",
    "trixie:hosted",
    "trixie:uma",
    "newest:partial",
)
"""6.1, 6.12 and the newest kernel; each rare guest on one of them."""

FULL = (
    *(f"{suite}:{v}" for suite in ("bookworm", "trixie", "newest") for v in VARIANTS),
    *(f"bookworm:{v}" for v in ("pools", "removed", "partial", "uma")),
    *(f"trixie:{v}" for v in ("hosted", "partial", "uma")),
    *(f"newest:{v}" for v in ("removed", "hosted", "partial", "uma")),
    "sid:kaslr",
    "trixie-security:kaslr",
)
"""Rare guests where the kernel bears them: the README says which does not."""

HELP = (
    f"runs to compare: 'default' ({', '.join(DEFAULT)}), 'full', 'cached' (all in the "
    "cache, nothing is booted), or a list SUITE:VARIANT,..."
)


@dataclass(frozen=True)
class Choice:
    """A run that is wanted: made when first asked for, unless it is *cached*."""

    suite: str
    variant: str
    cached: Run | None = None

    def __str__(self) -> str:
        return f"{self.suite}-{self.variant}"

    def run(self) -> Run:
        """Return the run, fetched and booted now unless the cache has it.

        :raises RealError: if that fails
        """
        if self.cached is not None:
            return self.cached
        suite = newest_suite() if self.suite == "newest" else self.suite
        return boot(fetch(suite), self.variant)


def chosen(matrix: str) -> list[Choice]:
    """Return the runs that *matrix* names (see :data:`HELP`).

    :raises ValueError: if it is neither a matrix nor a list of them
    """
    if matrix == "cached":
        return [Choice(run.release, run.variant, run) for run in cached_runs()]
    named = {"default": DEFAULT, "full": FULL}.get(matrix)
    choices = []
    for name in named or matrix.split(","):
        suite, _, variant = name.partition(":")
        if not suite or variant not in (*VARIANTS, *RARE):
            raise ValueError(
                f"{name!r} is no matrix and no SUITE:VARIANT "
                f"(variants: {', '.join((*VARIANTS, *RARE))})"
            )
        choices.append(Choice(suite, variant))
    return choices
