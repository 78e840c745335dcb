# SPDX-License-Identifier: LGPL-2.1-or-later
"""The system's gdb for the guest: the program, and what its Python loads.

That Python is not the interpreter that runs the tests. gdb itself says which modules it
has once our door is loaded, and compiles them, since another Python's byte code is of
no use to it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.gdb_door.door import LOADER
from tests.gdb_door.runner import DRIVER, VERSIONS, Gdb, find_gdb
from tests.tools import output

from ..cache import RealError
from .bundle import libraries

__all__ = ["VMLINUX", "files_for_gdb", "gdb_inside"]

VMLINUX = Path("/vmlinux")
"""In the guest: the kernel's symbols and BTF, without its DWARF."""

_PROBE = """
import glob, importlib, importlib.util, json, os, py_compile, sys
import io, json, traceback, contextlib  # for the driver
import encodings.ascii, encodings.latin_1  # the guest has no locale
for path in sorted(glob.glob(home + "/vmemmap_tools/**/*.py", recursive=True)):
    name = os.path.relpath(path, home)[:-3].replace("/", ".")
    is_left_out = "drgn" in name or name.split(".")[1] in ("model", "cli", "capsule")
    if not is_left_out and not os.path.basename(path).startswith("__"):
        importlib.import_module(name)
data = gdb.parameter("data-directory")
files = {getattr(m, "__file__", None) for m in list(sys.modules.values())} - {None}
files |= set(glob.glob(data + "/python/**/*.py", recursive=True))
code = {}
for number, path in enumerate(sorted(f for f in files if f.endswith(".py"))):
    compiled = f"{scratch}/{number}"
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(path, cfile=compiled, invalidation_mode=mode)
    code[importlib.util.cache_from_source(path)] = compiled
print(json.dumps([sorted(files), code]))
"""


def gdb_inside() -> Gdb:
    """The gdb that the guest has."""
    return find_gdb(VERSIONS[0])


def files_for_gdb(vmlinux: Path) -> Iterator[tuple[Path, bytes]]:
    """(path, contents) of every file that gdb needs, the loader and driver too.

    :raises RealError: if gdb cannot be looked into
    """
    gdb = gdb_inside()
    with tempfile.TemporaryDirectory() as scratch:
        stripped = Path(scratch) / "vmlinux"
        output("objcopy", "--strip-debug", vmlinux, stripped)
        yield VMLINUX, stripped.read_bytes()
    with tempfile.TemporaryDirectory() as scratch:
        files, code = _loaded(gdb, scratch)
        for place, compiled in code.items():
            yield Path(place), Path(compiled).read_bytes()
    modules = [Path(file) for file in files]
    binaries = [gdb.program, *(path for path in modules if path.suffix == ".so")]
    for path in (*binaries, *modules, LOADER, DRIVER, *libraries(binaries)):
        yield path, path.read_bytes()


def _loaded(gdb: Gdb, scratch: str) -> tuple[list[str], dict[str, str]]:
    home = str(LOADER.parents[1])
    answers = gdb.run(
        f"python home, scratch = {home!r}, {scratch!r}",
        f"source {LOADER}",
        f"python exec({_PROBE!r})",
    )
    for answer in answers:
        if answer.error is not None:
            raise RealError(f"gdb cannot be looked into: {answer.error}")
    files, code = json.loads(answers[-1].text)
    return files, code
