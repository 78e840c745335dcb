# SPDX-License-Identifier: LGPL-2.1-or-later
"""Incomplete files: what makedumpfile leaves of a dump, and dumps that are cut."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sweep.leave_out import Sweep
from tests.tools import output

__all__ = ["incomplete_files"]

FORMS = {"ELF": "-E", "kdump": "-c"}
"""Forms of makedumpfile's output, and the option for each."""


READ = ("--non-mmap",)
"""makedumpfile 1.7.2 reads zeros from some maps of a sparse file."""


def incomplete_files(sweep: Sweep, cuts: int) -> Iterator[tuple[str, Path]]:
    """(label, file): filtered dumps, and both forms cut at so many places.

    None of a machine that describes itself: makedumpfile drops such a description.
    """
    if sweep.core is not None:
        yield from _filtered_dumps(sweep.core)
        yield from _cut_dumps(sweep.core, cuts)


def _filtered_dumps(core: Path) -> Iterator[tuple[str, Path]]:
    """(label, file): the dump without pages of users, caches, zeros and free pages."""
    with tempfile.TemporaryDirectory() as directory:
        for name, option in FORMS.items():
            path = Path(directory) / name
            output("makedumpfile", *READ, option, "-d", "31", core, path)
            yield f"makedumpfile {option} -d 31", path


def _cut_dumps(core: Path, count: int) -> Iterator[tuple[str, Path]]:
    """(label, file): both forms of the whole dump, each cut at ``count`` places."""
    draw = random.Random(core.stat().st_size)
    with _both_forms(core) as files, tempfile.TemporaryDirectory() as directory:
        for name, whole in files.items():
            path, size = Path(directory) / "cut", whole.stat().st_size
            output("cp", "--sparse=always", whole, path)
            lengths = [draw.randrange(size // 10, size) for _ in range(count)]
            for length in sorted(lengths, reverse=True):
                os.truncate(path, length)
                yield f"{name} cut at {length} of {size}", path


@contextmanager
def _both_forms(core: Path) -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as directory:
        kdump = Path(directory) / "kdump"
        output("makedumpfile", *READ, "-c", "-d", "0", core, kdump)
        yield {"ELF": core, "kdump": kdump}
