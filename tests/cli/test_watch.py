# SPDX-License-Identifier: LGPL-2.1-or-later
"""`vmemmap watch`: lines, objects and a live table of a kernel that changes."""

from __future__ import annotations

import csv
import io
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.analysis.moving import Moving, States
from tests.model.kernels import small
from vmemmap_tools.cli import main
from vmemmap_tools.cli import open as opening
from vmemmap_tools.kernel.kernel import Kernel
from vmemmap_tools.target.base import Fault
from vmemmap_tools.target.drgn import DrgnTarget

KEPT = 28672
"""Bytes that HVO saves for a 2 MiB page (kernel-reference: 7 pages of 8)."""


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> tuple[DrgnTarget, DrgnTarget]:
    """4 huge pages; then 10, two of them not optimised."""
    states = States(tmp_path_factory.mktemp("states"))
    machine = small("7.3").hugetlb_alloc("2M", 4)
    four = states.capture(machine)
    machine.hugetlb_alloc("2M", 4).set_hvo(False).hugetlb_alloc("2M", 2)
    return four, states.capture(machine)


@pytest.fixture
def target(
    pools: tuple[DrgnTarget, DrgnTarget], monkeypatch: pytest.MonkeyPatch
) -> Moving:
    """4 pages in the first look, 10 in the second, 4 again in the third."""
    four, ten = pools
    target = Moving([four, four, ten, ten, four])
    monkeypatch.setattr(opening, "open_kernel", lambda _: Kernel(target))
    return target


def watch(*words: str) -> list[str]:
    return ["watch", "--interval", "0", "--count", "3", *words]


def test_a_pipe_gets_a_line_for_each_look(
    target: Moving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(watch()) == 0
    heading, _, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["TIME", "PAGES", "+/-"]
    assert [line.split()[1:6] for line in lines] == [
        ["4", "-", "4", "4", "-"],
        ["10", "+6", "10", "8", "+4"],
        ["4", "-6", "4", "4", "-4"],
    ]
    assert [line.split()[-1] for line in lines] == ["yes"] * 3


def test_json_is_an_object_a_line(
    target: Moving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(watch("--format", "json")) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {look["schema"] for look in looks} == {"vmemmap-tools/watch/1"}
    assert [look["saved_hugetlb_bytes"] for look in looks] == [
        4 * KEPT,
        8 * KEPT,
        4 * KEPT,
    ]
    assert [look["saved_hugetlb_bytes_change"] for look in looks] == [
        None,
        4 * KEPT,
        -4 * KEPT,
    ]
    (pool,) = [p for p in looks[1]["pools"] if p["size_bytes"] == 2 << 20]
    assert (pool["node"], pool["total"], pool["total_change"]) == (0, 10, 6)
    assert (pool["optimised"], pool["optimised_change"]) == (8, 4)


def test_csv_has_a_line_for_each_look(
    target: Moving, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--format", "csv", *watch()]) == 0
    captured = capsys.readouterr()
    looks = list(csv.DictReader(io.StringIO(captured.out)))
    assert [look["total"] for look in looks] == ["4", "10", "4"]
    assert [look["optimised_change"] for look in looks] == ["", "4", "-4"]
    assert captured.err == ""


def test_a_terminal_gets_a_table_that_is_drawn_again(
    target: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(watch()) == 0
    assert isinstance(sys.stdout, Terminal)
    _, *screens = sys.stdout.getvalue().split("\x1b[H\x1b[2J\x1b[3J")
    assert len(screens) == 3
    row = next(line for line in screens[1].splitlines() if "2 MiB" in line)
    assert row.split()[:8] == ["2", "MiB", "0", "10", "+6", "10", "8", "+4"]


def test_a_dump_is_refused_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_kernel(_: opening.Opening) -> Any:
        raise AssertionError("opened")

    monkeypatch.setattr(opening, "open_kernel", open_kernel)
    assert main(["-c", "vmcore", "watch"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "vmcore is a dump, which does not change: leave out -c" in line


def test_nothing_is_printed_before_the_kernel_is_open(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_kernel(_: opening.Opening) -> Any:
        raise Fault(0, 8, "io")

    monkeypatch.setattr(opening, "open_kernel", open_kernel)
    assert main(watch()) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1


def test_an_interrupt_ends_it_without_a_word(
    target: Moving,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: signal.raise_signal(signal.SIGINT))
    assert main(["watch", "--interval", "60"]) == 130
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert captured.err == ""


def test_looks_come_at_the_interval_however_long_they_take(
    target: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    slept: list[float] = []

    def clock() -> float:
        nonlocal now
        now += 0.25  # asking takes time, too
        return now

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    monkeypatch.setattr("time.monotonic", clock)
    monkeypatch.setattr("time.sleep", sleep)
    assert main(["watch", "--interval", "10", "--count", "4"]) == 0
    assert len(slept) == 3
    assert all(9 <= seconds < 10 for seconds in slept)


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Whatever ran before: an interrupt raises KeyboardInterrupt."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)
