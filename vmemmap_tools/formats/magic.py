# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names of file formats that people take for a dump or a vmlinux, by their first bytes.

Magic numbers as in the programs that write these files: gzip, xz, zstd and the like;
the kernel's boot images; LiME, AVML, QEMU, libvirt and VMware memory images.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HEAD_BYTES", "Format", "recognize"]

HEAD_BYTES = 1024


@dataclass(frozen=True)
class Format:
    """What a file is, and what to do instead."""

    name: str
    advice: str


_VMCORE = (
    "take a vmcore instead: with kdump, or of a virtual machine with "
    "'virsh dump --memory-only --format=elf'"
)
_DEBUG = "give the vmlinux of the kernel's debug info package with -s"
_PACKED = "unpack it first"

_FORMATS = (
    (0, b"\x1f\x8b", Format("packed by gzip", f"{_PACKED} (gunzip -k)")),
    (0, b"\xfd7zXZ\0", Format("packed by xz", f"{_PACKED} (unxz -k)")),
    (0, b"\x28\xb5\x2f\xfd", Format("packed by zstd", f"{_PACKED} (zstd -d)")),
    (0, b"BZh", Format("packed by bzip2", f"{_PACKED} (bunzip2 -k)")),
    (0, b"\x04\x22\x4d\x18", Format("packed by lz4", f"{_PACKED} (lz4 -d)")),
    (0, b"\x89LZO\0", Format("packed by lzop", f"{_PACKED} (lzop -d)")),
    (0, b"PK\x03\x04", Format("a zip archive", f"{_PACKED} (unzip)")),
    (0, b"7z\xbc\xaf\x27\x1c", Format("a 7z archive", _PACKED)),
    (257, b"ustar", Format("a tar archive", f"{_PACKED} (tar -x)")),
    (514, b"HdrS", Format("a bootable kernel image (vmlinuz, bzImage)", _DEBUG)),
    (56, b"ARM\x64", Format("a bootable kernel image (Image)", _DEBUG)),
    (4, b"zimg", Format("a bootable kernel image (EFI zboot)", _DEBUG)),
    (0, b"EMiL", Format("a memory image of LiME", _VMCORE)),
    (0, b"AVML", Format("a memory image of AVML", _VMCORE)),
    (0, b"LibvirtQemud", Format("a saved domain of libvirt (virsh save)", _VMCORE)),
    (0, b"QEVM", Format("a migration stream of QEMU", _VMCORE)),
    (0, b"PAGEDU", Format("a Windows crash dump", _VMCORE)),
    (0, b"QFI\xfb", Format("a qcow2 disk image", _VMCORE)),
    *(
        (0, magic, Format("a saved state of VMware (vmss, vmsn)", _VMCORE))
        for magic in (
            b"\xd0\xbe\xd0\xbe",
            b"\xd2\xbe\xd2\xbe",
            b"\xd3\xbe\xd3\xbe",
            b"\xd1\xba\xd1\xba",
        )
    ),
)
"""(offset, magic, format); the kernel's images come before what they begin like."""

_RAW = Format("a file without a known header, perhaps raw memory", _VMCORE)
_RAW_UNIT = 1 << 20


def recognize(head: bytes, size: int) -> Format | None:
    """The format of a file that begins with ``head`` and has ``size`` bytes.

    Raw memory has no magic: a file of whole MiB that begins with no text may be that.
    """
    for offset, magic, found in _FORMATS:
        if head[offset : offset + len(magic)] == magic:
            return found
    is_text = b"\0" not in head and max(head, default=0) < 0x80
    if size and size % _RAW_UNIT == 0 and not is_text:
        return _RAW
    return None
