# SPDX-License-Identifier: LGPL-2.1-or-later
"""Python, drgn and this project as a second initramfs for the guest.

Taken from the interpreter that runs the tests: whatever modules it has loaded once the
agent and every verb are imported, and the libraries that these need. Each file keeps
its absolute path, so that the interpreter finds its parts in the guest as it does here.
Byte code goes along, because the guest would take minutes to compile it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import py_compile
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..cache import RealError
from ..initramfs import Archive

__all__ = ["START", "build", "libraries"]

START = Path("/agent")
"""The script that runs the agent; the guest's /init starts it if it is there."""

_PROJECT = Path(__file__).parents[3]

_PROBE = """
import importlib, importlib.metadata, json, pkgutil, sys
import drgn
for name in sys.argv[1:]:
    importlib.import_module(name)
for found in pkgutil.walk_packages(drgn.__path__, "drgn.", lambda name: None):
    try:
        importlib.import_module(found.name)
    except ImportError:
        pass  # a part that wants what is not installed here
files = {getattr(m, "__file__", None) for m in list(sys.modules.values())} - {None}
for name in ("drgn", "click", "tabulate", "vmemmap_tools"):
    files |= {
        str(path.locate())
        for path in importlib.metadata.files(name)
        if ".dist-info" in str(path)
    }
print(json.dumps([sorted(files), sys.path]))
"""

_ROOTS = ("tests.real.live.agent", "_drgn_util.plugins")
"""What the guest runs, and what drgn imports only when it opens a kernel."""

_LEFT_OUT = ("model", "gdb")
"""What builds dumps, and needs numpy; what only gdb can import."""


def build(out: Path, others: Iterable[tuple[Path, bytes]] = ()) -> None:
    """Write the archive, not compressed, to file *out*.

    :param others: (path, contents) of files for the guest besides
    :raises RealError: if the interpreter cannot be looked into
    """
    modules, search_path = _loaded()
    python = Path(sys.executable).resolve()
    binaries = [python, *(path for path in modules if path.suffix == ".so")]
    needed = sorted(libraries(binaries))
    files = {path: path.read_bytes() for path in (python, *modules, *needed)}
    files.update(_byte_code(path for path in modules if path.suffix == ".py"))
    files.update(others)
    folders = sorted({str(path.parent) for path in needed})
    script = (
        "#!/bin/sh\n"
        f"export LD_LIBRARY_PATH={':'.join(folders)}\n"
        f"export PYTHONPATH={':'.join(search_path)}\n"
        f"exec {python} -B -s -m {_ROOTS[0]}\n"
    )
    files[START] = script.encode()
    archive = Archive()
    for path, data in files.items():
        archive.file_with_parents(path, data)
    out.write_bytes(archive.finish())


def _loaded() -> tuple[list[Path], list[str]]:
    """Files of all modules that the guest needs, and where Python looks for them."""
    run = subprocess.run(
        [sys.executable, "-c", _PROBE, *_ROOTS, *_project_modules()],
        cwd=_PROJECT,
        check=False,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        reason = run.stderr.strip().splitlines()[-1]
        raise RealError(f"the agent cannot be imported here: {reason}")
    files, search_path = json.loads(run.stdout)
    folders = [folder or str(_PROJECT) for folder in search_path]
    return [Path(file) for file in files], folders


def _project_modules() -> Iterator[str]:
    for path in sorted((_PROJECT / "vmemmap_tools").rglob("*.py")):
        name = path.relative_to(_PROJECT).with_suffix("")
        is_left_out = any(part.startswith(_LEFT_OUT) for part in name.parts)
        if not is_left_out and not name.name.startswith("__"):
            yield ".".join(name.parts)


def libraries(binaries: Iterable[Path]) -> Iterator[Path]:
    """The shared libraries, the loader among them, that programs and modules need."""
    run = subprocess.run(
        ["ldd", *map(str, binaries)], check=False, capture_output=True, text=True
    )
    if "not found" in run.stdout:
        raise RealError(f"a library is missing: {run.stdout.split('not found')[0]}")
    yield from {
        Path(os.path.normpath(found))
        for found in re.findall(r"^\s+(?:\S+ => )?(/\S+) \(0x", run.stdout, re.M)
    }


def _byte_code(sources: Iterable[Path]) -> Iterator[tuple[Path, bytes]]:
    """(path, contents) of the compiled form of each module, never checked for age."""
    with tempfile.TemporaryDirectory() as scratch:
        compiled = os.path.join(scratch, "module.pyc")
        for source in sources:
            py_compile.compile(
                str(source),
                cfile=compiled,
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            target = Path(importlib.util.cache_from_source(str(source)))
            yield target, Path(compiled).read_bytes()
