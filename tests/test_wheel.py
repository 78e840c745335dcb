# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes into the wheel beside the package: the samples, and no real captures."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADING = "[tool.hatch.build.targets.wheel.force-include]\n"


def test_the_wheel_has_every_sample_and_no_capture() -> None:
    part = (ROOT / "pyproject.toml").read_text().split(HEADING)[1].split("\n[")[0]
    included = dict(re.findall(r'^"(.+)" = "(.+)"$', part, re.MULTILINE))
    samples = {f"vmcores/{path.name}" for path in (ROOT / "vmcores").glob("*.toml")}
    assert len(samples) > 10
    assert set(included) == {*samples, "gdb_scripts"}
    assert included == {name: f"vmemmap_tools/{name}" for name in included}
