# SPDX-License-Identifier: LGPL-2.1-or-later
"""The gdbs of the door's tests, here too."""

from __future__ import annotations

from tests.gdb_door.conftest import any_gdb, gdb

__all__ = ["any_gdb", "gdb"]
