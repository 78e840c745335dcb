# SPDX-License-Identifier: LGPL-2.1-or-later
"""gdb's output as a text stream: paged, captured and piped as that of its commands."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO, cast

import gdb

__all__ = ["GdbOutput", "opened"]


class GdbOutput(io.TextIOBase):
    """Writes through gdb; at the pager's ``q`` a write raises KeyboardInterrupt."""

    # click writes through a stream of its own making unless these two are usual.
    encoding = "utf-8"
    errors = "backslashreplace"

    def write(self, text: str) -> int:
        """Write a text; characters that gdb's charset lacks become escapes."""
        if not isinstance(text, str):
            raise TypeError("a text is needed")
        try:
            gdb.write(text)
        except UnicodeEncodeError:
            gdb.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        gdb.flush()


@contextmanager
def opened(path: str | None, appends: bool = False) -> Iterator[TextIO]:
    """The stream of an answer: a file, or gdb's own output. Raises OSError."""
    if path is None:
        yield cast(TextIO, GdbOutput())
        return
    name = os.path.expanduser(path)
    mode: Literal["a", "w"] = "a" if appends else "w"
    with open(name, mode, encoding="utf-8", errors="backslashreplace") as file:
        yield file
