# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are no dump are recognised by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest

from tests.fakes.elf import elf
from vmemmap_tools.formats.magic import HEAD_BYTES, recognize


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("vmcore"))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("vmcore", b"x")
    return file.getvalue()


def boot_image() -> bytes:
    """The kernel's boot protocol: 0xaa55 at 0x1fe, "HdrS" at 0x202."""
    return b"MZ".ljust(0x1FE, b"\0") + b"\x55\xaa\xeb\x6aHdrS" + bytes(100)


@pytest.mark.parametrize(
    ("data", "name", "advice"),
    [
        (gzip.compress(b"x"), "packed by gzip", "gunzip -k"),
        (lzma.compress(b"x"), "packed by xz", "unxz -k"),
        (bz2.compress(b"x"), "packed by bzip2", "bunzip2 -k"),
        (bytes.fromhex("28b52ffd2401"), "packed by zstd", "zstd -d"),
        (zipped(), "a zip archive", "unpack it first"),
        (tar(), "a tar archive", "tar -x"),
        (boot_image(), "a bootable kernel image (vmlinuz, bzImage)", "vmlinux of the"),
        (b"EMiL\1\0\0\0", "a memory image of LiME", "virsh dump --memory-only"),
        (b"AVML\2\0\0\0", "a memory image of AVML", "virsh dump --memory-only"),
        (b"LibvirtQemudSave", "a saved domain of libvirt", "virsh dump --memory-only"),
        (b"\xd2\xbe\xd2\xbe", "a saved state of VMware", "take a vmcore"),
    ],
    # Some bytes hold the time: they cannot name a test.
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_known_format_is_named_with_what_to_do(
    data: bytes, name: str, advice: str
) -> None:
    found = recognize(data[:HEAD_BYTES], len(data))
    assert found is not None
    assert found.name.startswith(name) and advice in found.advice


def test_whole_mebibytes_without_a_header_may_be_raw_memory() -> None:
    found = recognize(bytes(HEAD_BYTES), 1 << 30)
    assert found is not None and "perhaps raw memory" in found.name


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"", 0),
        (b"hello " * 99, 1 << 20),
        (bytes(HEAD_BYTES), (1 << 20) + 1),
        (elf(), 64),
    ],
)
def test_other_files_are_not_named(head: bytes, size: int) -> None:
    assert recognize(head, size) is None
