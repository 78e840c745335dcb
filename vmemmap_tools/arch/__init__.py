# SPDX-License-Identifier: LGPL-2.1-or-later
"""Address-space layout and page-table format, one data file per architecture."""

from __future__ import annotations

from .architecture import Architecture, Fact, KernelFacts
from .x86_64 import X86_64

__all__ = ["ARCHITECTURES", "Architecture", "Fact", "KernelFacts"]

ARCHITECTURES = {arch.name: arch for arch in (X86_64,)}
"""The architectures this tool can read, by the names that Targets give."""
