# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that changes all the time, looked at from inside and outside.

Loops allocate and free huge pages of both sizes, switch the policy of HVO, unbind and
bind DAX devices with and without an altmap, and turn one into System RAM and back.
Every look has to come to an end, without a traceback and without a false error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from ..cache import say
from ..compare import Compare
from ..conftest import shown
from ..test_check import expected_errors
from ..truth import Truth
from .doors import Door
from .guest import LiveGuest

LOOPS = ("pools", "policy", "devices", "memory")
SCRIPT = Path(__file__).parents[1] / "guest" / "churn.sh"

LIMIT = 1200
"""Seconds after which a round counts as hanging; a slow host needs some 100."""

Rounds = dict[str, list[dict[str, Any]]]


@contextmanager
def changing(guest: LiveGuest) -> Iterator[Counter[str]]:
    """Run the loops; the counter has their turns when they have ended."""
    turns: Counter[str] = Counter()
    guest.ask("write", path="/run/churn", text=SCRIPT.read_text())
    guest.run("/bin/killall", "hold")  # whose mappings keep devices from leaving
    for loop in LOOPS:
        guest.run("/bin/sh", "-c", f"/run/churn {loop} > /run/churn-{loop} 2>&1 &")
    try:
        yield turns
    finally:
        guest.run("/bin/killall", "churn")
        for loop in LOOPS:
            _, told, _ = guest.run("/bin/cat", f"/run/churn-{loop}")
            turns[loop] = sum(line.isdigit() for line in told.splitlines())


@pytest.fixture(scope="session")
def rounds(
    guest: LiveGuest,
    doors: dict[str, Door],
    truth: Truth,
    request: pytest.FixtureRequest,
) -> tuple[Rounds, Counter[str]]:
    """What each door told in each round, and how often the loops went round."""
    number = request.config.getoption("--rounds")
    for door in doors.values():
        door.ask("summary")  # what the kernel is like, before it changes

    given_up = Event()

    def play(door: Door) -> list[dict[str, Any]]:
        return [door.play_round() for _ in range(number) if not given_up.is_set()]

    with shown(request.config):
        say(f"{guest.kernel.abi} live: {number} rounds")
    with changing(guest) as turns, ThreadPoolExecutor(len(doors)) as pool:
        running = {name: pool.submit(play, door) for name, door in doors.items()}
        try:
            told = {name: r.result(number * LIMIT) for name, r in running.items()}
        finally:
            given_up.set()
    return told, turns


def test_the_guest_does_change(
    guest: LiveGuest, rounds: tuple[Rounds, Counter[str]], compare: Compare
) -> None:
    told, turns = rounds
    said = ", ".join(f"{turns[loop]} of {loop}" for loop in LOOPS)
    compare.true("turns of the loops", all(turns[loop] for loop in LOOPS), said)
    for what in ("folios", "optimised", "sections"):
        values = {r[what] for door in told.values() for r in door}
        compare.true(f"{what} seen", len(values) > 1, f"{min(values)}-{max(values)}")


def test_no_look_at_it_tells_an_error_that_is_not_there(
    door: Door,
    rounds: tuple[Rounds, Counter[str]],
    truth: Truth,
    compare: Compare,
) -> None:
    told = rounds[0][door.name]
    has = {issue for _, issue in expected_errors(door, truth)}  # type: ignore[arg-type]
    false = Counter(
        f"{row['rule']} {row['severity']} {row['message']}"
        for played in told
        for row in played["findings"]
        if row["severity"] == "E" and row["known_issue"] not in has
    )
    mean = sum(played["seconds"] for played in told) / len(told)
    said = f"{len(told)} rounds of {mean:.0f} s on average"
    compare.equal("check: false errors", dict(false), {}, said)
    others = Counter(
        f"{row['rule']} {row['severity']} {row['known_issue'] or row['message']}"
        for played in told
        for row in played["findings"]
        if row["severity"] != "I"
    )
    compare.true("check: what it told", True, _listed(others))
    dismissed: Counter[str] = Counter()
    for played in told:
        dismissed.update(played["dismissed"])
    compare.true("check: races dismissed", True, _listed(dismissed))


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n} of {what}" for what, n in sorted(counts.items())) or "none"
