# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every ``>>>`` of the helpers' documentation does what it says."""

from __future__ import annotations

import inspect
from typing import Callable

import pytest

from tests.drgn_helpers.examples import run_examples
from tests.model.kernels import GENERATIONS
from tests.samples import Sample
from vmemmap_tools import drgn_helpers


def test_they_print_what_they_say(sample: Callable[[str], Sample]) -> None:
    tried, failed = run_examples(sample("gen-7.3").program())
    assert not failed, "".join(failed)
    assert tried >= 25


@pytest.mark.parametrize("generation", [g for g in GENERATIONS if g != "7.3"])
def test_they_run_on_every_generation(
    generation: str, sample: Callable[[str], Sample]
) -> None:
    _, failed = run_examples(sample(f"gen-{generation}").program(), exactly=False)
    assert not failed, "".join(failed)


def test_every_helper_documents_types_and_result() -> None:
    for name in drgn_helpers.__all__:
        helper = getattr(drgn_helpers, name)
        if inspect.isclass(helper):
            continue
        text = helper.__doc__ or ""
        assert text.startswith("\n    "), f"{name}: an imperative sentence"
        assert ":param" in text, f"{name}: C types of its parameters"
