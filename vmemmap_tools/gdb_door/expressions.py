# SPDX-License-Identifier: LGPL-2.1-or-later
"""Words of a command line as expressions of gdb, with the kernel's variables put right.

gdb reads a variable that a core lacks from the vmlinux, where it has its initial value,
and knows nothing of KASLR. Every kernel symbol of an expression is therefore replaced:
scalars by their value as the Target reads it, others by a pointer to where they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import gdb

from ..target.base import Fault, Target
from ..target.gdb import kernel_symbol
from .reading import kernel

__all__ = ["evaluate", "number_of"]

MASK_64 = (1 << 64) - 1
CHECKED_BYTES = 4096
"""So much of a variable is compared with what gdb sees in its place."""

_TOKEN = re.compile(
    r"\s+|\"[^\"]*\"|'[^']*'|\$?[A-Za-z_]\w*|0[xX][0-9a-fA-F]+\w*|\d[\w.]*|->|&&|::|."
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_TAGS = ("struct", "union", "enum")
_SCALARS = (
    gdb.TYPE_CODE_INT,
    gdb.TYPE_CODE_CHAR,
    gdb.TYPE_CODE_BOOL,
    gdb.TYPE_CODE_ENUM,
    gdb.TYPE_CODE_PTR,
)
_PLACES = (
    gdb.TYPE_CODE_ARRAY,
    gdb.TYPE_CODE_STRUCT,
    gdb.TYPE_CODE_UNION,
    gdb.TYPE_CODE_FUNC,
)

_NO_PLACE = (gdb.SYMBOL_LOC_TYPEDEF, gdb.SYMBOL_LOC_CONST, gdb.SYMBOL_LOC_LABEL)


def evaluate(word: str) -> int | None:
    """The number that a word stands for; None for a bare name of the kernel.

    A bare name that is a local variable of the selected frame is its value; another is
    left to the caller, who takes it for a symbol's address, as on the command line.
    Raises click.BadParameter for what gdb cannot evaluate.
    """
    if not word or (_NAME.fullmatch(word) and not _is_local(word)):
        return None
    made: list[str] = []
    try:
        return number_of(gdb.parse_and_eval(_with_kernel_symbols(word, made)))
    except (gdb.error, ValueError, Fault) as error:
        raise click.BadParameter(f"{word}: {error}") from None
    finally:
        for name in made:
            gdb.set_convenience_variable(name, None)


def number_of(value: Any) -> int:
    """A value as an unsigned 64-bit number; of arrays and structs the address.

    Raises ValueError for what is none of these, gdb.error for what cannot be read.
    """
    code = value.type.strip_typedefs().code
    if code in _SCALARS:
        return int(value) & MASK_64
    if code in _PLACES:
        if value.address is None:
            raise ValueError("it has no address")
        return int(value.address) & MASK_64
    if code == gdb.TYPE_CODE_VOID:
        raise ValueError("it has no value here")
    raise ValueError(f"a {value.type} is no address and no number")


@dataclass(frozen=True)
class _Token:
    text: str
    before: str
    """The token in front of it, "" for none."""
    further: str
    """The token in front of that."""

    @property
    def may_be_symbol(self) -> bool:
        """Whether this is a name, and neither a member nor a tag."""
        if _NAME.fullmatch(self.text) is None:
            return False
        return self.before not in (".", "->", "::", *_TAGS)

    @property
    def is_address_taken(self) -> bool:
        """Whether a unary & stands in front of it, perhaps behind a cast."""
        return self.before == "&" and re.fullmatch(r"[\w$\]]+", self.further) is None

    @property
    def may_be_read(self) -> bool:
        """Whether its value may be wanted; ``(a) & b`` looks like ``(type)&b``."""
        return not self.is_address_taken or self.further == ")"


def _tokens(word: str) -> Iterator[_Token]:
    further = before = ""
    for text in _TOKEN.findall(word):
        yield _Token(text, before, further)
        if not text.isspace():
            further, before = before, text


def _with_kernel_symbols(word: str, made: list[str]) -> str:
    """The expression with convenience variables in place of kernel symbols.

    Their names are added to ``made``.
    """
    parts = []
    for token in _tokens(word):
        text = token.text
        if token.may_be_symbol and not _is_local(text):
            stand_in = _stand_in(kernel().target, token)
            if stand_in is not None:
                name = f"_vmemmap_{len(made)}"
                made.append(name)
                gdb.set_convenience_variable(name, stand_in.value)
                text = f"(*${name})" if stand_in.is_pointer else f"${name}"
        parts.append(text)
    return "".join(parts)


@dataclass(frozen=True)
class _StandIn:
    value: Any
    is_pointer: bool


def _stand_in(target: Target, token: _Token) -> _StandIn | None:
    """What stands for a kernel symbol; None for what is none.

    Raises Fault where the value is not in the dump.
    """
    name = token.text
    found = kernel_symbol(name)
    if found is not None and found.addr_class in _NO_PLACE:
        return None
    address = target.symbol(name)
    if address is None:
        return None
    if found is None and not token.is_address_taken:
        return _StandIn(gdb.Value(_value_without_type(target, name)), is_pointer=False)
    type_ = gdb.lookup_type("char") if found is None else found.type
    scalar = type_.strip_typedefs().code in _SCALARS
    if found is not None and scalar and not token.is_address_taken:
        data = target.read(address, type_.sizeof)
        return _StandIn(gdb.Value(data, type_), is_pointer=False)
    pointer = gdb.Value(address).cast(type_.pointer())
    is_variable = found is not None and not found.is_function
    if is_variable and token.may_be_read:
        _require_same_bytes(target, name, address, min(type_.sizeof, CHECKED_BYTES))
    return _StandIn(pointer, is_pointer=True)


def _value_without_type(target: Target, name: str) -> int:
    """The value of a variable for which gdb has no type.

    Raises ValueError if the kernel's own types do not have it either, and Fault.
    """
    variable = target.variable(name)
    if variable is None or variable.type.kind not in ("int", "enum", "pointer"):
        raise ValueError(
            f"gdb has no type for {name}: load a vmlinux with debug info "
            f"(symbol-file), or write its type: *(unsigned long *)&{name}"
        )
    data = target.read(variable.address, variable.type.size)
    return int.from_bytes(data, target.byteorder)


def _require_same_bytes(target: Target, name: str, address: int, size: int) -> None:
    """Refuse a variable in whose place gdb sees something else than is there."""
    try:
        seen = bytes(gdb.selected_inferior().read_memory(address, size))
    except gdb.MemoryError:
        return  # gdb will say so itself if the expression reads it
    if seen != target.read(address, size):
        raise ValueError(
            f"gdb does not see {name} of this kernel, but the bytes of a file"
        )


def _is_local(name: str) -> bool:
    """Whether the selected frame has a variable of this name.

    Only the frame's own blocks are looked at: a search by name would go on to all
    files, and read the DWARF of the one that has it.
    """
    try:
        block = gdb.selected_frame().block()
    except RuntimeError:  # no frame, or none that debug info speaks of
        return False
    while block is not None and not block.is_global and not block.is_static:
        if any(symbol.name == name and symbol.needs_frame for symbol in block):
            return True
        if block.function is not None:  # also one that is inlined into another
            return False
        block = block.superblock
    return False
