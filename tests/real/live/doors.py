# SPDX-License-Identifier: LGPL-2.1-or-later
"""The two ways to ask about a live guest, which is asked as a dump is (`dumps.Asked`).

``kcore`` is the tool inside the guest, on /proc/kcore with types from BTF and symbols
from kallsyms; ``qmp`` is the tool here, through QEMU's socket.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.drgn_open import open_qemu

from ..dumps import Asked
from .guest import LiveGuest
from .rounds import play_round, print_verb

__all__ = ["DOORS", "Door", "Kcore", "Qmp"]


class Door(Asked):
    """A live guest to be asked; answers are kept, as those of a dump are."""

    name: str

    def __init__(self, guest: LiveGuest) -> None:
        super().__init__()
        self.guest = guest

    def print(self, words: tuple[str, ...], form: str) -> tuple[str, int]:
        """What a verb prints, and its exit status."""
        raise NotImplementedError

    def play_round(self) -> dict[str, Any]:
        """Ask with a fresh Kernel, see `rounds`."""
        raise NotImplementedError

    @property
    def kernel(self) -> Door:
        """Stands in for a dump's kernel, of which tests ask only `has`."""
        return self

    def has(self, feature: str) -> bool:
        """Whether the tool finds this feature in the kernel."""
        return feature in self.ask("summary")["kernel"]["features"]

    def text(self, form: str, *words: str) -> str:
        return self.print(words, form)[0]


class Kcore(Door):
    """The tool inside the guest."""

    name = "kcore"

    def print(self, words: tuple[str, ...], form: str) -> tuple[str, int]:
        text, status = self.guest.ask("verb", words=words, form=form)
        return text, status

    def play_round(self) -> dict[str, Any]:
        told: dict[str, Any] = self.guest.ask("round", wait=1200)
        return told


class Qmp(Door):
    """The tool outside."""

    name = "qmp"

    @cached_property
    def opened(self) -> Kernel:
        """The guest, opened when first asked for."""
        return Kernel(open_qemu(str(self.guest.user_qmp_socket)))

    def print(self, words: tuple[str, ...], form: str) -> tuple[str, int]:
        return print_verb(self.opened, list(words), form)

    def play_round(self) -> dict[str, Any]:
        return play_round(self.opened)


DOORS: dict[str, type[Door]] = {door.name: door for door in (Kcore, Qmp)}
