"""Lists of jobs as JSON, an object a line."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.batch.json_lines import row_of_json
from sdedit_cli.batch.rows import layer_of_row
from sdedit_cli.batch.sources import rows_of
from sdedit_cli.batch.stream import rows_from
from sdedit_cli.errors import JobFileError, UsageError

FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lines(folder: Path, data: str | bytes) -> str:
    path = folder / "jobs.jsonl"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


TEXT = '{"input": "a.png", "prompt": "red\\nhouse", "cfg-scale": 3}\n\n{"file": "b/c.png", "cfg_scale": 2.5}\n'
PLAIN = [("a.png", 1, {"prompt": "red\nhouse", "cfg_scale": 3.0}), ("b/c.png", 3, {"cfg_scale": 2.5})]


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        "\ufeff" + TEXT,
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        TEXT.encode("utf-16"),
        TEXT.removesuffix("\n"),
        TEXT.replace("}", ', "seed": null}'),
    ],
    ids=str.split("plain mark crlf cr utf16 unended null"),
)
def test_the_same_list_in_the_forms_that_programs_write(tmp_path: Path, data: str | bytes) -> None:
    path = lines(tmp_path, data)
    found = [(str(row.name), row.place, dict(layer_of_row(row).values)) for row in rows_of(path).rows]
    assert found == [(name, f"{path}, line {line}", values) for name, line, values in PLAIN]


def test_values_are_those_of_json_and_not_texts_of_them() -> None:
    row = row_of_json('{"input": "a", "lora": ["x:0.5", {"path": "y", "scale": 2}], "exact-steps": true}', "job 1")
    layer = layer_of_row(row)
    assert [str(item) for item in layer.values["lora"]] == ["x:0.5", "y:2"]
    assert layer.values["exact_steps"] is True
    for value in ('"0.5"', "true", "[true]"):
        with pytest.raises(JobFileError, match="job 1: strength is "):
            layer_of_row(row_of_json(f'{{"input": "a", "strength": {value}}}', "job 1"))


def test_a_job_of_a_stream_counts_its_paths_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"")
    row = row_of_json('{"input": "a/b.png", "vae": "v", "output": "{stem}.png"}', "job 1", str(tmp_path))
    assert (row.input, str(row.name), row.output) == (str(tmp_path / "a" / "b.png"), "a/b.png", "{stem}.png")
    assert layer_of_row(row).values == {"vae": str(tmp_path / "v")}
    assert row_of_json('{"input": "a/b.png"}', "job 1").input == os.path.join("a", "b.png")


BAD = [
    ("nonsense", "is not JSON (Expecting value, at character 1)"),
    ('{"input": "a.png"', "is not JSON ("),
    ('{"input": "a.png"} {}', "is not JSON (Extra data"),
    ("[]", "is []; expected an object"),
    ('"a.png"', "is a.png; expected an object"),
    ("null", "is None; expected an object"),
    ("{}", "names no input"),
    ('{"input": null}', "names no input"),
    ('{"input": 3}', "input is 3; expected the path"),
    ('{"input": ""}', "input is '', which no picture"),
    ('{"input": "-"}', "input is '-' (stdin)"),
    ('{"input": ".."}', "input is '..', which no picture"),
    ('{"input": "a\\u0000b"}', "which no picture can be called"),
    ('{"input": "\\ud800"}', "which no picture can be called"),
    ('{"input": "a", "image": "b"}', "gives input twice ('image' is another name of it)"),
    ('{"input": "a", "cfg-scale": 1, "cfg_scale": 1}', "gives cfg-scale twice"),
    ('{"input": "a", "input": "a"}', "'input' is there twice"),
    ('{"input": "a", "promt": "x"}', "no option is called 'promt'; did you mean 'prompt'?"),
    ('{"input": "a", "output": 3}', "output is 3; expected a name"),
    ('{"input": "a", "output": "-"}', "output is '-'; expected a name"),
    ('{"input": "a", "strength": NaN}', "NaN is no number"),
    ('{"input": "a", "strength": -Infinity}', "-Infinity is no number"),
    ('{"input": "a", "strength": 1e999}', "strength is inf"),
    (f'{{"input": "a", "seed": {"9" * 400}}}', "seed is a number of 1329 bits"),
    (f'{{"input": "a", "strength": {"9" * 400}}}', "strength is a number of 1329 bits"),
    (f'{{"input": "a", "seed": {"9" * 5000}}}', "is not JSON that is meant: a number of 5000 digits"),
    ('{"input": "a", "prompt": "\\ud800"}', "prompt is not valid UTF-8"),
    ('{"input": "a", "steps": 5, "timesteps": [3]}', "steps and timesteps exclude each other"),
    (f'{{"input": "a", "lora": [{"[]," * 2_000_000}[]]}}', "characters; expected at most 4,000,000"),
    ("[" * 100_000, "is JSON too deep to be a job"),
    ('{"input": "a", "lora": ' + "[" * 500 + "]" * 500 + "}", "lora is ["),
    ('{"input": "a", "prompt": ' + '{"x": ' * 500 + "1" + "}" * 501, "prompt is {"),
]


@pytest.mark.parametrize(("line", "words"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_a_line_that_cannot_be_meant_is_one_failed_job(tmp_path: Path, line: str, words: str) -> None:
    good = '{"input": "b.png"}'
    path = lines(tmp_path, f"{good}\n{line}\n{good}\n")
    first, bad, last = rows_of(path).rows
    assert [(str(row.name), layer_of_row(row).values) for row in (first, last)] == [("b.png", {})] * 2
    with pytest.raises(JobFileError) as caught:
        layer_of_row(bad)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert len(str(caught.value)) < 400


ODD = b'{"input": "caf\xe9.png"}\n{"input": "a", "prompt": "\xe9"}\n'


def test_names_in_odd_encodings_can_be_opened(tmp_path: Path) -> None:
    found = rows_of(lines(tmp_path, ODD))
    assert os.fsencode(found.rows[0].input).endswith(b"caf\xe9.png")
    assert "line 1 is not UTF-8 text" in found.notes[0]
    with pytest.raises(JobFileError, match="line 2: prompt is not valid UTF-8"):
        layer_of_row(found.rows[1])


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "mark"])
def test_a_stream_takes_names_in_odd_encodings_as_a_list_does(mark: bytes) -> None:
    first, second = rows_from(io.BytesIO(mark + ODD))
    assert os.fsencode(first.input) == b"caf\xe9.png"
    with pytest.raises(JobFileError, match="stdin, line 2: prompt is not valid UTF-8"):
        layer_of_row(second)


def test_a_line_without_an_end_is_answered_when_it_is_too_long() -> None:
    class Endless(io.BytesIO):
        read = 0

        def readline(self, size: int | None = -1) -> bytes:
            assert self.read == 0, "what follows is not waited for"
            self.read += 1
            return b"x" * (size or 0)

    first = next(rows_from(Endless()))
    assert first.problem == "stdin, line 1: has more than 1,000,000 bytes"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "names no picture (0 inputs)"),
        ("\n \r\n", "names no picture (0 inputs)"),
        ('[\n{"input": "a"}\n]', "is one JSON list; expected an object a line"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, data: str, words: str) -> None:
    with pytest.raises((JobFileError, UsageError)) as caught:
        rows_of(lines(tmp_path, data))
    assert words in str(caught.value)


NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=9)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "prompt": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "strength": st.floats(0.01, 1),
        "seed": st.integers(0, 2**64 - 1),
        "exact-steps": st.booleans(),
        "sigmas": st.just([3.0, 2.5]),
    },
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    count = 0

    @FUZZ
    @given(
        st.lists(st.tuples(NAME.map("{}.png".format), VALUES), min_size=1),
        st.booleans(),
        st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    )
    def check(jobs: list[tuple[str, dict[str, Any]]], ascii_only: bool, end: str) -> None:
        nonlocal count
        text = "".join(json.dumps({"input": name, **values}, ensure_ascii=ascii_only) + end for name, values in jobs)
        rows = rows_of(lines(tmp_path, text)).rows
        assert [(row.input, row.values) for row in rows] == [(str(tmp_path / name), values) for name, values in jobs]
        layers = [{key.replace("_", "-"): value for key, value in layer_of_row(row).values.items()} for row in rows]
        assert layers == [
            {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()} for _, values in jobs
        ]
        count += len(rows)

    check()
    assert count > 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["path", "x"]), inner, max_size=2),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["input", "file", "output", "prompt", "strength", "lora", "seed", "model", "sigmas", "size", "x"]
)


def test_any_line_is_a_row(tmp_path: Path) -> None:
    """Of all JSON, and of all bytes: a row whose options are read or refused, and no other error."""
    counts = {"layers": 0, "refused": 0}

    @settings(FUZZ, max_examples=400)
    @given(
        st.tuples(VALUES, st.dictionaries(KEYS, JSON, max_size=1)).map(
            lambda two: json.dumps({"input": "a", **two[0], **two[1]})
        )
        | VALUES.map(lambda values: json.dumps({"image": "a", **values}))
        | st.dictionaries(KEYS, JSON, max_size=4).map(json.dumps)
        | st.binary(max_size=40).map(os.fsdecode)
    )
    def check(line: str) -> None:
        row = row_of_json(line, "job 1", str(tmp_path))
        try:
            layer_of_row(row)
            counts["layers"] += 1
        except JobFileError as problem:
            counts["refused"] += str(problem).startswith("job 1: ")

    check()
    assert sum(counts.values()) >= 400
    assert min(counts.values()) > 60, counts
