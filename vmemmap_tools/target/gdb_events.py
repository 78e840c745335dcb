# SPDX-License-Identifier: LGPL-2.1-or-later
"""When what was read from gdb's inferior may no longer hold."""

from __future__ import annotations

import weakref
from typing import Any, Callable

import gdb

__all__ = ["on_change"]

EVENTS = (
    "stop",
    "cont",
    "exited",
    "memory_changed",
    "register_changed",
    "new_objfile",
    "free_objfile",
    "clear_objfiles",
    "connection_removed",
)
"""Names of ``gdb.events``; those that a gdb lacks (12 lacks the last but few) are
passed over."""


def on_change(forget: Callable[[], None]) -> None:
    """Call a method whenever memory, symbols or the target may have changed.

    Ends by itself when the method's object is gone.
    """
    method = weakref.WeakMethod(forget)
    registries = [r for r in (getattr(gdb.events, n, None) for n in EVENTS) if r]

    def changed(_event: Any) -> None:
        call = method()
        if call is not None:
            call()
            return
        for registry in registries:
            registry.disconnect(changed)

    for registry in registries:
        registry.connect(changed)
