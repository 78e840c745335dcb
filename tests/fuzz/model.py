# SPDX-License-Identifier: LGPL-2.1-or-later
"""Damaged TOML descriptions of machines."""

from __future__ import annotations

from pathlib import Path
from random import Random

from vmemmap_tools.model.spec import samples

from .damage import damaged_lines
from .subject import Subject, Words

__all__ = ["MachineDescription"]

SAMPLES = ("cxl-pmem", "gen-6.12", "gen-7.3", "laptop", "self-hosted", "two-node")


class MachineDescription(Subject):
    """The description of a sample machine, built or described."""

    def __init__(self, folder: Path):
        self._path, self._output = folder / "machine.toml", folder / "built"
        self._texts = [samples()[name].read_text() for name in SAMPLES]

    def sound(self) -> Words:
        self._path.write_text(self._texts[0])
        return ()

    def damage(self, draw: Random) -> Words:
        text = damaged_lines(draw, draw.choice(self._texts))
        self._path.write_bytes(text.encode("utf-8", "replace"))
        return ()

    def verbs(self, draw: Random) -> list[Words]:
        build = ("model", "build", str(self._path), "-o", str(self._output))
        return [("model", "describe", str(self._path)), build]
