# SPDX-License-Identifier: LGPL-2.1-or-later
"""vmemmap capsule: a small vmcore with what the verbs read, and nothing else."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from ..commands import VerbGroup
from ..commands.session import Session
from ..formats.output import OutputError, check_output, compress, output_file, spool
from ..render import Column, Report
from ..target.base import Fault, TargetError

if TYPE_CHECKING:
    from ..capsule import Capsule
    from ..kernel.kernel import Kernel

__all__ = ["command"]

QUESTIONS = (
    ("summary",),
    ("info",),
    ("sections",),
    ("zones", "--all"),
    ("hvo",),
    ("hvo", "--folios"),
    ("dax",),
    ("check",),
)
"""What is asked of a kernel while its capsule is made."""

STDOUT = ("-", "/dev/stdout")
MAX_PAGES = 4096
"""Pages about which `page` is asked, at most."""
DEVICE_PAGES = 2048
"""Struct pages that are kept of each range of device memory, from its start on."""
MAX_COMPOUNDS = 8
"""Compounds of a range of which the first two vmemmap pages are kept."""
COLUMNS = [
    Column("pfn", "frame", "pfn"),
    Column("bytes", "bytes", "int"),
    Column("words", "words", "int"),
    Column("kinds", "kinds"),
    Column("reason", "reason"),
]
TOTALS = [
    Column("pages", "Pages carried at least in part", "int"),
    Column("bytes", "Bytes of memory", "int"),
    Column("words", "of which in single words of struct pages", "int"),
]


@click.command()
@click.argument("out", type=click.Path(path_type=Path), required=False)
@click.option("--kdump", is_flag=True, help="Write kdump-compressed, not ELF.")
@click.option(
    "--list",
    "is_audit",
    is_flag=True,
    help="Print every page that goes in, how much of it, and why.",
)
@click.option(
    "--no-struct-pages",
    is_flag=True,
    help="Leave struct pages out: zones, map --leaves and walk still answer in full, "
    "sections and dax but for nodes and zones; other answers are unknown.",
)
@click.option(
    "--identity",
    is_flag=True,
    help="Carry the host name and the boot id, which are left out otherwise.",
)
@click.option("--xz", is_flag=True, help="Compress; vmemmap opens the result as it is.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def command(
    session: Session,
    /,
    out: Path | None,
    kdump: bool,
    is_audit: bool,
    no_struct_pages: bool,
    identity: bool,
    xz: bool,
    force: bool,
) -> None:
    """Write a small vmcore that holds what the verbs read, and no user data.

    OUT opens in vmemmap without a vmlinux, and in drgn and gdb with one. What it does
    not carry cannot be read. With "-" as OUT the capsule goes to standard output, and
    what is said of it to standard error. With --list and without OUT nothing is
    written.
    """
    if out is None and not is_audit:
        raise click.UsageError("name a file to write, or give --list")
    is_stdout = str(out) in STDOUT
    if is_stdout and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: name a file")
    if out is not None and not is_stdout:
        _check_destination(out, force, click.get_current_context())
    kernel = session.open_kernel()
    # A Target is its own memory, or is put together with one.
    memory = getattr(kernel.target, "memory", kernel.target)
    if getattr(memory, "capsule", None) is not None:
        raise TargetError("this is a capsule already: copy it")
    from ..capsule import capture, write_elf, write_kdump_file

    if not kernel.types_are_known:
        raise TargetError("a capsule needs the kernel's types: a vmlinux or BTF (-s)")
    capsule = capture(kernel.target, _ask, not no_struct_pages, identity)
    write = write_kdump_file if kdump else write_elf

    def write_to(file: BinaryIO, is_seekable: bool) -> None:
        if is_seekable and not xz:
            write(capsule, file)
            return
        with spool() as whole:
            write(capsule, whole)
            compress(whole, file, xz)

    if is_stdout:
        write_to(sys.stdout.buffer, is_seekable=False)
        sys.stdout.buffer.flush()
        session = replace(session, stream=sys.stderr)
    elif out is not None:
        try:
            with output_file(out, force) as file:
                write_to(file, is_seekable=True)
        except OutputError as error:
            raise TargetError(str(error)) from None
    session.emit(_report(kernel, capsule, is_audit))


def _check_destination(out: Path, may_replace: bool, context: click.Context) -> None:
    """Refuse what would be lost or cannot be written.

    Asked before the capture, which may take long. Raises `TargetError`.
    """
    given = context.parent.params if context.parent is not None else {}
    inputs = [given.get("core"), given.get("vmcoreinfo"), *given.get("symbols", ())]
    for name in filter(None, inputs):
        if out.exists() and os.path.exists(name) and os.path.samefile(out, name):
            raise TargetError(f"{out} is what the capsule is made from: name another")
    try:
        check_output(out, may_replace)
    except OutputError as error:
        raise TargetError(str(error)) from None


def _report(kernel: Kernel, capsule: Capsule, is_audit: bool) -> Report:
    return Report(
        verb="capsule",
        kernel=kernel.describe(),
        rows=iter(capsule.pages() if is_audit else ()),
        columns=COLUMNS if is_audit else (),
        totals=lambda: capsule.totals,
        totals_columns=TOTALS,
        notes=lambda: list(_notes(capsule, is_audit)),
        empty=lambda: "",
    )


def _notes(capsule: Capsule, is_audit: bool = False) -> Iterator[str]:
    if is_audit:
        for kind, text in capsule.strings:
            yield f"string in {kind}: {text}"
    for pfn, reason in capsule.withheld.items():
        yield f"frame {pfn:#x} is withheld: {reason}"
    for kind, count in capsule.changed.items():
        yield f"{count} ranges of {kind} changed while they were captured"
    if capsule.changed_words:
        count = capsule.changed_words
        yield f"{count} words of struct pages changed while they were captured"


def _ask(kernel: Kernel) -> None:
    """Run every verb."""
    from ..analysis.runs import Runs

    for words in QUESTIONS:
        _run(kernel, *words)
    Runs(kernel)  # `map`: its runs and leaves are made from what this has read
    pages = sorted(_interesting(kernel))[:MAX_PAGES]
    if pages:
        _run(kernel, "page", *(f"pfn:{pfn}" for pfn in pages))
    start = kernel.vmemmap.start_va
    for offset in (0, 1 << 21, 1 << 26, 1 << 38):
        _run(kernel, "walk", hex(start + offset))


class _Silent(Session):
    """Takes answers and shows them to nobody; what they read is what matters."""

    def emit(self, report: Report) -> None:
        deque(report.rows, maxlen=0)
        report.totals()
        report.missing()


def _run(kernel: Kernel, *words: str) -> None:
    group, session = VerbGroup("vmemmap"), _Silent(lambda: kernel)
    context = group.make_context("vmemmap", list(words), obj=session)
    with suppress(click.exceptions.Exit), context:
        group.invoke(context)


def _interesting(kernel: Kernel) -> Iterator[int]:
    """Pages that somebody may ask about: of folios, devices and sections."""
    for number, folio in enumerate(kernel.hugetlb.for_each_folio()):
        if number * 6 > MAX_PAGES:
            break
        last = (1 << folio.order) - 1
        # The first vmemmap page whole: in older kernels all the others are its aliases.
        _keep(kernel, folio.pfn, kernel.geometry.struct_pages_per_page)
        yield from (folio.pfn + i for i in (0, 1, 64, 65, last))
        frames = folio.backing.head_frame, folio.backing.tail_frame
        yield from (frame for frame in frames if frame > 0)
    for pgmap in islice(kernel.pgmaps, MAX_PAGES):
        for first, end in pgmap.ranges:
            _keep(kernel, first, min(end - first, DEVICE_PAGES))
            compounds = range(first, end, 1 << min(pgmap.vmemmap_shift, 63))
            if pgmap.vmemmap_shift:
                for head in compounds[:MAX_COMPOUNDS]:
                    _keep(kernel, head, 2 * kernel.geometry.struct_pages_per_page)
            yield from (first, first + 65, end - 1)
    for section in kernel.sections:
        yield section.start_pfn
        yield section.start_pfn + 1


def _keep(kernel: Kernel, pfn: int, count: int) -> None:
    """Read struct pages whole, as far as there are any."""
    spp = kernel.geometry.struct_pages_per_page
    for first in range(pfn, pfn + count, spp):
        with suppress(Fault):
            kernel.pages.read(first, min(spp, pfn + count - first))
