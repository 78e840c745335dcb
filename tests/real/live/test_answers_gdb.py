# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb on the guest's own /proc/kcore, inside the guest, which holds still meanwhile.

Every verb is the command line's on the same file, and each lx-* line what QEMU's walk
and kallsyms make of it: the comparisons of the dumps. With the kernel's symbols and
without any file.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gdb_door.runner import Answer
from tests.target.gdb.cores import without_sources

from ..compare import Compare
from ..test_gdb import Judge
from ..truth import Truth
from ..walk import QemuWalk
from .guest import LiveGuest

VERBS = (
    "info",
    "summary",
    "sections",
    "hvo --folios",
    "page pfn:0x150000",
    "walk vmemmap_base",
    "check --quick",
)
BARE = "hvo --folios"
"""Asked without a vmlinux, too: by the BTF and kallsyms in memory."""


def some_lines(judge: Judge) -> dict[str, str]:
    """{command: line}, each command once, and two areas that no arithmetic reaches.

    Every command reads anew of a live kernel, which takes its time in such a guest.
    """
    lines = dict(judge.lines())
    by_name = {command.split()[0]: command for command in reversed(lines)}
    walked = [va for area, va in judge.addresses.items() if area.startswith("vm")]
    chosen = [*by_name.values(), *(f"lx-virt_to_phys {va:x}" for va in walked)]
    return {command: lines[command] for command in chosen}


def some_refused(judge: Judge) -> list[str]:
    """One question of each command that has no answer."""
    return list({command.split()[0]: command for command in judge.refused()}.values())


def by_command_line(guest: LiveGuest, verb: str) -> Any:
    """What the command line in the guest answers that finds nothing read before."""
    text, _ = guest.ask("verb_anew", words=verb.split(), form="json")
    return comparable(text)


def comparable(text: str) -> Any:
    """An answer without its sources, and without counts of what comes and goes.

    `check` counts for each rule what it has looked at, processes among it.
    """
    answer = without_sources(json.loads(text))
    if "rules" in answer["totals"]:
        answer["totals"]["rules"] = [r["rule"] for r in answer["totals"]["rules"]]
    return answer


@pytest.fixture(scope="session")
def judge(walk: QemuWalk, truth: Truth) -> Judge:
    return Judge(walk, truth)


@pytest.fixture(scope="session")
def session(guest: LiveGuest, judge: Judge) -> dict[str, Answer]:
    """What gdb in the guest answers to each command."""
    commands = [f"vmemmap --format json {verb}" for verb in VERBS]
    commands += [*some_lines(judge), *some_refused(judge)]
    return dict(zip(commands, guest.gdb(*commands)))


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_in_gdb_is_the_command_lines_on_kcore(
    session: dict[str, Answer], guest: LiveGuest, compare: Compare, verb: str
) -> None:
    answer = session[f"vmemmap --format json {verb}"]
    assert answer.error is None, answer.error
    ours = comparable(answer.text)
    said = f"{len(ours['rows'])} rows"
    expected = by_command_line(guest, verb)
    compare.equal(f"gdb on kcore: {verb} = command line", ours, expected, said)


def test_info_says_where_gdb_has_it_from(
    session: dict[str, Answer], compare: Compare
) -> None:
    rows = json.loads(session["vmemmap --format json info"].text)["rows"]
    said = {row["subject"]: f"{row['value']}; {row['source']}" for row in rows}
    for subject, source in (("memory", "/proc/kcore"), ("types", "BTF")):
        text = said[subject]
        compare.true(f"gdb on kcore: {subject}", source in text, text)


def test_lx_commands_on_kcore_are_qemus_walk(
    session: dict[str, Answer], judge: Judge, compare: Compare
) -> None:
    for command, expected in some_lines(judge).items():
        answer = session[command]
        compare.equal(
            f"gdb on kcore: {command} = info tlb, kallsyms",
            answer.error or answer.text,
            expected,
            expected.strip(),
        )
    for command in some_refused(judge):
        error = str(session[command].error)
        is_one_line = session[command].error is not None and "\n" not in error
        compare.true(f"gdb on kcore: {command} is refused", is_one_line, error)


def test_no_vmlinux_is_needed_on_kcore(guest: LiveGuest, compare: Compare) -> None:
    (answer,) = guest.gdb(f"vmemmap --format json {BARE}", has_vmlinux=False)
    assert answer.error is None, answer.error
    ours = comparable(answer.text)
    what = f"gdb on kcore, no vmlinux: {BARE} = command line"
    compare.equal(what, ours, by_command_line(guest, BARE), f"{len(ours['rows'])} rows")
