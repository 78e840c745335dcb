# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that tests call: installed when they may be, never done without."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["ToolMissing", "output", "require_tool"]

PACKAGE_OF = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "gdb": "gdb",
    "llvm-dwarfdump": "llvm",
    "makedumpfile": "makedumpfile",
    "qemu-system-x86_64": "qemu-system-x86",
    "objcopy": "binutils",
    "readelf": "binutils",
    "zstd": "zstd",
}
"""Debian package that carries each program."""

ALSO_NEEDED = {"gcc": ("libc6-dev",)}


class ToolMissing(Exception):
    """A program is absent and cannot be installed; the text names its package."""


def require_tool(name: str) -> str:
    """Return the path of program *name*, installing its package when root.

    :raises ToolMissing: if it is absent and cannot be installed
    """
    found = shutil.which(name)
    if found:
        return found
    packages = [PACKAGE_OF[name], *ALSO_NEEDED.get(name, ())]
    wanted = " ".join(packages)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        # apt serves one at a time, and several processes run tests.
        with open(Path(tempfile.gettempdir()) / "vmemmap-tools-apt.lock", "w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            found = shutil.which(name) or _install(name, packages)
    if not found:
        raise ToolMissing(f"{name} is not installed: install the package {wanted}")
    return found


def _install(name: str, packages: list[str]) -> str | None:
    print(f"installing {' '.join(packages)} for {name}", file=sys.stderr, flush=True)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if not _succeeds(command):
        _succeeds(["apt-get", "update"])
        _succeeds(command)
    return shutil.which(name)


def _succeeds(command: list[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    return run.returncode == 0


def output(name: str, *arguments: str | Path) -> str:
    """What a program prints, errors behind the rest; it has to succeed."""
    command = [require_tool(name), *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
