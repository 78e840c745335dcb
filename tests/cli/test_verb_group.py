# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import json
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from vmemmap_tools.commands import DEFAULT_VERB, VERBS, VerbGroup
from vmemmap_tools.commands.session import NoProgress, Session

from .verbs import FAKE_VERBS


def invoke(*words: str, obj: Session | None = None) -> Result:
    group = VerbGroup("vmemmap", verbs=FAKE_VERBS)
    return CliRunner().invoke(group, list(words), obj=obj or Session())


def chosen(*words: str, obj: Session | None = None) -> dict[str, str]:
    result = invoke("--format", "json", "echo", *words, obj=obj)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.output)["rows"]
    return {row["option"]: row["value"] for row in rows}


def test_a_bare_call_runs_the_default_verb() -> None:
    assert DEFAULT_VERB == next(iter(VERBS)) == "summary"
    result = invoke()
    assert result.exit_code == 0
    assert "OPTION" in result.output


def test_a_bare_call_takes_the_format() -> None:
    schema = json.loads(invoke("--format", "json").output)["schema"]
    assert schema == "vmemmap-tools/echo/1"


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "json", "echo"],
        ["echo", "--format", "json"],
        ["--format", "csv", "echo", "--format", "json"],
    ],
)
def test_the_format_is_taken_before_and_after_the_verb(words: list[str]) -> None:
    json.loads(invoke(*words).output)


def test_a_format_lasts_for_one_call() -> None:
    session = Session()
    invoke("echo", "--format", "json", obj=session)
    assert session.format == "table"


def test_help_of_group_and_verb_shows_the_format() -> None:
    for words in (["--help"], ["echo", "--help"]):
        assert invoke(*words).output.count("--format") == 1


def test_help_lists_verbs_in_order_with_their_first_sentence() -> None:
    output = invoke("--help").output
    assert output.index("summary") < output.index("echo ")
    assert output.count("Say what was asked for.") == 2


def test_help_of_a_verb_opens_nothing() -> None:
    def refuse() -> Any:
        raise AssertionError("opened")

    assert invoke("echo", "--help", obj=Session(open_kernel=refuse)).exit_code == 0


@pytest.mark.parametrize(
    ("word", "end"),
    [("sumary", "no verb 'sumary'; did you mean summary?"), ("xyz", "no verb 'xyz'")],
)
def test_an_unknown_verb_is_named_and_a_near_one_offered(word: str, end: str) -> None:
    result = invoke(word)
    assert result.exit_code == 2
    assert result.output.rstrip().endswith(end)


def test_a_door_can_add_commands_of_its_own() -> None:
    group = VerbGroup("vmemmap", verbs=FAKE_VERBS)
    group.add_command(click.Command("capsule", help="Write a capsule."))
    assert group.list_commands(click.Context(group)) == ["summary", "echo", "capsule"]


def test_an_embedded_door_can_invoke_without_main(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = VerbGroup("%vmemmap", verbs=FAKE_VERBS)
    with group.make_context("%vmemmap", ["echo"], obj=Session()) as context:
        group.invoke(context)
    assert "OPTION" in capsys.readouterr().out


def test_shared_options_reach_the_verb() -> None:
    words = "--node 1 --zone movable --order 9 --section 3 --pfn 0x10-0x20"
    assert chosen(*words.split(), "--not-optimized") == {
        "node": "1",
        "zone": "Movable",
        "order": "9",
        "section": "range(3, 4)",
        "pfn": "range(16, 32)",
        "optimised": "False",
    }


def test_shared_options_are_none_by_default() -> None:
    assert set(chosen().values()) == {"None"}


def test_words_are_expressions_where_the_door_has_them() -> None:
    session = Session(evaluate=lambda text: {"$rdi": -4096, "page->next": 7}[text])
    targets = chosen("va:$rdi", "pfn:page->next", "12", obj=session)
    assert targets["va:"] == "0xfffffffffffff000"
    assert targets["pfn:"] == "0x7"
    assert targets["address:"] == "0xc"


def test_no_progress_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with NoProgress("walking", 3) as progress:
        progress.update(3)
    assert capsys.readouterr() == ("", "")


def test_a_session_without_a_kernel_says_so() -> None:
    result = invoke("echo", "--open")
    assert result.exit_code == 2
    assert "no kernel is open" in result.output
