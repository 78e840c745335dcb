# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap gdb"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..formats.elf import ET_CORE, Elf, ElfError
from ..target.base import TargetError
from ..target.dump_files import other_format
from .open import Opening, check_files

__all__ = ["command", "find_script"]

SCRIPT = "vmemmap-gdb.py"
SITE = "VMEMMAP_TOOLS_SITE"
"""Environment variable: where the script may borrow click and tabulate from."""
BORROWED = ("click", "tabulate")
KDUMP = (b"KDUMP   ", b"DISKDUMP", b"makedumpfile")
"""How the files begin that gdb cannot open: kdump, and makedumpfile -F."""


@click.command()
@click.option(
    "--remote",
    metavar="HOST:PORT",
    help="Connect to a gdb stub: of QEMU (-s is port 1234), a debug probe, kgdb.",
)
@click.option(
    "--script", is_flag=True, help="Print the path of the script to source in gdb."
)
@click.argument("arguments", nargs=-1, metavar="[-- GDB-ARGUMENT...]")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    remote: str | None,
    script: bool,
    arguments: tuple[str, ...],
) -> None:
    """Start gdb on CORE, or on a machine's gdb stub, with these verbs in it.

    What follows -- is passed to gdb: vmemmap -c CORE gdb -- -batch -ex 'vmemmap hvo'.

    The vmlinux of -s gives gdb its symbols; KASLR may stay on. In gdb, 'vmemmap' lists
    the verbs; lx-pfn_to_page and its kin are there as well.
    """
    path = find_script()
    if script:
        click.echo(path)
        return
    opening = _opening(ctx)
    if opening.qemu is not None:
        raise click.UsageError("gdb speaks to QEMU's gdb stub: --remote HOST:PORT")
    if remote is not None and opening.core is not None:
        raise click.UsageError("-c and --remote exclude each other")
    program = shutil.which("gdb")
    if program is None:
        raise TargetError("gdb is not installed: install the package gdb")
    line = [program, *_arguments(opening, remote, path), *arguments]
    os.environ[SITE] = os.pathsep.join(_sites())
    os.execv(program, line)


def find_script() -> Path:
    """The script to source, of a source tree or installed. Raises `TargetError`."""
    package = Path(__file__).resolve().parents[1]
    places = (package / "gdb_scripts", package.parent / "gdb_scripts")
    for place in places:
        if (place / SCRIPT).is_file():
            return place / SCRIPT
    raise TargetError(f"{SCRIPT} is missing from {places[0]}: install the package anew")


def _opening(ctx: click.Context) -> Opening:
    """The opening options, which stand before the verb."""
    above: dict[str, Any] = dict(ctx.parent.params) if ctx.parent else {}
    above.pop("debug", None)
    return Opening.from_options(**above)


def _arguments(opening: Opening, remote: str | None, script: Path) -> Iterator[str]:
    """gdb's command line. The vmlinux is loaded for its symbols only: as program gdb
    would answer with its initial values for what a dump lacks.
    """
    named = tuple(path for path in opening.symbols if not _is_vmlinux(path))
    vmlinux = [path for path in opening.symbols if path not in named]
    core = None if remote is not None else opening.core or "/proc/kcore"
    check_files(replace(opening, core=core))
    if core is not None:
        _require_elf(core)
        yield from ("-c", core)
    for path in vmlinux[:1]:
        yield from ("-s", path)
    yield from ("-x", str(script))
    files = [*named, *vmlinux[1:]]
    if files:
        yield from ("-ex", f"set vmemmap symbols {' '.join(map(_quoted, files))}")
    if opening.types != "auto":
        yield from ("-ex", f"set vmemmap types {opening.types}")
    if opening.vmcoreinfo is not None:
        yield from ("-ex", f"set vmemmap vmcoreinfo {opening.vmcoreinfo}")
    if remote is not None:
        yield from ("-ex", f"target remote {remote}")


def _is_vmlinux(path: str) -> bool:
    """Whether gdb takes symbols from it; a file of BTF alone is for us."""
    try:
        with Elf(path) as elf:
            has_symbols = any(section.name == ".symtab" for section in elf.sections())
            return elf.type != ET_CORE and has_symbols
    except (OSError, ElfError):
        return False


def _require_elf(core: str) -> None:
    """Refuse dumps that gdb cannot open. Raises `TargetError`."""
    with open(core, "rb") as file:
        start = file.read(16)
    if start.startswith(KDUMP):
        raise TargetError(
            f"{core} is a kdump file, which gdb cannot open. These verbs read it "
            "without gdb, and so does drgn. For gdb make an ELF with what they read: "
            "vmemmap -c CORE -s VMLINUX capsule OUT; or write whole dumps as ELF: "
            "makedumpfile -E in place of -c, -l or -z, or a copy of /proc/vmcore"
        )
    other = other_format(core)
    if other is not None:
        raise TargetError(other)


def _sites() -> Iterator[str]:
    for name in BORROWED:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin:
            place = Path(found.origin)
            package = place.parent if place.name == "__init__.py" else place
            yield str(package.parent)


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
