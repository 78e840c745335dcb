# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a committed layout comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INDEX_NAME", "Origin"]

INDEX_NAME = "index.json"
"""The file beside the layouts: name -> fields of `Origin`."""


@dataclass(frozen=True)
class Origin:
    """The kernel of a layout. ``package`` is free text, for a human reader."""

    release: str
    build_id: str
    package: str = ""
