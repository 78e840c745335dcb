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
from dataclasses import dataclass, field
from typing import Any, Callable, TypeVar

from .base import Evidence, Function, Member, Struct, TargetError, VariableType
from .words import Words

__all__ = ["CapsuleNote", "RecordedSymbols", "RecordedTypes"]

T = TypeVar("T")

FORMAT = 3
MAX_TEXT = 1 << 12
MAX_SIZE = 1 << 32
MEMBER_KINDS = frozenset(
    ("int", "pointer", "array", "struct", "union", "enum", "float", "void")
)
MAX_NOTE = 64 << 20
"""Bytes of a description, unpacked: 37 MiB in a capsule of a machine of 1 TiB."""
MAX_VALUES = 3 << 20
"""Values in its JSON, which take up to 200 bytes each: 1.6 million in that capsule."""
END_OF_TEXT = b"\0"
PARTS = ("structs", "variables", "functions", "enumerators", "enums", "symbols")


@dataclass
class CapsuleNote:
    """The description within a capsule: answers, and what was and was not carried.

    ``ranges`` are the (physical address, bytes) that the file truly holds, where its
    format stores whole pages. ``account`` is for people: pages by kind, what was left
    out and why. ``words`` of struct pages are held here and nowhere else.
    """

    answers: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {part: {} for part in PARTS}
    )
    ranges: list[tuple[int, int]] = field(default_factory=list)
    account: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    words: Words = field(default_factory=Words)

    def pack(self) -> bytes:
        """As bytes for the file."""
        whole = {
            "format": FORMAT,
            "answers": self.answers,
            "ranges": self.ranges,
            "account": self.account,
            "source": self.source,
        }
        text = json.dumps(whole, separators=(",", ":")).encode()
        return zlib.compress(text + END_OF_TEXT + self.words.pack(), 9)

    @classmethod
    def unpack(cls, data: bytes) -> CapsuleNote:
        """From the bytes of a file. Raises `TargetError` for what is none."""
        try:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(data, MAX_NOTE)
            text, _, words = unpacked.partition(END_OF_TEXT)
            del unpacked
            if unpacker.unconsumed_tail or sum(map(text.count, b"[{,")) > MAX_VALUES:
                raise TargetError(
                    "a capsule whose description is larger than that of any machine: "
                    "it is damaged, or made to exhaust memory"
                )
            whole = json.loads(text)
            if whole["format"] != FORMAT:
                raise TargetError(
                    f"a capsule of format {whole['format']!r:.20}: this program reads "
                    f"format {FORMAT}"
                )
            answers = {part: dict(whole["answers"][part]) for part in PARTS}
            ranges = [(int(pa), int(size)) for pa, size in whole["ranges"]]
            account, source = dict(whole["account"]), str(whole["source"])
            return cls(answers, ranges, account, source, Words.unpack(words))
        except (
            zlib.error,
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            RecursionError,
        ):
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

    @staticmethod
    def _decode(name: str, decode: Callable[[Any], T], said: Any) -> T:
        """What is said, if it can be. Raises `TargetError`."""
        try:
            return decode(said)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise TargetError(
                f"a capsule that cannot be: what it says of {name}"
            ) from None


class _Refused(ValueError):
    """Something that no writer of capsules says."""


def _number(value: Any, limit: int, lowest: int = 0) -> int:
    """An integer from ``lowest`` to before ``limit``. Raises `_Refused`."""
    if type(value) is not int or not lowest <= value < limit:
        raise _Refused
    return value


def _optional(value: Any, limit: int, lowest: int = 0) -> int | None:
    return None if value is None else _number(value, limit, lowest)


def _text(value: Any) -> str:
    if type(value) is not str or len(value) > MAX_TEXT:
        raise _Refused
    return value


def _member(fields: Any, size: int = MAX_SIZE) -> Member:
    """A member that ends within so many bytes. Raises `_Refused`."""
    offset, own, kind, spelled, length, element, element_size, depth, bit, bits = fields
    if kind not in MEMBER_KINDS or element not in (None, *MEMBER_KINDS):
        raise _Refused
    member = Member(
        _number(offset, size + 1),
        _number(own, size + 1),
        kind,
        _text(spelled),
        _optional(length, MAX_SIZE),
        element,
        _optional(element_size, MAX_SIZE),
        _number(depth, 16),
        _optional(bit, 8 * size),
        _optional(bits, 65),
    )
    if member.offset + member.size > size or (member.length or 0) > MAX_SIZE:
        raise _Refused
    return member


class RecordedTypes(_Answers):
    """The types in a capsule. What cannot be is a `TargetError`."""

    def struct(self, name: str) -> Struct | None:
        found = self._answer("structs", name)
        return None if found is None else self._decode(name, _struct, found)

    def variable(self, name: str) -> VariableType | None:
        found = self._answer("variables", name)
        return None if found is None else self._decode(name, _variable, found)

    def function(self, name: str) -> Function | None:
        found = self._answer("functions", name)
        if found is None:
            return None
        return self._decode(name, lambda f: Function(name, tuple(map(_text, f))), found)

    def enumerator(self, name: str) -> int | None:
        return self._decode(name, _constant, self._answer("enumerators", name))

    def enumerators(self, enum: str) -> Mapping[str, int]:
        return self._decode(enum, _constants, self._answer("enums", enum))

    def evidence(self) -> list[Evidence]:
        return [Evidence("types", "capsule", self._note.source)]


def _struct(found: Any) -> Struct:
    size = _number(found["size"], MAX_SIZE)
    members = {
        _text(k): _member(fields, size) for k, fields in found["members"].items()
    }
    return Struct(_text(found["name"]), size, members)


def _variable(found: Any) -> VariableType:
    return VariableType(_member(found["type"]), _optional(found["address"], 1 << 64))


def _constant(found: Any) -> int | None:
    """Numbers of bits, zones and types: none is negative."""
    return _optional(found, 1 << 32)


def _constants(found: Any) -> dict[str, int]:
    return {_text(k): _number(v, 1 << 64, -1 << 63) for k, v in found.items()}


class RecordedSymbols(_Answers):
    """The symbols in a capsule."""

    def symbol(self, name: str) -> int | None:
        """A symbol that the tool itself asks for. Raises `TargetError` for others."""
        variables = self._note.answers["variables"]
        variable = variables.get(name)
        if variable is not None:
            address = self._decode(name, _variable, variable).address
            if address is not None:
                return address
        elif name in variables and name not in self._note.answers["symbols"]:
            return None  # the kernel has no such variable
        if name not in self._note.answers["symbols"]:
            raise TargetError(
                f"this capsule does not say about {name} (symbols): it carries those "
                "that the verbs need; give an address, or the vmlinux with -s"
            )
        found = self._note.answers["symbols"][name]
        return self._decode(name, lambda value: _optional(value, 1 << 64), found)

    def evidence(self) -> list[Evidence]:
        return [Evidence("symbols", "capsule", self._note.source)]
