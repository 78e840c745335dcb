# SPDX-License-Identifier: LGPL-2.1-or-later
"""The runner itself: a failure inside gdb must never look like success."""

from __future__ import annotations

import pytest

from .runner import Gdb, GdbFailed


def test_each_command_brings_its_own_answer(gdb: Gdb) -> None:
    answers = gdb.run("echo one", "no-such-command", "python print(6 * 7)")
    assert [answer.text for answer in answers] == ["one", "", "42\n"]
    assert answers[0].error is None and answers[2].error is None
    assert "no-such-command" in str(answers[1].error)


def test_the_version_is_the_one_that_was_asked_for(gdb: Gdb) -> None:
    major = gdb.text("python print(gdb.VERSION.split('.')[0])").strip()
    assert gdb.version in (major, "distribution")
    assert int(major) >= 12


def test_an_exception_in_python_is_an_error(gdb: Gdb) -> None:
    (answer,) = gdb.run("python raise ValueError('so')")
    assert "ValueError: so" in str(answer.error)


def test_a_gdb_that_ends_early_is_noticed(gdb: Gdb) -> None:
    with pytest.raises(GdbFailed):
        gdb.run("quit 0")
