# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb with the door loaded on a core, as a user loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .runner import TOP, Answer, Gdb

__all__ = ["LOADER", "ask", "opening", "text"]

LOADER = TOP / "gdb_scripts" / "vmemmap-gdb.py"


def opening(core: Path | str, vmlinux: Path | str) -> list[str]:
    """Commands that open a core and load the door."""
    return [f"symbol-file {vmlinux}", f"core-file {core}", f"source {LOADER}"]


def ask(
    gdb: Gdb, core: Path | str, vmlinux: Path | str, *commands: str, **how: Any
) -> list[Answer]:
    """The answers to commands in a session with the door."""
    before = opening(core, vmlinux)
    answers = gdb.run(*before, *commands, **how)
    for answer in answers[: len(before)]:
        assert answer.error is None, answer.error
    return answers[len(before) :]


def text(
    gdb: Gdb, core: Path | str, vmlinux: Path | str, *commands: str, **how: Any
) -> list[str]:
    """What the commands print; all have to succeed."""
    answers = ask(gdb, core, vmlinux, *commands, **how)
    for command, answer in zip(commands, answers):
        assert answer.error is None, f"{command}: {answer.error}"
    return [answer.text for answer in answers]
