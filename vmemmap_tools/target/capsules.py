# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether a dump is a capsule, and what it then says of itself."""

from __future__ import annotations

from ..formats.seal import SealError, read_seal
from .base import TargetError
from .recorded import CapsuleNote

__all__ = ["capsule_of"]


def capsule_of(path: str) -> CapsuleNote | None:
    """The description in a capsule, None for any other dump.

    Raises `TargetError` for a capsule that is not as it was when it was sealed, and
    OSError.
    """
    try:
        with open(path, "rb") as file:
            body = read_seal(file)
    except SealError as error:
        raise TargetError(f"{path} is a damaged capsule: {error}") from None
    return None if body is None else CapsuleNote.unpack(body)
