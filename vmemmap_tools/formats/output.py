# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writing a file that takes its place only when it is complete.

The content goes to a temporary file in the same directory: created exclusively, under
a random name, so that nobody can plant a file or a symbolic link there. No symbolic
link is followed in the last component of a path.
"""

from __future__ import annotations

import lzma
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["OutputError", "check_output", "compress", "output_file", "spool"]

CHUNK = 1 << 20
PRESET = 1
"""Of xz: a capsule's size comes from repetition, which the cheapest preset finds."""


class OutputError(ValueError):
    """A file that is not written; the text says why."""


def check_output(path: Path, may_replace: bool) -> os.stat_result | None:
    """The status of an existing file, None where there is none.

    Raises `OutputError` for what is not replaced.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        status = None
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from None
    if status is not None and stat.S_ISLNK(status.st_mode):
        raise OutputError(
            f"{path} is a symbolic link, which is not followed: name another file"
        )
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{path} is not a regular file: name one to write")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path}: its directory cannot be written to")
    if status is not None and not may_replace:
        raise OutputError(f"{path} exists: name another file, or give --force")
    return status


@contextmanager
def output_file(path: Path, may_replace: bool = False) -> Iterator[BinaryIO]:
    """A file, open for reading and writing, that becomes ``path`` at the end.

    After an exception nothing is left of it. A replaced file keeps its mode and, as far
    as permitted, its owner. Raises `OutputError`, and OSError.
    """
    before = check_output(path, may_replace)
    partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.partial")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(partial, flags, 0o666 if before is None else 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            if before is not None:
                with suppress(OSError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        if may_replace:
            os.replace(partial, path)
        else:
            _link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _link(partial: Path, path: Path) -> None:
    """Give a file its name, unless the name was taken in the meantime."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise OutputError(
            f"{path} exists: name another file, or give --force"
        ) from None
    except OSError:  # a file system without hard links
        check_output(path, False)
        os.rename(partial, path)


def spool() -> BinaryIO:
    """A temporary file without a name, for a format that needs seeking."""
    return tempfile.TemporaryFile()


def compress(source: BinaryIO, target: BinaryIO, is_xz: bool) -> None:
    """Copy a whole file to another one, which need not be seekable; by xz if asked."""
    source.seek(0)
    if not is_xz:
        shutil.copyfileobj(source, target, CHUNK)
        return
    packer = lzma.LZMACompressor(preset=PRESET)
    while data := source.read(CHUNK):
        target.write(packer.compress(data))
    target.write(packer.flush())
