# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a capsule says beside its memory: types and symbols that were asked for.

A capsule answers the questions that its writer asked of the whole kernel, "there is no
such member" among them. Another question is refused: what was not carried must not be
taken for what does not exist.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .base import Evidence, Function, Member, Struct, TargetError, VariableType

__all__ = ["CapsuleNote", "RecordedSymbols", "RecordedTypes"]

FORMAT = 1
MAX_NOTE = 64 << 20
PARTS = ("structs", "variables", "functions", "enumerators", "enums", "symbols")


@dataclass
class CapsuleNote:
    """The description within a capsule: answers, and what was and was not carried.

    ``ranges`` are the (physical address, bytes) that the file truly holds, where its
    format stores whole pages. ``account`` is for people: pages by kind, what was left
    out and why.
    """

    answers: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {part: {} for part in PARTS}
    )
    ranges: list[tuple[int, int]] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    def pack(self) -> bytes:
        """As bytes for the file."""
        whole = {"format": FORMAT, **asdict(self)}
        return zlib.compress(json.dumps(whole, separators=(",", ":")).encode(), 9)

    @classmethod
    def unpack(cls, data: bytes) -> CapsuleNote:
        """From the bytes of a file. Raises `TargetError` for what is none."""
        try:
            unpacker = zlib.decompressobj()
            whole = json.loads(unpacker.decompress(data, MAX_NOTE))
            if whole["format"] != FORMAT:
                raise TargetError(
                    f"a capsule of format {whole['format']!r:.20}: this program reads "
                    f"format {FORMAT}"
                )
            answers = {part: dict(whole["answers"][part]) for part in PARTS}
            ranges = [(int(pa), int(size)) for pa, size in whole["ranges"]]
            return cls(answers, ranges, dict(whole["account"]), str(whole["source"]))
        except (zlib.error, ValueError, KeyError, TypeError, RecursionError):
            raise TargetError("a damaged capsule: its description") from None


class _Answers:
    def __init__(self, note: CapsuleNote):
        self._note = note

    def _answer(self, part: str, name: str) -> Any:
        answers = self._note.answers[part]
        if name not in answers:
            raise TargetError(
                f"this capsule does not say about {name} ({part}): it was made by a "
                "vmemmap that did not ask; make it again, or give the vmlinux with -s"
            )
        return answers[name]


class RecordedTypes(_Answers):
    """The types in a capsule."""

    def struct(self, name: str) -> Struct | None:
        found = self._answer("structs", name)
        if found is None:
            return None
        members = {key: Member(*fields) for key, fields in found["members"].items()}
        return Struct(found["name"], found["size"], members)

    def variable(self, name: str) -> VariableType | None:
        found = self._answer("variables", name)
        if found is None:
            return None
        return VariableType(Member(*found["type"]), found["address"])

    def function(self, name: str) -> Function | None:
        found = self._answer("functions", name)
        return None if found is None else Function(name, tuple(found))

    def enumerator(self, name: str) -> int | None:
        found: int | None = self._answer("enumerators", name)
        return found

    def enumerators(self, enum: str) -> Mapping[str, int]:
        found: Mapping[str, int] = self._answer("enums", enum)
        return found

    def evidence(self) -> list[Evidence]:
        return [Evidence("types", "capsule", self._note.source)]


class RecordedSymbols(_Answers):
    """The symbols in a capsule."""

    def symbol(self, name: str) -> int | None:
        """A symbol that the tool itself asks for. Raises `TargetError` for others."""
        variable = self._note.answers["variables"].get(name)
        if variable is not None and variable["address"] is not None:
            return int(variable["address"])
        if name not in self._note.answers["symbols"]:
            raise TargetError(
                f"this capsule does not say about {name} (symbols): it carries those "
                "that the verbs need; give an address, or the vmlinux with -s"
            )
        found: int | None = self._note.answers["symbols"][name]
        return found

    def evidence(self) -> list[Evidence]:
        return [Evidence("symbols", "capsule", self._note.source)]
