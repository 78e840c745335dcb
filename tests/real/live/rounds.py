# SPDX-License-Identifier: LGPL-2.1-or-later
"""A round: summary, hvo and check of a kernel that changes meanwhile.

Runs inside the guest on /proc/kcore and outside of it over QMP; each round has a fresh
Kernel over the same Target.
"""

from __future__ import annotations

import io
import json
import time
from itertools import cycle
from typing import Any

import click

from vmemmap_tools.commands import VerbGroup
from vmemmap_tools.commands.session import Session
from vmemmap_tools.kernel.kernel import Kernel

__all__ = ["VERBS", "play_round", "print_verb"]

VERBS = ("summary", "hvo", "check")

OTHERS = (
    ["zones", "--all"],
    ["sections"],
    ["map"],
    ["dax"],
    ["hvo", "--folios"],
    ["info"],
    ["page", "pfn:0x188000"],
)
"""One of these besides in each round; the page is the device's that becomes memory."""

_others = cycle(OTHERS)


def print_verb(kernel: Kernel, words: list[str], form: str = "json") -> tuple[str, int]:
    """What a verb prints about this kernel, and its exit status."""
    out = io.StringIO()
    session = Session(lambda: kernel, format=form, stream=out)
    group, status = VerbGroup("vmemmap"), 0
    try:
        with group.make_context("vmemmap", words, obj=session) as context:
            group.invoke(context)
    except click.exceptions.Exit as leave:
        status = leave.exit_code
    return out.getvalue(), status


def play_round(kernel: Kernel) -> dict[str, Any]:
    """Ask the verbs, and one other; return what is worth telling of it."""
    started = time.monotonic()
    json.loads(print_verb(kernel.fresh(), next(_others))[0])
    answers = {
        verb: json.loads(print_verb(kernel.fresh(), [verb])[0]) for verb in VERBS
    }
    rules = answers["check"]["totals"]["rules"]
    return {
        "seconds": time.monotonic() - started,
        "folios": answers["hvo"]["totals"]["folios"],
        "optimised": answers["hvo"]["totals"]["optimised"],
        "sections": answers["summary"]["totals"]["sections"],
        "findings": answers["check"]["rows"],
        "dismissed": {r["rule"]: r["dismissed"] for r in rules if r["dismissed"]},
        "missing": {verb: answer["missing"] for verb, answer in answers.items()},
    }
