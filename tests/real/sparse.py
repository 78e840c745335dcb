# SPDX-License-Identifier: LGPL-2.1-or-later
"""Write big, mostly empty files with holes where there is nothing but zeros."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

__all__ = ["write_sparse"]

_CHUNK = 1 << 20
_BLOCK = 1 << 14
_ZEROS = bytes(_CHUNK)
_F_SETPIPE_SZ = 1031


def write_sparse(source: int, path: Path) -> int:
    """Copy descriptor *source* to its end into *path* and close it.

    :return: apparent size in bytes
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(source, _F_SETPIPE_SZ, _CHUNK)
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    size = 0
    with open(source, "rb", buffering=0) as reader, open(path, "wb", 0) as out:
        while True:
            filled = 0
            while filled < _CHUNK and (got := reader.readinto(view[filled:])):
                filled += got
            # Comparing a memoryview goes byte by byte; comparing bytes does not.
            if buffer != _ZEROS:
                _write_blocks(out.fileno(), bytes(view[:filled]), size)
            size += filled
            if filled < _CHUNK:
                break
        out.truncate(size)
    return size


def _write_blocks(fd: int, data: bytes, at: int) -> None:
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        if block.count(0) != len(block):
            os.pwrite(fd, block, at + start)
