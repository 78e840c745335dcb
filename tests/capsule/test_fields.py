# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/exit-codes-and-json.md names each field of `capsule`, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands.test_fields import documented, paths, without_groups
from tests.model.image_target import image_target
from tests.model.kernels import varied
from tests.target.gdb.cores import small_machine
from vmemmap_tools.capsule import capture
from vmemmap_tools.cli import main
from vmemmap_tools.kernel.kernel import Kernel

KEYS_ARE_KINDS = ("pages_by_kind.", "changed_while_captured.")
DAX_PFN = (12 << 30) // 4096 + 0x1234


def test_rows_and_totals_have_the_documented_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_machine("four-level").write(tmp_path)
    opening = ["-c", str(tmp_path / "vmcore"), "-s", str(tmp_path / "vmlinux")]
    assert main([*opening, "--format", "json", "capsule", "--list"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(paths(answer["rows"])) == documented()["capsule rows"]

    def ask(kernel: Kernel) -> None:
        kernel.memory.read_physical(DAX_PFN * 4096, 4096)

    withheld = capture(image_target(varied("7.3").image()), ask).totals
    assert withheld["withheld"] and set(withheld) == set(answer["totals"])
    names = documented()["capsule totals"]
    found = {*paths(answer["totals"]), *paths(withheld)}
    found = {name for name in found if not name.startswith(KEYS_ARE_KINDS)}
    assert without_groups(found, names) == names
