"""Whatever is typed: an answer or an error for people, never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.cli import photo
from helpers.ends import reached, reaches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.cli.main import run
from sdedit_cli.options import fields

FLAGS = [field.flag for field in fields()]
OTHERS = [
    "-o",
    "--format",
    "--on-exists",
    "--save-every",
    "--steps-dir",
    "--preset",
    "--like",
    "-q",
    "-v",
    "--json",
    "--",
]
values = st.sampled_from(
    ["0", "1", "-1", "0.5", "nan", "inf", "1e400", "a.png", "{", "{seed}.png", "x/", "-", "quick", "karras", "cuda:0"]
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
SOUND = [("--seed", "1"), ("--steps", "20"), ("-p", "a cat"), ("--sampler", "euler"), ("-q",), ("--json",)]
odd = st.sampled_from(FLAGS + OTHERS) | values | texts
words = st.lists(st.sampled_from(SOUND) | odd.map(lambda word: (word,)), max_size=6).map(
    lambda groups: [word for group in groups for word in group]
)


@reaches(answer=2, usage=20)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words)
def test_any_words_give_an_answer_or_an_error_for_people(folder: Path, words: list[str]) -> None:
    if not (folder / "a.png").exists():
        photo(folder / "a.png")
    code = run(["run", "--dry-run", "a.png", *words])
    assert code in (0, 2, 3, 4, 5)
    reached({0: "answer", 2: "usage"}.get(code, "other"))


@pytest.mark.parametrize(
    "name", ["SDEDIT_STEPS", "SDEDIT_DEVICE", "SDEDIT_CONFIG", "SDEDIT_MODELS", "SDEDIT_MAX_MEGAPIXELS"]
)
@pytest.mark.parametrize("value", ["", "x", "0", "/", ":::"])
def test_any_variable_gives_an_answer_or_an_error_for_people(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    photo(folder / "a.png")
    monkeypatch.setenv(name, value)
    assert run(["run", "--dry-run", "a.png"]) in (0, 2, 3)
