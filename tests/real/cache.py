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
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import tools

__all__ = ["RealError", "cache_root", "locked", "require_tool", "say"]


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
    try:
        return tools.require_tool(name)
    except tools.ToolMissing as error:
        raise RealError(str(error)) from None
