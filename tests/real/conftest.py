# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the real kernels, and a line in the log for every comparison made.

Tests run one guest after the other: all that is asked of a run is asked before the next
one is booted, and its dumps are opened once.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from .cache import RealError
from .compare import Compare
from .dumps import FORMS, Dump
from .matrix import HELP, Choice, chosen
from .runs import RARE, Run
from .truth import Truth
from .walk import PhysicalMemory, QemuWalk

_MADE = pytest.StashKey[Counter[str]]()
"""Comparisons by the dump they are about."""


LIVE = "newest,bookworm"
"""Suites of the live guests, unless others are asked for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("real kernels")
    group.addoption("--matrix", default="default", metavar="WHICH", help=HELP)
    group.addoption(
        "--live",
        default=LIVE,
        metavar="SUITES",
        help="live guests to boot, a list of suites, or 'none' (default: %(default)s)",
    )
    group.addoption(
        "--rounds",
        default=3,
        type=int,
        metavar="N",
        help="looks at a live guest that changes (default: %(default)s)",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run" in metafunc.fixturenames:
        try:
            choices = chosen(metafunc.config.getoption("--matrix"))
        except ValueError as error:
            raise pytest.UsageError(f"--matrix: {error}") from None
        only = next(metafunc.definition.iter_markers("variants"), None)
        if only is not None:
            choices = [choice for choice in choices if choice.variant in only.args]
        if not any(metafunc.definition.iter_markers("rare")):
            choices = [choice for choice in choices if choice.variant not in RARE]
        metafunc.parametrize("run", choices, ids=str, indirect=True, scope="session")
    if "form" in metafunc.fixturenames:
        metafunc.parametrize("form", FORMS, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One form of the rare guests' dumps is enough: the other costs a minute."""
    items[:] = [item for item in items if not _is_second_form_of_rare(item)]


def _is_second_form_of_rare(item: pytest.Item) -> bool:
    params = getattr(getattr(item, "callspec", None), "params", {})
    choice = params.get("run")
    is_rare = isinstance(choice, Choice) and choice.variant in RARE
    return is_rare and params.get("form", FORMS[0]) != FORMS[0]


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    """A run of the matrix, fetched and booted now unless it is cached."""
    choice: Choice = request.param
    with shown(request.config):
        try:
            return choice.run()
        except RealError as error:
            pytest.fail(f"{choice}: {error}", pytrace=False)


@pytest.fixture(scope="session")
def form(request: pytest.FixtureRequest) -> str:
    """The form of dump, one of `FORMS`."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def truth(run: Run) -> Truth:
    """What the guest said about itself."""
    return run.truth()


@pytest.fixture(scope="session")
def walk(run: Run) -> QemuWalk:
    """What QEMU said about the guest's page tables."""
    return QemuWalk(run, PhysicalMemory(run.elf))


@pytest.fixture(scope="session")
def dumps(run: Run) -> dict[str, Dump]:
    """The run's dumps by form, each opened when first asked."""
    paths = {"elf": run.elf, "kdump": run.kdump}
    return {form: Dump(run, form, paths[form]) for form in FORMS}


@pytest.fixture
def dump(dumps: dict[str, Dump], form: str) -> Dump:
    """The dump that is compared."""
    return dumps[form]


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Compare:
    """Makes the comparisons of a test."""
    run: Run = request.getfixturevalue("run")
    words = [run.release, run.variant]
    if "form" in request.fixturenames:
        words.append(request.getfixturevalue("form"))
    return Compare(" ".join(words))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory for copies of dumps, which are too big to be kept afterwards."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


class shown:
    """Lets the harness's progress reach the terminal for once."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture: Any = config.pluginmanager.getplugin("capturemanager")

    def __enter__(self) -> None:
        if self._capture is not None:
            self._capture.suspend_global_capture(in_=False)

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.resume_global_capture()


# ---- the log -------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MADE] = Counter()
    config.pluginmanager.register(_Log(config), "comparisons")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, None]:
    """Give a test's report the comparisons that it made."""
    outcome = yield
    found = getattr(item, "funcargs", {}).get("compare")
    if call.when == "call" and isinstance(found, Compare):
        report: pytest.TestReport = outcome.get_result()
        report.user_properties = [
            ("comparison", (found.place, str(made))) for made in found.made
        ]


class _Log:
    """Prints comparisons as they are made, and at the end how many."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._made = config.stash[_MADE]

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, str] | None:
        """No letter for what has lines of its own."""
        if not report.skipped and list(_lines(report)):
            return report.outcome, "", report.outcome.upper()
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal: Any = self._config.pluginmanager.getplugin("terminalreporter")
        for place, line in _lines(report):
            self._made[place] += 1
            if terminal is not None:
                terminal.ensure_newline()
                terminal.write_line(f"{place}  {line}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._made:
            terminalreporter.section("comparisons")
            for place, count in sorted(self._made.items()):
                terminalreporter.write_line(f"{count:5} {place}")
            total = sum(self._made.values())
            terminalreporter.write_line(f"{total:5} in all")


def _lines(report: pytest.TestReport) -> Iterator[tuple[str, str]]:
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "comparison" and isinstance(value, tuple):
                yield value
