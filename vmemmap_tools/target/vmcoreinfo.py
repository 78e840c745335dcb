# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMCOREINFO: the text note in which a kernel describes itself to dump tools.

Mirrors ``kernel/vmcore_info.c``. ``SYMBOL()`` and ``KERNELOFFSET`` are hexadecimal
without 0x; ``NUMBER()`` is decimal or 0x-prefixed and may be negative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .base import TargetError

__all__ = ["VmcoreInfo", "VmcoreInfoError", "read_vmcoreinfo"]

MAX_BYTES = 1 << 20
"""The note of a kernel is one page; more is another file."""


class VmcoreInfoError(TargetError):
    """A VMCOREINFO text that cannot be understood."""


class VmcoreInfo(Mapping[str, str]):
    """The keys and values of a VMCOREINFO note."""

    def __init__(self, text: str):
        self._values = dict(
            line.split("=", 1) for line in text[:MAX_BYTES].splitlines() if "=" in line
        )

    def __getitem__(self, key: str) -> str:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def number(self, name: str) -> int | None:
        """``NUMBER(name)``, signed."""
        return self._int(f"NUMBER({name})", 0)

    def symbol(self, name: str) -> int | None:
        """``SYMBOL(name)``: an address; for arrays (mem_section, vmemmap) a value."""
        return self._int(f"SYMBOL({name})", 16)

    def length(self, name: str) -> int | None:
        """``LENGTH(name)``: elements of an array."""
        return self._int(f"LENGTH({name})", 0)

    def size(self, name: str) -> int | None:
        """``SIZE(name)``: bytes of a struct."""
        return self._int(f"SIZE({name})", 0)

    def offset(self, name: str) -> int | None:
        """``OFFSET(struct.member)``: bytes."""
        return self._int(f"OFFSET({name})", 0)

    def has_section_roots(self) -> bool:
        """SPARSEMEM_EXTREME: ``mem_section`` points to roots, and is no plain array.

        An array has an element for every section that there can be.
        """
        length, bits = self.length("mem_section"), self.number("MAX_PHYSMEM_BITS")
        size = self.number("SECTION_SIZE_BITS")
        if length is None or bits is None or size is None or not 0 <= bits - size < 64:
            return True
        return length < 1 << bits - size

    def with_patch_level(self) -> str | None:
        """The text with a third number in OSRELEASE, None if it has one.

        libkdumpfile cannot read a release such as "7.3-cloud-amd64" and then refuses
        every access; the number serves it alone and is shown to nobody.
        """
        release = self.get("OSRELEASE", "")
        if not re.fullmatch(r"\d+\.\d+(?![.\d]).*", release):
            return None
        patched = re.sub(r"^(\d+\.\d+)", r"\1.0", release)
        return "".join(
            f"{key}={patched if key == 'OSRELEASE' else value}\n"
            for key, value in self.items()
        )

    def check_release(self) -> None:
        """Refuse an OSRELEASE that leads elsewhere as part of a path.

        drgn looks for debug info below ``/lib/modules/RELEASE`` and the like. Raises
        `VmcoreInfoError`.
        """
        release = self.get("OSRELEASE", "")
        if "/" in release or release in (".", ".."):
            raise VmcoreInfoError(
                f"VMCOREINFO OSRELEASE={release} is not the release of a kernel: the "
                "note is damaged, or made to lead to other files"
            )

    def _int(self, key: str, base: int) -> int | None:
        text = self.get(key)
        if text is None:
            return None
        try:
            return int(text, base)
        except ValueError:
            raise VmcoreInfoError(
                f"VMCOREINFO {key} is not a number: {text!r}"
            ) from None


def read_vmcoreinfo(path: str) -> str:
    """Read the text of a VMCOREINFO note from a file. Raises `TargetError`."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_BYTES or b"OSRELEASE=" not in content:
        raise TargetError(f"{path} is no VMCOREINFO: it has no line OSRELEASE=...")
    text = content[content.index(b"OSRELEASE=") :].rstrip(b"\0\n")
    return text.decode("utf-8", "replace") + "\n"
