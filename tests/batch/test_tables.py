"""Lists of jobs as CSV."""

from __future__ import annotations

import csv
import io
import os
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.batch import rows as rows_module
from sdedit_cli.batch.rows import INPUT_WORDS, OUTPUT, layer_of_row
from sdedit_cli.batch.sources import rows_of
from sdedit_cli.errors import JobFileError, UsageError
from sdedit_cli.options import fields

FUZZ = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(folder: Path, text: str | bytes, name: str = "jobs.csv") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def meant(path: str) -> list[tuple[str, dict[str, Any]]]:
    """The names and values of all rows, none of which may have a problem."""
    return [(str(row.name), dict(layer_of_row(row).values)) for row in rows_of(path).rows]


PLAIN = [("a.png", {"prompt": "red", "cfg_scale": 3.0}), ("b/c.png", {"prompt": "blue, or\ngreen"})]
TEXT = 'input,prompt,cfg-scale\na.png,red,3\nb/c.png,"blue, or\ngreen",\n'


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "\ufeff" + TEXT,
        TEXT.encode("utf-16"),
        TEXT.replace(",", ";").replace("blue; or", "blue, or"),
        TEXT.replace(",", "\t").replace("blue\t or", "blue, or"),
        TEXT.replace("input,prompt,cfg-scale", "File, Prompt ,CFG Scale"),
        TEXT.replace("input", "path").replace("cfg-scale", "cfg_scale"),
        TEXT.replace("a.png,red", "\n ,,\n\na.png, red"),
        TEXT.replace("a.png,red,3", '"a.png", "red","3",,'),
        TEXT.replace("cfg-scale\n", "cfg-scale,\n").replace(",3\n", ",3,\n").replace('",\n', '",,\n'),
        TEXT.removesuffix("\n"),
        "sep=,\n" + TEXT,
        "\ufeffsep=|\r\n" + TEXT.replace(",", "|").replace("blue| or", "blue, or"),
    ],
    ids=str.split("plain mark utf16 semicolons tabs words spellings blanks quotes nameless unended said bars"),
)
def test_the_same_list_in_the_forms_that_programs_write(tmp_path: Path, text: str | bytes) -> None:
    assert meant(table(tmp_path, text)) == PLAIN


@pytest.mark.parametrize("end", ["\r\n", "\r"], ids=["crlf", "cr"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    """Those within quotation marks belong to the text; rows are counted the same."""
    path = table(tmp_path, TEXT.replace("\n", end) + f"c.png,{end}")
    *first, last = rows_of(path).rows
    assert [layer_of_row(row).values.get("prompt") for row in first] == ["red", f"blue, or{end}green"]
    assert last.problem == f"{path}, line 5: has 2 cells, and the first line names 3 columns"


def test_rows_name_outputs_and_count_paths_from_the_list(tmp_path: Path) -> None:
    inside = f"{tmp_path / 'jobs'}/in/a.png,,,\n"
    text = f"input,output,lora,model\n{inside}../b.png,{{stem}}.png,l.st,m\nc/../d.png,x.png,no.st,no\n"
    (tmp_path / "jobs").mkdir()
    for name in ("l.st", "m"):
        (tmp_path / "jobs" / name).write_bytes(b"")
    path = table(tmp_path / "jobs", text)
    found = rows_of(path)
    assert found.root == tmp_path / "jobs"
    assert [(str(row.name), row.output) for row in found.rows] == [
        ("in/a.png", None),
        ("b.png", "{stem}.png"),
        ("d.png", "x.png"),
    ]
    assert [os.path.relpath(row.input, tmp_path) for row in found.rows] == ["jobs/in/a.png", "b.png", "jobs/d.png"]
    # A file beside the list is meant; what is not there is for others to look for, as on the command line.
    beside, elsewhere = (layer_of_row(row).values for row in found.rows[1:])
    assert beside["lora"][0].path == str(tmp_path / "jobs" / "l.st")
    assert beside["model"] == str(tmp_path / "jobs" / "m")
    assert (elsewhere["lora"][0].path, elsewhere["model"]) == ("no.st", "no")


def test_lists_in_a_cell(tmp_path: Path) -> None:
    path = table(tmp_path, 'input,lora,sigmas\na,x.safetensors:0.5 | y.safetensors,"3,2 1"\na,"x:1\ny:2:3",3\n')
    (_, one), (_, two) = meant(path)
    assert [str(item) for item in one["lora"]] == ["x.safetensors:0.5", "y.safetensors:1"]
    assert [str(item) for item in two["lora"]] == ["x:1", "y:2:3"]
    assert (one["sigmas"], two["sigmas"]) == ((3.0, 2.0, 1.0), (3.0,))


def test_duplicate_inputs_are_jobs_of_their_own(tmp_path: Path) -> None:
    assert len(meant(table(tmp_path, "input,prompt\na.png,x\na.png,y\na.png,x\n"))) == 3


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.png,x", "line 3: has 2 cells, and the first line names 4 columns"),
        ("a.png,x,1,,y", "line 3: has 5 cells, and the first line names 4 columns"),
        (
            'a.png,"x\ny"',
            "has 2 cells, and the first line names 4 columns over lines 3 to 4; is a quotation mark open?",
        ),
        ("a.png,x,1,y", "line 3: has 'y' in a column without a name"),
        (",x,1,", "line 3: names no input"),
        ("-,x,1,", "line 3: input is '-' (stdin), which a list cannot name"),
        ("sub/..,x,1,", "line 3: input is 'sub/..', which no picture can be called"),
        ("a.png,x,one,", "line 3: strength is 'one'; expected a number above 0 and at most 1"),
        ("a.png,x,nan,", "line 3: strength is 'nan'"),
        ("a.png,x,1e999,", "line 3: strength is 'inf'"),
        ('a.png,"x"y,1,', "line 3: is not CSV"),
        ("a.png," + "x" * 200_000 + ",1,", "line 3: is not CSV (field larger than"),
        ("a.png," + "x" * 100_001 + ",1,", "line 3: prompt has 100001 characters"),
        ("a\0.png,x,1,", "line 3: i"),
    ],
)
def test_a_row_that_cannot_be_meant_is_one_failed_job(tmp_path: Path, row: str, words: str) -> None:
    path = table(tmp_path, f"input,prompt,strength,\na.png,x,1,\n{row}\nb.png,x,1,\n")
    first, bad, last = rows_of(path).rows
    assert [dict(layer_of_row(good).values) for good in (first, last)] == [{"prompt": "x", "strength": 1.0}] * 2
    with pytest.raises(JobFileError) as caught:
        layer_of_row(bad)
    assert words in str(caught.value).replace("'nan'", "nan").replace("nan", "'nan'").replace("is inf", "is 'inf'")
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n,,\n", "is empty"),
        ("\ufeff", "is empty"),
        ("input,prompt\n", "names no picture (0 inputs)"),
        ("prompt\nx\n", "line 1: has no column 'input'"),
        ("input,promt\na,x\n", "line 1: no column is called 'promt'; did you mean 'prompt'?"),
        ("input,format\na,webp\n", "line 1: no column is called 'format'; the ending of 'output' says it, or --format"),
        ("input;stength\na;1\n", "line 1: no column is called 'stength'; did you mean 'strength'?"),
        ("a.png,a house\nb.png,x\n", "line 1: no column is called 'a.png'"),
        ("a.png,a house\nb.png,x\n", "the first line names the columns, such as input, prompt"),
        ("input,cfg-scale,CFG Scale\na,1,2\n", "line 1: has two columns for cfg-scale"),
        ("input,file\na,b\n", "line 1: has two columns for input; 'file' is the second"),
        ('input,prompt\na,"x\nb,y\nc,z\n', "line 2: a quotation mark opens there and is not closed"),
        ('input,prompt\na,"x\nb,"y"\nc,z\n', "line 2: a quotation mark opens there and is not closed"),
        ('input,"prompt\n', "is not"),
        (b"\xff\xfe\0\xd8", "begins as UTF-16 and is damaged"),
    ],
)
def test_what_is_no_list_is_refused_before_anything_runs(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = table(tmp_path, text)
    with pytest.raises((JobFileError, UsageError)) as caught:
        rows_of(path)
    assert words in str(caught.value)
    assert "jobs.csv" in str(caught.value)


def test_bytes_that_are_no_text_stay_in_names_and_are_refused_elsewhere(tmp_path: Path) -> None:
    found = rows_of(table(tmp_path, "input,prompt\né.png,é\n".encode("latin-1") + b"a.png,x\n"))
    assert found.notes == (
        f"{tmp_path / 'jobs.csv'}: line 2 is not UTF-8 text; save it as UTF-8 (in Excel: 'CSV UTF-8')",
    )
    odd, plain = found.rows
    assert os.fsencode(odd.input).endswith(b"/\xe9.png")
    with pytest.raises(JobFileError, match="line 2: prompt is not valid UTF-8"):
        layer_of_row(odd)
    assert layer_of_row(plain).values == {"prompt": "x"}


def test_choosing_of_a_list_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, TEXT)
    for choice in ({"recursive": True}, {"include": ["a*"]}, {"exclude": ["a*"]}):
        with pytest.raises(UsageError, match=f"--{next(iter(choice))} chooses pictures of a folder"):
            rows_of(path, **choice)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no devices by that name")
def test_a_list_that_never_ends_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").symlink_to("/dev/zero")
    with pytest.raises(JobFileError, match="is a device"):
        rows_of(str(tmp_path / "x.csv"))


def test_a_list_over_the_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdedit_cli.batch import job_files, tables

    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(job_files.MAX_BYTES + 1)
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    for name, words in (("large.csv", "has more than 256 MB"), ("many.csv", "has more than 2 jobs; split the list")):
        if name == "many.csv":
            table(tmp_path, "input\na\nb\nc\n", name)
        with pytest.raises(JobFileError, match=words):
            rows_of(str(tmp_path / name))


def test_no_option_is_called_as_the_columns_that_are_none() -> None:
    assert not {field.key for field in fields()} & {*INPUT_WORDS, OUTPUT}


FORMS = {
    "jobs.csv": ("input,prompt,strength,seed\n", "art/img{0}.png,house {0},0.5,{0}\n"),
    "jobs.jsonl": ("", '{{"input": "art/img{0}.png", "prompt": "house {0}", "strength": 0.5, "seed": {0}}}\n'),
    "jobs.toml": ("", '[[job]]\ninput = "art/img{0}.png"\nprompt = "house {0}"\nstrength = 0.5\nseed = {0}\n'),
}


def long_list(folder: Path, name: str, count: int) -> str:
    begin, line = FORMS[name]
    return table(folder, begin + "".join(map(line.format, range(count))), name)


@pytest.mark.parametrize("name", FORMS)
def test_many_jobs_take_work_and_memory_by_their_number(tmp_path: Path, name: str) -> None:
    """Calls of functions a job are counted at two sizes: they are equal, and so few that nobody waits."""
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    each: list[float] = []
    for jobs in (500, 5_000):
        path = long_list(tmp_path, name, jobs)
        calls = 0
        sys.setprofile(count)
        try:
            found = rows_of(path)
        finally:
            sys.setprofile(None)
        assert len(found.rows) == jobs
        each.append(calls / jobs)
    small, large = each
    assert large < small * 1.1
    assert 10 < large < 500
    tracemalloc.start()
    try:
        found = rows_of(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000 * len(found.rows)


def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    rows = rows_of(long_list(tmp_path, "jobs.csv", 100_000)).rows
    assert len(rows) == 100_000
    assert rows[-1].values == {"prompt": "house 99999", "strength": "0.5", "seed": "99999"}
    assert rows[-1].place.endswith("line 100001")


CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
NAME = st.text("ab.é日 '\",;\t\n\r|-_", min_size=1, max_size=8).map(lambda text: f"{text}.png")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    counts = {"rows": 0, "cells": 0}

    @FUZZ
    @given(
        st.lists(st.tuples(NAME, st.dictionaries(st.sampled_from(["prompt", "negative-prompt", "sampler"]), CELL))),
        st.sampled_from([",", ";", "\t"]),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    )
    def check(jobs: list[tuple[str, dict[str, str]]], delimiter: str, end: str, encoding: str) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        columns = ["prompt", "negative-prompt", "sampler"]
        writer.writerow(["input", *columns])
        writer.writerows([name, *(values.get(column, "") for column in columns)] for name, values in jobs)
        path = table(tmp_path, buffer.getvalue().encode(encoding))
        if not jobs:
            with pytest.raises(UsageError):
                rows_of(path)
            return
        rows = rows_of(path).rows
        assert [(row.input, dict(row.values)) for row in rows] == [
            (os.path.join(tmp_path, name), {key: value for key, value in values.items() if value.strip()})
            for name, values in jobs
        ]
        assert not any(row.problem for row in rows)
        counts["rows"] += len(rows)
        counts["cells"] += sum(len(row.values) for row in rows)

    check()
    assert counts["rows"] > 300
    assert counts["cells"] > 300


def test_any_bytes_are_rows_or_an_error_of_ours(tmp_path: Path) -> None:
    counts = {"lists": 0, "errors": 0, "rows": 0, "layers": 0, "failed": 0}
    piece = st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"a.png", b"\n", b"\r", b",", b";", b'"', b"0.5", b"prompt", b"lora", b"|", b"\xff", b"\0"]),
        st.sampled_from([b"\na.png,x,0.5,y|z\n", b"\n\xe9.png,,,\n", b'\n"b.png","x\r\ny",1,\n']),
    )

    @FUZZ
    @given(st.sampled_from([b"", b"input,prompt,strength,lora\n", b"\xff\xfe"]), st.lists(piece, max_size=30))
    def check(begin: bytes, pieces: list[bytes]) -> None:
        path = table(tmp_path, begin + b"".join(pieces))
        try:
            rows = rows_of(path).rows
        except (JobFileError, UsageError):
            counts["errors"] += 1
            return
        counts["lists"] += 1
        for row in rows:
            try:
                layer_of_row(row)
                counts["layers"] += 1
            except JobFileError as problem:
                counts["failed"] += str(problem).startswith(f"{row.place}: ")
        counts["rows"] += len(rows)

    check()
    assert counts["layers"] + counts["failed"] == counts["rows"]
    assert min(counts.values()) > 30, counts
    assert rows_module.MAX_ROWS >= 100_000
