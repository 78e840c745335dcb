# SPDX-License-Identifier: LGPL-2.1-or-later
"""JSON, the stable form: one object, written row by row, totals last.

The text is pure ASCII with one row per line. If reading fails half-way the object stays
unfinished: half an answer must not parse as a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TextIO

from .report import Report

__all__ = ["render_json"]


def render_json(report: Report, stream: TextIO) -> None:
    """Write schema, kernel, rows, totals and missing, in this order."""
    write = stream.write
    write(f'{{"schema": {_encode(report.schema)},\n"kernel": {_encode(report.kernel)},')
    write('\n"rows": [')
    separator = "\n"
    for row in report.rows:
        write(separator + _encode(row))
        separator = ",\n"
        if report.streamed:
            stream.flush()
    write(f'\n],\n"totals": {_encode(report.totals())},')
    write(f'\n"missing": {_encode(report.missing())}}}\n')


def _plain(value: Any) -> Any:
    """Give the encoder a mapping that is no dict; anything else is our mistake."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in a row")


_encoder = json.JSONEncoder(default=_plain, allow_nan=False)


def _encode(value: Any) -> str:
    text = _encoder.encode(value)
    # "\ud..." is half of a character above U+FFFF, or a byte that was no text. The
    # second is not valid JSON for every reader.
    return _encoder.encode(_whole_characters(value)) if "\\ud" in text else text


def _whole_characters(value: Any) -> Any:
    r"""Write lone surrogates out, as in the table form: six characters ``\udc80``."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {
            _whole_characters(key): _whole_characters(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_whole_characters(item) for item in value]
    return value
