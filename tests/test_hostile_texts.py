"""Texts and numbers from strangers: values or errors in words, and work that grows with the size alone.

Work is counted, not timed: as the calls and lines that Python runs, or as what a pattern is asked to match.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sdedit_cli.batch.json_lines import row_of_json
from sdedit_cli.batch.request import Model, Request
from sdedit_cli.batch.tables import read_csv
from sdedit_cli.batch.targets import plan
from sdedit_cli.configs.base import LARGEST_TEXT, object_in, read_json
from sdedit_cli.configs.clip import CLIPTextConfig
from sdedit_cli.configs.scheduler import OPTIONS
from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.configs.vae import VAEConfig
from sdedit_cli.errors import JobFileError, ModelError, PresetError, SdeditError, UsageError
from sdedit_cli.noise.scheduler import Scheduler
from sdedit_cli.options import Edit, toml_table
from sdedit_cli.pictures.foreign_graph import said_by_graph
from sdedit_cli.presets import MAX_BYTES, read_toml
from sdedit_cli.text import Tokenizer, encode_weighted, segments
from sdedit_cli.text.grammar import _NUMBER, _SIGNED, parse
from sdedit_cli.text.tags import _END, _OPENING, split_tags

HUGE: list[Any] = [10**400, -(10**400), 10**18, 1e308, -1e308, float("inf"), float("nan"), [10**400], [], "x" * 10**5]

REQUEST = Request(Edit(), Model("built-in", None))


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python `work` runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize(
    "unit", ["(", "[", "(a:1)", "[a|b]", "BREAK ", " ", "\\", "a/-", "B", "(a:1", "[a:b:0.5]", "((a))", ":", "1"]
)
def test_the_grammar_of_prompts_takes_time_by_the_length(unit: str) -> None:
    once, twice = (lines_run(lambda n=n: parse(unit * n)) for n in (200, 400))
    assert twice < 2.2 * once + 500


@pytest.mark.parametrize("unit", ["<", "<lora:a:1>", "<lora:x", "&lt;", "\\", "<lora:a:1,1,1>", "<l", ">", ": <b:"])
def test_tags_of_prompts_take_time_by_the_length(unit: str) -> None:
    def tried(text: str) -> None:
        with suppress(UsageError):
            split_tags(text)

    once, twice = (lines_run(lambda n=n: tried(unit * n)) for n in (200, 400))
    assert twice < 2.2 * once + 500
    # Of patterns, Python counts nothing: none of these may look on from a place where it failed before.
    assert not set("*+") & set(_OPENING.pattern + _END.pattern)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_names_that_no_option_has_are_compared_with_those_of_options_once(kind: str, tmp_path: Path) -> None:
    names = [f"strengths{n}" for n in range(2000)]
    line, path = json.dumps({"input": "a.png", **dict.fromkeys(names, 1)}), tmp_path / "jobs.csv"
    path.write_text(",".join(["input", *names]) + "\na.png\n")

    def work() -> None:
        if kind == "json":
            assert "no option is called 'strengths0'; did you mean" in row_of_json(line, "line 1").problem
            return
        with pytest.raises(JobFileError, match="no column is called 'strengths0'; did you mean"):
            read_csv(str(path))

    work()
    assert lines_run(work) < 40 * len(names)


def test_a_graph_in_a_picture_takes_time_by_its_length() -> None:
    def work(size: int) -> int:
        sampler = {"inputs": {**{name: ["hub", 0] for name in ("noise", "guider", "sampler", "sigmas")}, "cfg": 7}}
        samplers = {str(n): {"class_type": "Any", **sampler} for n in range(size)}
        hub = {"inputs": {"steps": 20, **{f"in{n}": n for n in range(size)}}}
        texts = {"prompt": json.dumps({**samplers, "hub": hub})}
        assert said_by_graph(texts)
        return lines_run(lambda: said_by_graph(texts))

    assert work(400) < 2.2 * work(200) + 500


@pytest.mark.parametrize("unit", ["a", "a-", "a ", "a" * 1000 + ".", "a. ", '"".', "-", '"', '\\"', '"""', "#", "\\"])
def test_a_long_text_of_toml_is_read_before_the_suite_ends(unit: str) -> None:
    """Its names are counted by a pattern, which took a minute for each 100,000 letters of a word."""
    text = "".join(unit * 63 + "=" for _ in range(1_000_000 // 64 // len(unit))) if "." in unit else unit * 1_000_000
    assert toml_table(f"prompt = '{text}'", "f", PresetError) == {"prompt": text}
    for begin in ("a = ", 'a = "', 'a = """', "a = '''", "#"):
        with suppress(PresetError):
            toml_table(begin + text[:100_000], "f", PresetError)


_DEEP = {
    "plain": "a" + ".a" * 64,
    "blanks": "long-name . \t" * 64 + "a",
    "empty": "''." * 64 + "a",
    "double quotes": '"a".' * 64 + '"a"',
    "single quotes": "'a b'  .  " * 64 + "'a'",
    "quotes in quotes": r""" "a\"b\\". '"'. "'".""" * 22 + "a",
    "a header": "\n[x" + ".y" * 64 + "]\nz",
    "a header in quotes": "\n[[ " + '"y" . ' * 64 + "y ]]\nz",
    "an inline table": "t = { " + "'a'." * 64 + "a = 1 }\nz",
}


@pytest.mark.parametrize("name", _DEEP.values(), ids=_DEEP)
def test_a_name_of_many_parts_is_refused_wherever_it_stands(name: str) -> None:
    with pytest.raises(PresetError, match="has too many dots"):
        toml_table(f"prompt = 'a'\n{name} = 1", "f", PresetError)


_TEXTS = (
    *('""', r'"\\"', r'"\""', '"#"', '"\'"', "''", "'\\'", "'\"'", "'#'", '""""""', "''''''", '"""a""""', '"""a"""""'),
    *(
        '"""\n"a\\""""',
        '"""\\\\"""',
        "'''a''''",
        "'''a'''''",
        "'''\n'\"a\\'''",
        '"""#\n\'\'\'"""',
        "'''#\n\"\"\"'''",
        "1.5",
    ),
)


@pytest.mark.parametrize("part", ["a.", '"a".', "'a' . "])
@pytest.mark.parametrize("text", _TEXTS)
def test_no_text_before_a_name_of_many_parts_hides_it(text: str, part: str) -> None:
    name = part * 64 + "a"
    for toml in (f"t = {{ b = {text}, {name} = 1 }}", f"b = {text} # {text[:3]}\n{name} = 1"):
        assert toml_table(toml.replace(name, "a"), "f", PresetError)
        with pytest.raises(PresetError, match="has too many dots"):
            toml_table(toml, "f", PresetError)


@pytest.mark.parametrize("part", ["a.", '\\"a\\".', "'a' . "])
@pytest.mark.parametrize("form", ['"{}"', '"""\n{}"""', '"""\\""" {}""""', "1 # {}"])
def test_a_text_or_a_comment_may_read_like_a_name_of_many_parts(form: str, part: str) -> None:
    assert list(toml_table("prompt = " + form.format(part * 70), "f", PresetError)) == ["prompt"]


def test_a_number_is_read_in_one_way_alone() -> None:
    """With two ways a run of digits that is no number in the end is tried in all combinations of them."""
    for pattern in (_NUMBER, _SIGNED):
        assert r"\d+\.?\d*" not in pattern.pattern
        assert pattern.fullmatch("1.5")
        assert pattern.fullmatch(" 1. ")
        assert pattern.fullmatch(".5")
        assert not pattern.fullmatch("1" * 100_000 + "x")


def test_parts_of_a_prompt_are_bounded() -> None:
    tokenizer = Tokenizer.packaged()
    assert len(encode_weighted(tokenizer, "a BREAK " * 64).ids) == 64
    for text, long in (("a BREAK " * 65, "truncate"), ("word " * 75 * 65, "chunk")):
        with pytest.raises(UsageError, match=r"the prompt makes 6\d parts of 75 tokens; expected at most 64"):
            encode_weighted(tokenizer, text, long)  # pyright: ignore[reportArgumentType]


def test_prompts_that_change_are_bounded() -> None:
    assert len(segments("[a|b] c", 1000)) == 1000
    with pytest.raises(UsageError, match="too long to change over 1000 steps"):
        segments("[a|b]" + "c" * 90_000, 1000)
    with pytest.raises(UsageError, match="too many for their length"):
        segments("[" + "|".join(str(n) for n in range(500)) + "]" + "c" * 2000, 500)


@pytest.mark.parametrize("name", OPTIONS)
def test_any_number_in_a_scheduler_is_a_value_or_an_error(name: str) -> None:
    refused = 0
    for key in (*OPTIONS[name], "_use_default_values"):
        for value in HUGE:
            try:
                Scheduler.from_config({"_class_name": name, key: value}).modernised().grid(4)
            except SdeditError as error:
                refused += 1
                assert len(str(error)) < 600  # noqa: PT017
    assert refused > 10


@pytest.mark.parametrize("config", [UNetConfig, VAEConfig, CLIPTextConfig])
def test_any_number_in_a_config_is_a_value_or_an_error(config: Any) -> None:
    for key in config.__dataclass_fields__:
        for value in HUGE:
            try:
                config.from_dict({key: value})
            except ModelError as error:
                assert len(str(error)) < 600  # noqa: PT017


def test_a_config_has_a_size_limit_and_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    with path.open("r+b") as file:
        file.truncate(LARGEST_TEXT + 1)
    with pytest.raises(ModelError, match="has more than 64 MB"):
        read_json(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="is no file; expected a config"):
        read_json(path)


def test_a_config_has_so_many_parts_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text := '{"a": [' + "[]," * 1_000_000 + "[]]}")
    with pytest.raises(ModelError, match=r"cannot be read as JSON .it has more than 2,000,000 parts"):
        read_json(tmp_path / "config.json")
    assert object_in(text) is None


@pytest.mark.parametrize("key", ["added_tokens_decoder", "model_max_length", "bos_token", "extra_special_tokens"])
@pytest.mark.parametrize("value", [10**400, {"9" * 5000: "a"}, {"9" * 12: "a"}, [[]], "x" * 10**5], ids=range(5))
def test_any_tokenizer_config_is_a_tokenizer_or_an_error(tmp_path: Path, key: str, value: Any) -> None:
    Tokenizer.packaged().save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    try:
        Tokenizer.from_folder(tmp_path)
    except ModelError as error:
        assert len(str(error)) < 600  # noqa: PT017


@pytest.mark.parametrize(
    "text", ["a." * 100_000 + "a = 1", "x = {" + "a . " * 200 + "b = 1}", "[" + "a." * 1000 + "b]", "x = " + "9" * 5000]
)
def test_a_preset_is_read_in_time_by_its_size(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(PresetError, match="is not TOML"):
        read_toml(tmp_path / "p.toml")


def test_what_the_reader_of_toml_says_is_told_in_short() -> None:
    twice = ", ".join(["a" * 100_000 + " = 1"] * 2)
    with pytest.raises(PresetError, match="f: is not TOML: Duplicate inline table key 'aaa") as refused:
        toml_table(f"x = {{ {twice} }}", "f", PresetError)
    assert len(str(refused.value)) < 400


def test_a_preset_is_a_file_of_bounded_size(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(PresetError, match="has more than 1 MB; expected TOML"):
        read_toml(tmp_path / "p.toml")
    (tmp_path / "z.toml").symlink_to("/dev/zero")
    with pytest.raises(PresetError, match="is no file"):
        read_toml(tmp_path / "z.toml")
    assert read_toml(Path("/dev/null")) == {}


@pytest.mark.parametrize("template", ["{seed:" + "9" * 5000 + "}.png", "{n:999}" * 1000 + ".png", "x" * 5000 + ".png"])
def test_templates_are_bounded(template: str) -> None:
    with pytest.raises(UsageError, match="-o ") as caught:
        plan(REQUEST, ["a.png"], [1], template, None)
    assert len(str(caught.value)) < 400
