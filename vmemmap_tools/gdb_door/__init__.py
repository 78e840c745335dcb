# SPDX-License-Identifier: LGPL-2.1-or-later
"""The gdb door: ``vmemmap ...``, ``lx-*`` and ``$lx_*`` in a running gdb.

Loaded by ``gdb_scripts/vmemmap-gdb.py``, once more whenever a user sources that again.
Only this room and ``target/gdb*.py`` import gdb.
"""

from __future__ import annotations

__all__ = ["register"]


def register() -> None:
    """Make commands, functions and parameters known to gdb; may be repeated."""
    from .command import register_commands
    from .compat import register_compat
    from .functions import register_functions
    from .parameters import register_parameters

    register_parameters()
    register_commands()
    register_compat()
    register_functions()
