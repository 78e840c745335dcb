# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ctrl-C and the pager's ``q``: the command ends, the session goes on as before.

What they raise in Python differs between versions of gdb and with what gdb is doing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.target.gdb.machines import Stopped

from .door import LOADER, Small, opening
from .runner import VERSIONS, find_gdb
from .stub import Stub
from .terminal import CTRL_C, GdbTerminal

PAGER = "without paging--"
ENDLESS = (
    "python from vmemmap_tools.kernel.kernel import Kernel; kept = Kernel.sections",
    "python exec('def spin(k):\\n print(\"spinning\", flush=True)\\n while 1: pass')",
)


@pytest.fixture(params=[VERSIONS[0], VERSIONS[-1]])
def typed_at(request: pytest.FixtureRequest, small: Small) -> Iterator[GdbTerminal]:
    """The oldest gdb and the newest, with a dump open."""
    terminal = GdbTerminal(find_gdb(request.param), *opening(small.core, small.vmlinux))
    yield terminal
    terminal.kill()


def assert_goes_on(terminal: GdbTerminal, said: str) -> None:
    """The command was left with one word, and the next ones are answered."""
    assert "Traceback" not in said and "Error" not in said
    assert said.rstrip().endswith("Quit")
    assert terminal.ask("echo alive\\n").endswith("alive\n")
    assert "Optimised:             8" in terminal.ask("vmemmap hvo")


def test_q_at_the_pager_ends_the_command(typed_at: GdbTerminal) -> None:
    typed_at.ask("set height 10")
    for leave in ("q\n", CTRL_C):
        typed_at.type("vmemmap info\n")
        typed_at.until(PAGER)
        typed_at.type(leave)
        said = typed_at.answer()
        assert "Traceback" not in said and said.rstrip().endswith("Quit")
    typed_at.ask("set height 0")
    assert_goes_on(typed_at, said)


def test_a_pipe_whose_reader_leaves_early_is_no_trouble(typed_at: GdbTerminal) -> None:
    said = typed_at.ask("pipe vmemmap info | head -n 1")
    assert "SUBJECT" in said and "Traceback" not in said
    assert typed_at.ask("echo alive\\n").endswith("alive\n")


def test_ctrl_c_while_python_computes(typed_at: GdbTerminal) -> None:
    for line in ENDLESS:
        typed_at.ask(line)
    typed_at.ask("python Kernel.sections = property(spin)")
    for command in ("vmemmap sections", "lx-pfn_to_page 1", "print $lx_page(1)"):
        typed_at.type(f"{command}\n")
        typed_at.until("spinning")
        typed_at.type(CTRL_C)
        said = typed_at.answer()
        assert "Traceback" not in said and said.rstrip().endswith("Quit"), command
    assert typed_at.ask("print $vmemmap_status").endswith(" = 2\n")
    typed_at.ask("python Kernel.sections = kept")
    assert_goes_on(typed_at, said)


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_ctrl_c_while_a_slow_line_is_read(version: str, tmp_path: Path) -> None:
    """It takes long: a bar shows it, and afterwards nothing is left behind."""
    stopped = Stopped("four-level", tmp_path)
    machine = stopped.behind_a_stub(monitor=stopped.monitor)
    with Stub(machine, tmp_path / "stub") as stub:
        terminal = GdbTerminal(
            find_gdb(version),
            f"symbol-file {stopped.vmlinux}",
            f"target remote {stub.path}",
            f"source {LOADER}",
        )
        try:
            terminal.ask("vmemmap info")
            machine.delay = 0.008
            terminal.type("vmemmap check\n")
            bar = terminal.until("%") + terminal.until("]")
            assert re.search(r"looking for|reading", bar)
            terminal.type(CTRL_C)
            said = terminal.answer()
            machine.delay = 0
            assert not machine.is_physical
            assert_goes_on(terminal, said)
        finally:
            terminal.kill()
