# SPDX-License-Identifier: LGPL-2.1-or-later
"""Incomplete files: what makedumpfile leaves of a dump, and dumps that are cut."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sweep.leave_out import Sweep
from tests.tools import output

__all__ = ["cut_dumps", "filtered_dumps"]

FORMS = {"ELF": "-E", "kdump": "-c"}
"""Forms of makedumpfile's output, and the option for each."""


def filtered_dumps(sweep: Sweep) -> Iterator[tuple[str, Path]]:
    """(label, file): the dump without pages of users, caches, zeros and free pages."""
    with tempfile.TemporaryDirectory() as directory:
        for name, option in FORMS.items():
            path = Path(directory) / name
            output("makedumpfile", option, "-d", "31", sweep.core, path)
            yield f"makedumpfile {option} -d 31", path


def cut_dumps(sweep: Sweep, count: int) -> Iterator[tuple[str, Path]]:
    """(label, file): both forms of the whole dump, each cut at ``count`` places."""
    draw = random.Random(sweep.name)
    with _both_forms(sweep) as files, tempfile.TemporaryDirectory() as directory:
        for name, whole in files.items():
            size = whole.stat().st_size
            for _ in range(count):
                path = Path(directory) / "cut"
                shutil.copyfile(whole, path)
                length = draw.randrange(size // 10, size)
                os.truncate(path, length)
                yield f"{name} cut at {length} of {size}", path


@contextmanager
def _both_forms(sweep: Sweep) -> Iterator[dict[str, Path]]:
    with tempfile.TemporaryDirectory() as directory:
        kdump = Path(directory) / "kdump"
        output("makedumpfile", "-c", "-d", "0", sweep.core, kdump)
        yield {"ELF": sweep.core, "kdump": kdump}
