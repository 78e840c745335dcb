# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's own gdb scripts, taken from Debian's source package when asked for.

They are GPL-2.0 and stay out of this tree. No distribution builds the constants that
they need; those that ``mm.py`` asks for are written here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from .cache import RealError, cache_root, locked, require_tool, say
from .kernels import fetch, newest_suite
from .packages import AptWorld

__all__ = ["kernel_scripts"]

NEEDED = ("__init__.py", "mm.py", "utils.py")
CONSTANTS = """\
LX_CONFIG_SPARSEMEM_VMEMMAP = True
LX_CONFIG_SPARSEMEM_EXTREME = True
LX_CONFIG_X86_64 = True
LX_CONFIG_X86 = True
LX_CONFIG_ARM64 = False
LX_CONFIG_NUMA = True
LX_CONFIG_NODES_SHIFT = 10
LX_CONFIG_PAGE_SHIFT = 12
"""


def kernel_scripts() -> Path:
    """Return a directory to put on gdb's Python path: ``import linux.mm``.

    :raises RealError: if the newest suite has no source package
    """
    suite = newest_suite()
    release = fetch(suite).abi
    found = re.match(r"\d+\.\d+", release)
    if found is None:
        raise RealError(f"{release} is no release of a kernel")
    package = f"linux-source-{found[0]}"
    directory = cache_root() / "scripts-gdb" / package
    with locked(directory):
        if not (directory / "complete").exists():
            _extract(AptWorld(suite), package, directory)
            (directory / "complete").touch()
    return directory


def _extract(world: AptWorld, package: str, directory: Path) -> None:
    """Unpack the few files of the package that are needed, and drop the rest."""
    deb = world.download(package, directory)
    say(f"{package}: taking scripts/gdb out of it")
    pipe = (
        f"{require_tool('dpkg-deb')} --fsys-tarfile '{deb}'"
        f" | tar -xO ./usr/src/{package}.tar.xz"
        f" | tar -xJ --strip-components=3 --wildcards '*/scripts/gdb/linux/*.py'"
    )
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipe],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RealError(f"{package}: {run.stderr.strip()}")
    deb.unlink()
    package_dir = directory / "linux"
    for path in package_dir.iterdir():
        if path.name not in NEEDED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (package_dir / "constants.py").write_text(CONSTANTS)
