# SPDX-License-Identifier: LGPL-2.1-or-later
"""What all subjects of a fuzz have."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from random import Random

from tests.bounded import EVERY_VERB

__all__ = ["Patches", "Subject", "Words"]

Words = tuple[str, ...]


class Subject(ABC):
    """One kind of input, in files of its own in a folder."""

    @abstractmethod
    def sound(self) -> Words:
        """The opening options for the input without damage."""

    @abstractmethod
    def damage(self, draw: Random) -> Words:
        """Damage the input anew; the opening options that read it."""

    def verbs(self, draw: Random) -> list[Words]:
        """What to ask of one damaged input: every verb, in any order."""
        return draw.sample(EVERY_VERB, len(EVERY_VERB))


class Patches:
    """A large file in which bytes are changed and put back."""

    def __init__(self, path: Path):
        self.path = path
        self.size = path.stat().st_size
        self._undo: list[tuple[int, bytes]] = []

    def read(self, offset: int, size: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes, not behind the end of the file."""
        with self.path.open("r+b", buffering=0) as file:
            file.seek(offset)
            self._undo.append((offset, file.read(len(data))))
            file.seek(offset)
            file.write(data[: len(self._undo[-1][1])])

    def restore(self) -> None:
        """Put back what was changed."""
        with self.path.open("r+b", buffering=0) as file:
            while self._undo:
                offset, data = self._undo.pop()
                file.seek(offset)
                file.write(data)
