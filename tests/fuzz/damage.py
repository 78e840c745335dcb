# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other bytes, numbers, words and lines in the place of sound ones."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

__all__ = ["damaged_bytes", "damaged_lines", "damaged_word", "lie", "patched"]

MASK = (1 << 64) - 1
SIZES = (1, 1, 2, 4, 4, 8, 8, 64)
LIES: tuple[Any, ...] = (
    *(None, -1, 0, 1, 7, 1 << 31, 1 << 63, 1 << 70, "", "x", 1.5),
    *([], {}, [[]] * 4096, "x" * 5000, {"a": {"a": {}}}),
)
TEXTS = (
    *("", "0", "-1", "1", "99999999999999999999", "0x7fffffffffffffff", "1e400", "nan"),
    *("\x1b[31m", "\xff", "../../x", '"', "[", "=", "\0", "16E", "0K", "1G,", "true"),
)
"""What text is replaced by."""


def damaged_word(draw: Random, old: int, others: Sequence[int] = ()) -> int:
    """Another 64-bit word: one of others, a flipped bit, a near one, noise."""
    return draw.choice(
        (
            lambda: draw.choice(others) if others else 0,
            lambda: old ^ 1 << draw.randrange(64),
            lambda: old + draw.randint(-64, 64) & MASK,
            lambda: draw.choice((0, 1, 1 << 31, (1 << 32) - 1, 1 << 63, MASK)),
            lambda: draw.getrandbits(64),
        )
    )()


def damaged_bytes(draw: Random, old: bytes) -> bytes:
    """Other bytes of the same length: a changed number, zeros, ones, noise."""
    number = damaged_word(draw, int.from_bytes(old[:8], "little"))
    word = (number & (1 << 8 * len(old)) - 1).to_bytes(max(8, len(old)), "little")
    return draw.choice(
        (
            word[: len(old)],
            word[: len(old)],
            bytes(len(old)),
            b"\xff" * len(old),
            draw.randbytes(len(old)),
        )
    )


def patched(
    draw: Random, content: bytes, areas: Sequence[tuple[int, int]], most: int = 4
) -> bytes:
    """The content with one to ``most`` places in these (start, end) changed."""
    whole = bytearray(content)
    for _ in range(draw.randint(1, most)):
        start, end = draw.choice(areas)
        size = min(draw.choice(SIZES), end - start)
        at = draw.randrange(start, end - size + 1)
        if draw.random() < 0.5:
            at = start + (at - start) // size * size
        whole[at : at + size] = damaged_bytes(draw, bytes(whole[at : at + size]))
    return bytes(whole)


def damaged_lines(draw: Random, text: str) -> str:
    """Lines changed behind their "=", dropped, doubled, exchanged, or noise in them."""
    lines = text.splitlines(keepends=True)
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(lines))
        line = lines[at]
        key, equals, _ = line.partition("=")
        kind = draw.randrange(6)
        if kind == 0:
            lines[at] = draw.choice(lines)
        elif kind == 1:
            lines[at] = line * draw.choice((0, 2, 1000))
        elif kind == 2:
            place = draw.randrange(len(line) + 1)
            lines[at] = line[:place] + draw.choice(TEXTS) + line[place + 1 :]
        elif equals:
            other = draw.choice(lines).partition("=")[2] or "\n"
            number = draw.choice((draw.getrandbits(64), draw.randint(-8, 128)))
            values = (other, f"{number}\n", f"{number:#x}\n", draw.choice(TEXTS) + "\n")
            quoted = f'"{draw.choice(TEXTS)}"\n'
            lines[at] = key + equals + draw.choice((*values, quoted))
    return "".join(lines)


def lie(draw: Random, value: Any) -> Any:
    """The value of a JSON with something else somewhere in it."""
    if isinstance(value, dict) and value and draw.randrange(10):
        key = draw.choice(sorted(value))
        return {**value, key: lie(draw, value[key])}
    if isinstance(value, (list, tuple)) and value and draw.randrange(10):
        at = draw.randrange(len(value))
        return [*value[:at], lie(draw, value[at]), *value[at + 1 :]]
    return draw.choice(LIES)
