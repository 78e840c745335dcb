# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where the downloaded and produced files live, and who may write them when.

Nothing big is ever stored in the repository.  The cache has three parts::

    apt/<suite>/                        a private apt world of each suite
    kernels/<suite>/<flavour>/<ABI>/    packages and the files taken from them
    runs/<release>/<variant>/           dumps and records of booted guests
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["RealError", "cache_root", "locked", "require_tool", "say"]

_PACKAGE_OF = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "makedumpfile": "makedumpfile",
    "qemu-system-x86_64": "qemu-system-x86",
    "zstd": "zstd",
}
"""Debian package that carries each program the harness calls."""

_ALSO_NEEDED = {"gcc": ("libc6-dev",)}


class RealError(Exception):
    """A kernel could not be fetched, booted or dumped; the text is one line."""


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(text, file=sys.stderr, flush=True)


def cache_root() -> Path:
    """Return the cache directory, ``$VMEMMAP_TOOLS_CACHE`` or the user's own."""
    override = os.environ.get("VMEMMAP_TOOLS_CACHE")
    if override:
        return Path(override)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vmemmap-tools"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file of *path* so that two sessions do not write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that writes {path}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_tool(name: str) -> str:
    """Return the path of program *name*, installing its package when root.

    :raises RealError: if it is absent and cannot be installed; names the package
    """
    found = shutil.which(name)
    if found:
        return found
    packages = [_PACKAGE_OF[name], *_ALSO_NEEDED.get(name, ())]
    wanted = " ".join(packages)
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {wanted}, which has {name}")
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
        if not _succeeds(command):
            _succeeds(["apt-get", "update"])
            _succeeds(command)
        found = shutil.which(name)
    if not found:
        raise RealError(f"{name} is not installed: install the package {wanted}")
    return found


def _succeeds(command: list[str]) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run = subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    return run.returncode == 0
