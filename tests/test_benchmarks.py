"""The measurements work: each topic on tiny models, and the report of what they tell. No time is compared."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.__main__ import command
from benchmarks.colour import gaps
from benchmarks.common import rates
from benchmarks.common.bars import BARS, lines
from benchmarks.common.quote import BEGIN, END, put, quoted
from benchmarks.common.report import SCHEMA, Section, markdown, read, table, write
from benchmarks.common.rows import OURS, Row, beside
from benchmarks.common.turns import turns
from benchmarks.topics import TOPICS

ROOT = Path(__file__).parents[1]
# What is quick enough for each run of the suite; `make slow` runs the others.
QUICK = ("memory",)
ROWS = [
    Row("step, 512", OURS, (2.0, 3.0, 2.5), "s", 5e12, "bf16"),
    Row("step, 512", "other", (5.0,), "s", 5e12, "bf16", {"prepared s": 12.5}),
    Row("load", OURS, (0.0123,), "s"),
    Row("peak", OURS, (2048.0,), "MB", also={"of the files": 1.05, "bytes": "ab12"}),
]


def test_a_table_tells_ratios_rates_and_shares_of_the_limit() -> None:
    lines = table(ROWS, {"bf16": 4e12}).splitlines()
    assert lines[0] == "| what | program | median | least to most | of ours | GFLOP/s | of the limit | also |"
    assert lines[2] == "| step, 512 | sdedit | 2.50 s | 2.00 to 3.00 |  | 2000 | 50% |  |"
    assert lines[3] == "| step, 512 | other | 5.00 s |  | 2.00 x | 1000 | 25% | prepared s 12.50 |"
    assert lines[4] == "| load | sdedit | 12.30 ms |  |  |  |  |  |"
    assert lines[5] == "| peak | sdedit | 2,048 MB |  |  |  |  | of the files 1.05, bytes ab12 |"


def test_gaps_are_bands_and_not_the_ends_of_a_histogram() -> None:
    """A level that a stretch leaves out is a gap; one of the input, or beside levels of a pixel or two, is none."""
    level = np.arange(256)

    def picture(counts: np.ndarray) -> Image.Image:
        return Image.fromarray(level.astype(np.uint8).repeat(counts)[None, :, None].repeat(3, axis=2))

    full, stretched = np.full(256, 48), 96 * (level % 2 == 0)
    rare = np.where(level == 100, 0, np.where(abs(level - 100) == 1, 3, 48))
    assert gaps(picture(stretched), picture(full)) == 3 * 127
    assert gaps(picture(stretched), picture(stretched)) == 0
    assert gaps(picture(rare), picture(full)) == 0


def test_columns_that_would_be_empty_are_left_out() -> None:
    assert table(ROWS[2:3], {}).splitlines()[0] == "| what | program | median |"


def test_results_are_read_as_they_were_written_and_other_topics_stay(tmp_path: Path) -> None:
    path = tmp_path / "results" / "some-cpu.json"
    facts, load = {"CPU": "some", "torch": "2.0"}, "0.1, 0.1, 0.1"
    first = Section("cpu", "Works.", ROWS, "python -m benchmarks cpu", load, 3.0, 0.25, {"bf16": 4e12}, facts)
    write({"cpu": first}, path)
    again = Section("load", "Loads.", ROWS[2:3], "python -m benchmarks load", machine={**facts, "torch": "2.1"})
    write({**read(path), "load": again}, path)
    assert read(path) == {"cpu": first, "load": again}
    said = json.loads(path.read_text(encoding="utf-8"))
    assert said["schema"] == SCHEMA
    (row, *_) = said["topics"][0]["rows"]
    assert (row["median"], row["spread"], row["values"]) == (2.5, 0.4, [2.0, 3.0, 2.5])
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    assert page.startswith("# some-cpu\n")
    assert "\n## cpu\n" in page
    assert "(torch 2.0)" in page, "versions that differ from the page's are told with their topic"
    assert "3 s, load average before 0.1, 0.1, 0.1, other programs took 25% of the cores" in page
    assert page.count("| what | program |") == 2


def test_a_file_of_results_that_ships_is_read_and_its_page_is_as_rendered() -> None:
    paths = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    for path in paths:
        page = path.with_suffix(".md").read_text(encoding="utf-8")
        assert page == markdown(path.stem, list(read(path).values())), f"{path.stem}.md is not of {path.name}"


def test_what_is_asked_for_is_held_against_the_rows_that_are_there() -> None:
    rows = [Row("step, 512, bf16", OURS, (2.0,)), Row("step, 512, bf16", "diffusers", (3.0,))]
    assert lines({"cpu-bf16": rows})[2:] == ["| cpu-bf16 | step, 512, bf16 | diffusers | 1.40 x | 1.50 x |"]
    assert lines({"cpu-bf16": rows[:1], "load": ROWS}) == []
    assert {bar.topic for bar in BARS} <= set(TOPICS)


def test_the_readme_quotes_medians_of_the_results(tmp_path: Path) -> None:
    rows = [Row("step, 512, bf16", OURS, (2.0, 3.0, 2.5)), Row("step, 512, bf16", "diffusers", (4.0,))]
    page = tmp_path / "README.md"
    page.write_text(f"Above.\n{BEGIN}\nold\n{END}\nBelow.\n", encoding="utf-8")
    put(page, {"cpu-bf16": Section("cpu-bf16", "", rows)})
    lines = page.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["Above.", BEGIN]
    assert lines[-2:] == [END, "Below."]
    assert lines[4] == "| a step at 512 px, bf16 | 2.50 s |  | 4.00 s |  |"
    assert len(lines) == 7


def test_what_the_readme_quotes_is_in_the_results() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    inside = page[page.index(BEGIN) + len(BEGIN) : page.index(END)].strip()
    results = [read(path) for path in (ROOT / "benchmarks" / "results").glob("*.json")]
    assert not inside or inside in [quoted(sections) for sections in results]


def test_what_a_row_is_beside() -> None:
    assert beside(ROWS, ROWS[1]) == 2.0
    assert beside(ROWS, ROWS[0]) is None
    assert beside(ROWS[1:], ROWS[1]) is None


def test_the_rates_are_counted_and_the_limit_is_the_best_of_them() -> None:
    rows = list(rates.rates(seconds=0.0, shrink=32))
    assert len(rows) == 2 * (len(rates.PRODUCTS) + len(rates.CONVOLUTIONS))
    assert rows[0].flops == 2 * 64**3
    best = rates.limits(rows)
    assert set(best) == {"fp32", "bf16"}
    for row in rows:
        assert row.flops is not None
        assert row.flops / min(row.values) <= best[str(row.dtype)]
    slow = [replace(row, values=(1e9,)) for row in rows if row.dtype == "bf16"]
    assert len(slow) == len(rows) / 2
    assert rates.limits([*(row for row in rows if row.dtype == "fp32"), *slow])["bf16"] == best["fp32"]


def test_programs_take_turns_and_one_that_fails_takes_no_further_part(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def ask(name: str) -> dict[str, float]:
        order.append(name)
        if name == "c" and order.count("c") == 2:
            raise RuntimeError("out of memory")
        return {"seconds": 1.0}

    answers = turns({name: lambda name=name: ask(name) for name in "abc"}, 3)
    assert order == list("abcabcab")
    assert {name: len(said) for name, said in answers.items()} == {"a": 3, "b": 3, "c": 1}
    assert "c: out of memory" in capsys.readouterr().err


def test_a_budget_leaves_rounds_out_but_the_first() -> None:
    assert len(turns({"a": lambda: {"seconds": 1.0}}, 5, budget=0.0)["a"]) == 1


def test_the_command_of_results_names_no_places() -> None:
    words = ["cpu-bf16", "--model", "/some/where", "--rounds", "2", "--save", "/some/where.json", "load"]
    assert command(words) == "python -m benchmarks cpu-bf16 --rounds 2 load"
    assert command(["load", "--save", "--quick"]) == "python -m benchmarks load --quick"


def test_a_topic_that_is_not_there_is_named() -> None:
    done = _measured("colours")
    assert done.returncode == 2
    assert "there is no topic colours; there are startup, " in done.stderr


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in TOPICS]
)
def test_a_topic_tells_its_rows(name: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    path = tmp_path / "tried.json"
    # Compiling takes a minute whatever is compiled.
    programs = ["sdedit", "diffusers", "diffusers, channels_last"]
    done = _measured(name, "--quick", "--save", str(path), "--programs", *programs)
    assert done.returncode == 0, done.stderr
    sections = read(path)
    assert list(sections) == ["rates", name]
    rows = sections[name].rows
    assert rows
    assert all(row.values and row.what and row.program for row in rows)
    assert f"\n## {name}\n" in path.with_suffix(".md").read_text(encoding="utf-8")
    compared = {row.program for row in rows}
    assert not TOPICS[name].always or {OURS} < compared or name == "growth", f"only {compared} took part"


def _measured(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
