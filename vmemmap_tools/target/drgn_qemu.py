# SPDX-License-Identifier: LGPL-2.1-or-later
"""A QMP socket that does not answer, found before and bounded after drgn opens it.

drgn waits for QEMU without a limit, inside one call that neither a signal nor another
thread can end.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import struct
import time
from contextlib import suppress
from pathlib import Path

import drgn

from .base import TargetError

__all__ = ["bound_waiting", "check_qemu"]

OPENING_SECONDS = 10.0
"""QEMU greets at once and answers in milliseconds, unless it serves another client."""
ANSWER_SECONDS = 60
"""For one read of memory, of a guest on a machine under load."""
POLL_SECONDS = 0.01
SO_RCVTIMEO = struct.pack("@ll", ANSWER_SECONDS, 0)


def check_qemu(path: str) -> None:
    """Let a child process do what drgn does first. Raises `TargetError` for silence.

    QEMU serves one client of a QMP socket and lets others wait; with the child gone it
    greets the next. Any error of the child is left to the second opening to report.
    """
    child = os.fork()
    if not child:
        try:
            drgn.Program().set_qemu_qmp(path)
        finally:
            os._exit(0)
    end = time.monotonic() + OPENING_SECONDS
    try:
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                raise TargetError(
                    f"{path} does not answer: it is no QMP socket, QEMU is stopped, or "
                    "another client holds it (QEMU serves one at a time: give it a "
                    "second -qmp)"
                )
            time.sleep(POLL_SECONDS)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise


def bound_waiting(path: str) -> None:
    """Bound each later read on this process's connection to ``path``.

    drgn keeps its socket to itself; the limit is a property that all descriptors of a
    socket share.
    """
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if stat.S_ISSOCK(entry.stat().st_mode):
                _bound(int(entry.name), path)


def _bound(descriptor: int, path: str) -> None:
    with socket.socket(fileno=os.dup(descriptor)) as client:
        if client.family == socket.AF_UNIX and client.getpeername() == path:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SO_RCVTIMEO)
