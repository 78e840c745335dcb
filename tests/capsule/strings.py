# SPDX-License-Identifier: LGPL-2.1-or-later
"""The text in a capsule's memory, to be compared with what it says it carries."""

from __future__ import annotations

import re
from pathlib import Path

from vmemmap_tools.formats.elf import Elf

__all__ = ["strings_of"]

TEXT = re.compile(rb"[\x20-\x7e]{4,}")
LETTERS = re.compile(rb"[A-Za-z]{3,}")


def strings_of(path: Path) -> set[str]:
    """Runs of printable bytes in the memory of an ELF capsule that look like text.

    Its notes are left out: VMCOREINFO, and the description, which is compressed.
    """
    found: set[str] = set()
    with Elf(path) as elf:
        for segment in elf.loads():
            data = elf.read_at(segment.offset, segment.file_size)
            texts = (match[0] for match in TEXT.finditer(data))
            found.update(text.decode() for text in texts if LETTERS.search(text))
    return found
