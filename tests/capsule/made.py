# SPDX-License-Identifier: LGPL-2.1-or-later
"""Capsules of machines that a test has written into a directory."""

from __future__ import annotations

from pathlib import Path

from vmemmap_tools.cli import main

__all__ = ["make_capsule"]


def make_capsule(directory: Path, name: str = "capsule", *options: str) -> Path:
    """A capsule of the dump in ``directory``, beside it; the options are its own."""
    opening = ["-c", str(directory / "vmcore"), "-s", str(directory / "vmlinux")]
    assert main([*opening, "capsule", "--force", str(directory / name), *options]) == 0
    return directory / name
