# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command-line door: ``vmemmap [OPTIONS] VERB ...``, in `program`.

Here it is only started: Ctrl-C may come while Python still reads the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]

INTERRUPTED = 128 + 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    try:
        from . import program

        return program.main(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
