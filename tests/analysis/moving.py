# SPDX-License-Identifier: LGPL-2.1-or-later
"""A live kernel in a test: a target that finds another dump after each refresh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import drgn

from vmemmap_tools.model.machine import Machine
from vmemmap_tools.target.drgn import DrgnTarget
from vmemmap_tools.target.drgn_open import open_dump

__all__ = ["Moving", "States"]


class Moving(DrgnTarget):
    """A live target; after the last state it stays there. ``taken`` counts them."""

    def __init__(self, states: Sequence[DrgnTarget]):
        super().__init__(states[0].prog, reopen=self._advance)
        self.live = True
        self._states = states
        self.taken = 1

    def _advance(self) -> drgn.Program:
        state = self._states[min(self.taken, len(self._states) - 1)]
        self.taken += 1
        return state.prog


class States:
    """Dumps of one machine, each from another moment of its life."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._count = 0

    def capture(self, machine: Machine) -> DrgnTarget:
        """The machine as it is now."""
        self._count += 1
        path = self._directory / str(self._count)
        machine.write(path)
        target = open_dump(str(path / "vmcore"), symbols=[str(path / "vmlinux")])
        assert isinstance(target, DrgnTarget)
        return target
