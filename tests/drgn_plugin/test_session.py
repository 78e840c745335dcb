# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whole drgn sessions: what their start loads, and that nothing ends them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.drgn_plugin.doors import by_command_line
from tests.drgn_plugin.terminal import Terminal
from tests.samples import Sample
from tests.terminal import CTRL_C

DRGN = str(Path(sys.executable).parent / "drgn")
HEAVY = ("click", "tabulate", "numpy", "vmemmap_tools.")
PLUGIN = "vmemmap_tools.drgn_plugin"


@pytest.fixture(scope="module")
def dump(sample: Callable[[str], Sample]) -> Sample:
    return sample("gen-7.3")


def drgn_prints(dump: Sample, code: str, **environment: str) -> str:
    """What ``drgn -e CODE`` prints on the dump."""
    return subprocess.run(
        [DRGN, "-q", "-c", dump.core, "-s", dump.vmlinux, "-e", code],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


MODULES = "import sys; print(*sorted(sys.modules))"


def test_a_start_loads_nothing_heavy_before_the_first_command(dump: Sample) -> None:
    run = "from drgn.commands import run_command; run_command(prog, 'vmemmap hvo')"
    lines = drgn_prints(dump, f"{MODULES}; {run}; {MODULES}").splitlines()
    before, after = lines[0].split(), lines[-1].split()
    assert [m for m in before if m.startswith(HEAVY)] == [PLUGIN]
    assert {"click", "tabulate", "vmemmap_tools.kernel.kernel"} <= set(after)
    assert "numpy" not in after


def test_the_plugin_adds_only_itself_to_a_start(dump: Sample) -> None:
    with_it = set(drgn_prints(dump, MODULES).split())
    off = {"DRGN_DISABLE_PLUGINS": "vmemmap_tools"}
    without = set(drgn_prints(dump, MODULES, **off).split())
    assert with_it - without == {"vmemmap_tools", PLUGIN}


def test_nothing_ends_an_interactive_session(dump: Sample, tmp_path: Path) -> None:
    words = [DRGN, "-q", "-c", dump.core, "-s", dump.vmlinux]
    session = Terminal(words, tmp_path)
    try:
        _ask_everything(session, dump, tmp_path)
        assert session.close() == 0
    except BaseException:
        session.kill()
        raise


def _ask_everything(session: Terminal, dump: Sample, tmp_path: Path) -> None:
    """One session for all that could end it."""
    options = ["-c", dump.core, "-s", dump.vmlinux]
    table = by_command_line(options, "sections")[0]
    assert table in session.ask("%vmemmap sections")
    # The reader of the pipe leaves, early and late.
    first = session.ask("%vmemmap sections | head -1")
    assert table.splitlines()[0] in first
    assert table.splitlines()[2] not in first
    for _ in range(3):
        assert "Traceback" not in session.ask("%vmemmap map --leaves | head -1")
        assert "Traceback" not in session.ask("%vmemmap --help | true")
    # Redirection.
    out = tmp_path / "out.json"
    session.ask(f"%vmemmap hvo --format json > {out}")
    assert out.read_text() == by_command_line(options, "hvo --format json")[0]
    # Help, and wrong use.
    assert "Commands:" in session.ask("%vmemmap --help")
    assert "Usage: %vmemmap page" in session.ask("%vmemmap page --help")
    assert "drgn: vmemmap: no verb 'nope'" in session.ask("%vmemmap nope")
    assert "drgn: vmemmap: No such option" in session.ask("%vmemmap hvo --nope")
    # Ctrl-C within a command.
    session.ask("import time, vmemmap_tools.kernel.kernel as k;")
    session.ask("describe = k.Kernel.describe")
    session.ask(
        "k.Kernel.describe = lambda self: (print('as'+'leep', flush=True), "
        "time.sleep(600))"
    )
    session.type("%vmemmap hvo\n")
    session.until("asleep")
    session.type(CTRL_C)
    assert "KeyboardInterrupt" in session.until(">>> ")
    session.ask("k.Kernel.describe = describe")
    # All is as before.
    assert by_command_line(options, "hvo")[0] in session.ask("%vmemmap hvo")
    assert session.ask("1 + 1").splitlines()[-1] == "2"
