# SPDX-License-Identifier: LGPL-2.1-or-later
"""A live kernel in a test: every fresh Kernel finds the next of its states."""

from __future__ import annotations

from collections.abc import Sequence

from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn import DrgnTarget

from .overlay import Overlay

__all__ = ["Changing", "frames_of"]


class Changing(Overlay):
    """A live target that holds something else for every reading; then the last."""

    live = True

    def __init__(self, base: DrgnTarget, readings: Sequence[dict[int, bytes]]):
        super().__init__(base, readings[0])
        self.live = True
        self._readings = list(readings)
        self.taken = 1

    def refresh(self) -> None:
        super().refresh()
        self._frames = self._readings[min(self.taken, len(self._readings) - 1)]
        self.taken += 1


def frames_of(kernel: Kernel) -> dict[int, bytes]:
    """What a `Bench`'s kernel has that its dump has not."""
    frames: dict[int, bytes] = getattr(kernel.target, "_frames", {})
    return frames
