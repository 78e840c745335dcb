# SPDX-License-Identifier: LGPL-2.1-or-later
"""Put in order what QEMU writes as ``kdump-zlib``.

QEMU streams the dump in the flattened form (records of offset, size and data), leaves
the kernel's names out of the header, and under KASLR misreads the decimal phys_base of
VMCOREINFO as hexadecimal digits.  All three are repaired here.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

from .cache import RealError

__all__ = ["read_vmcoreinfo", "repair", "unflatten"]

_FLAT_SIGNATURE = b"makedumpfile"
_FLAT_HEADER_SIZE = 4096
_FLAT_RECORD = struct.Struct(">qq")
_KDUMP_SIGNATURE = b"KDUMP   "

_UTS_OFFSET = 12
_UTS_FIELD = 65
_BLOCK_SIZE_OFFSET = 428
_SUB_VMCOREINFO = struct.Struct("<QQ")
_SUB_VMCOREINFO_OFFSET = 32


def unflatten(raw: Path, out: Path) -> None:
    """Write the plain kdump file that the flattened file *raw* describes.

    :raises RealError: if *raw* is not flattened, or is cut short
    """
    with open(raw, "rb") as source, open(out, "wb") as plain:
        if not source.read(16).startswith(_FLAT_SIGNATURE):
            raise RealError(f"{raw} is not in the flattened form")
        source.seek(_FLAT_HEADER_SIZE)
        while True:
            head = source.read(_FLAT_RECORD.size)
            if len(head) < _FLAT_RECORD.size:
                raise RealError(f"{raw} has no end record")
            offset, size = _FLAT_RECORD.unpack(head)
            if offset < 0:
                return
            data = source.read(size)
            if len(data) < size:
                raise RealError(f"{raw} ends inside a record")
            plain.seek(offset)
            plain.write(data)


def read_vmcoreinfo(path: Path) -> str:
    """Return the VMCOREINFO text of the plain kdump file *path*."""
    with open(path, "rb") as file:
        return _vmcoreinfo(file.fileno(), _block_size(file.fileno(), path))


def repair(path: Path, uname: tuple[str, str, str, str, str]) -> None:
    """Fill in the names and phys_base of the plain kdump file *path*.

    :param uname: sysname, nodename, release, version and machine of the guest
    """
    with open(path, "r+b") as file:
        fd = file.fileno()
        block_size = _block_size(fd, path)
        for index, text in enumerate(uname):
            field = text.encode()[: _UTS_FIELD - 1].ljust(_UTS_FIELD, b"\0")
            os.pwrite(fd, field, _UTS_OFFSET + index * _UTS_FIELD)
        found = re.search(
            r"^NUMBER\(phys_base\)=(-?\d+)$", _vmcoreinfo(fd, block_size), re.M
        )
        if not found:
            raise RealError(f"{path}: VMCOREINFO has no phys_base")
        os.pwrite(fd, struct.pack("<q", int(found.group(1))), block_size)


def _block_size(fd: int, path: Path) -> int:
    header = os.pread(fd, _BLOCK_SIZE_OFFSET + 4, 0)
    if not header.startswith(_KDUMP_SIGNATURE):
        raise RealError(f"{path} is not a kdump file")
    size: int = struct.unpack_from("<I", header, _BLOCK_SIZE_OFFSET)[0]
    return size


def _vmcoreinfo(fd: int, block_size: int) -> str:
    pair = os.pread(fd, _SUB_VMCOREINFO.size, block_size + _SUB_VMCOREINFO_OFFSET)
    offset, size = _SUB_VMCOREINFO.unpack(pair)
    return os.pread(fd, size, offset).rstrip(b"\0").decode(errors="replace")
