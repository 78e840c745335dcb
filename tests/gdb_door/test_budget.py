# SPDX-License-Identifier: LGPL-2.1-or-later
"""``set vmemmap budget``: a slow line is not kept busy beyond what was allowed."""

from __future__ import annotations

from pathlib import Path

from tests.target.gdb.machines import Stopped

from .door import LOADER
from .runner import Gdb
from .stub import Stub

BUDGET = 100_000
STATUS = "output $vmemmap_status"
QUESTION = "vmemmap --format json hvo --folios"


def test_a_command_stops_at_its_budget_and_comes_further_the_next_time(
    gdb: Gdb, tmp_path: Path
) -> None:
    stopped = Stopped("four-level", tmp_path)
    machine = stopped.behind_a_stub(monitor=stopped.monitor)
    with Stub(machine, tmp_path / "stub") as stub:
        answers = gdb.run(
            f"symbol-file {stopped.vmlinux}",
            f"target remote {stub.path}",
            f"source {LOADER}",
            "set vmemmap types vmcoreinfo",
            "vmemmap info",
            "show vmemmap budget",
            f"set vmemmap budget {BUDGET}",
            *[QUESTION, STATUS] * 30,
            f"source {LOADER}",
            "show vmemmap budget",
            "set vmemmap budget 0",
            QUESTION,
        )
    *_, shown, _ = (a.text for a in answers[:7])
    assert shown.endswith("from a stub: 0.\n")
    asked, statuses = answers[7:67:2], answers[8:67:2]
    errors = [answer.error for answer in asked if answer.error is not None]
    assert 2 <= len(errors) < 30 and asked[-1].error is None
    for error in errors:
        assert f"asked for more than {BUDGET} bytes (set vmemmap budget)" in error
        assert "\n" not in error
    expected = ["0" if answer.error is None else "2" for answer in asked]
    assert [status.text for status in statuses] == expected
    assert not machine.is_physical
    assert answers[68].text.endswith(f": {BUDGET}.\n")
    assert answers[-1].error is None and answers[-1].text == asked[-1].text
