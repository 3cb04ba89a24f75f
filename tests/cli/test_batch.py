"""`sdedit batch`: nothing lost, nothing done twice, and a list of what is stale, with the reasons."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, leftovers, photo

from sdedit_cli.cli.main import run
from sdedit_cli.pictures.carriers import find

SETTINGS = ("-p", "a face", *QUICK)


@pytest.fixture
def source(folder: Path) -> Path:
    """Three pictures, one of them in a folder of its own."""
    (folder / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        photo(folder / "in" / name)
    return folder / "in"


def batch(*more: str, source: str = "in") -> int:
    return run(["batch", source, "out", "--recursive", *SETTINGS, *more])


def told(capfd: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    return [one for one in events(capfd.readouterr().out) if one["event"] == event]


def outputs() -> dict[str, bytes]:
    return {p.relative_to("out").as_posix(): p.read_bytes() for p in Path("out").rglob("*.png")}


def test_a_rerun_makes_nothing_and_check_is_content(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert batch("--check") == 6
    assert not Path("out").exists(), "a check writes nothing"
    assert batch() == 0
    first = outputs()
    assert sorted(first) == ["a.png", "b.png", "sub/c.png"]
    assert not leftovers(Path("out"))
    assert batch("--check") == 0
    capfd.readouterr()
    assert batch("--json") == 0
    out = events(capfd.readouterr().out)
    assert [one["event"] for one in out] == ["start", "skipped", "skipped", "skipped", "end"]
    assert outputs() == first


@pytest.mark.parametrize(
    ("change", "more", "reason"),
    [
        (lambda: photo(Path("in/b.png"), (64, 40)), (), "the input changed"),
        (lambda: Path("out/b.png").write_bytes(b"mine"), (), "the output was edited by hand"),
        (lambda: Path("out/b.png").unlink(), (), "the output is gone"),
    ],
)
def test_check_says_why(source: Path, capfd: pytest.CaptureFixture[str], change: Any, more: Any, reason: str) -> None:
    assert batch() == 0
    change()
    capfd.readouterr()
    assert batch("--check", "--json") == 6
    (stale,) = told(capfd, "stale")
    assert (stale["input"], stale["output"], stale["reason"]) == ("in/b.png", "out/b.png", reason)


def test_another_prompt_is_a_reason_for_all(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert batch() == 0
    assert batch("-p", "a tree", "--check", "--json") == 6
    assert {one["reason"] for one in told(capfd, "stale")} == {"the prompt changed"}


def test_only_what_changed_is_made_again(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert batch() == 0
    before = outputs()
    photo(source / "b.png", (64, 40))
    capfd.readouterr()
    assert batch("--json") == 0
    out = events(capfd.readouterr().out)
    assert [one["output"] for one in out if one["event"] == "saved"] == ["out/b.png"]
    after = outputs()
    assert {name for name in after if after[name] != before[name]} == {"b.png"}


def test_what_somebody_edited_is_never_replaced_unasked(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert batch() == 0
    Path("out/b.png").write_bytes(b"mine")
    assert batch() == 4
    assert Path("out/b.png").read_bytes() == b"mine"
    assert "edited by hand" in capfd.readouterr().err
    assert batch("--on-exists", "overwrite") == 0
    assert Path("out/b.png").read_bytes() != b"mine"
    assert batch("--check") == 0


def test_what_was_there_before_is_never_replaced_unasked(source: Path) -> None:
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"mine")
    assert batch() == 4
    assert Path("out/a.png").read_bytes() == b"mine"
    assert sorted(outputs()) == ["a.png", "b.png", "sub/c.png"]


def test_a_failure_concerns_nobody_else_and_is_tried_again(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (source / "b.png").write_bytes(b"no picture")
    assert batch("--json") == 4
    out = events(capfd.readouterr().out)
    (failed,) = [one for one in out if one["event"] == "failed"]
    assert (failed["input"], failed["word"]) == ("in/b.png", "input-unusable")
    assert sorted(outputs()) == ["a.png", "sub/c.png"]
    assert batch("--check") == 6
    photo(source / "b.png")
    capfd.readouterr()
    assert batch("--retry-failed", "--json") == 0
    assert [one["output"] for one in told(capfd, "saved")] == ["out/b.png"]
    assert batch("--check") == 0


@pytest.mark.parametrize("more", [(), ("--fail-fast",)], ids=str)
def test_the_only_job_left_that_fails_is_told_by_its_name(
    source: Path, capfd: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    assert batch() == 0
    (source / "b.png").write_bytes(b"no picture")
    capfd.readouterr()
    assert batch("-q", *more) == 4
    assert "sdedit: in/b.png: " in capfd.readouterr().err


def test_a_dry_run_counts_as_the_run_does(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (source / "b.png").write_bytes(b"no picture")
    for more in (("--dry-run",), ()):
        assert batch("-q", *more) == 4
        assert "1 of 3 failed" in capfd.readouterr().err


def test_of_several_pictures_of_an_input_those_that_failed_are_tried_again(
    source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    several = ("--count", "2", "--on-exists", "overwrite", "--json")
    (Path("out") / "a-2.png").mkdir(parents=True)
    assert batch(*several) == 4
    assert len(told(capfd, "failed")) == 1
    assert batch(*several, "--check") == 6
    assert [one["output"] for one in told(capfd, "stale")] == ["out/a-2.png"]


def test_an_input_fails_once_whatever_becomes_of_its_pictures(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        (Path("out") / f"a-{number}.png").mkdir(parents=True)
    assert batch("--count", "2", "--on-exists", "overwrite", "--json") == 4
    assert [one["input"] for one in told(capfd, "failed")] == ["in/a.png"]


def test_all_failed_has_its_own_code(source: Path) -> None:
    for path in source.rglob("*.png"):
        path.write_bytes(b"no picture")
    assert batch() == 5


def test_shards_make_the_whole(source: Path) -> None:
    assert batch() == 0
    whole = outputs()
    shutil.rmtree("out")
    assert batch("--shard", "2/2") == 0
    assert batch("--shard", "1/2") == 0
    assert outputs() == whole
    assert batch("--check") == 0


def test_a_part_is_as_in_the_whole(source: Path) -> None:
    assert batch() == 0
    whole = outputs()
    shutil.rmtree("out")
    assert batch("--limit", "1") == 0
    assert len(outputs()) == 1
    assert batch() == 0
    assert outputs() == whole


def test_prune_removes_what_no_job_makes_and_nothing_else(source: Path) -> None:
    assert batch() == 0
    Path("out/own.png").write_bytes(b"mine")
    (source / "a.png").unlink()
    (source / "b.png").unlink()
    Path("out/b.png").write_bytes(b"edited")
    assert batch("--prune", "--dry-run") == 0
    assert sorted(outputs()) == ["a.png", "b.png", "own.png", "sub/c.png"]
    assert batch("--prune") == 0
    assert sorted(outputs()) == ["b.png", "own.png", "sub/c.png"]


def test_each_picture_has_its_own_prompt(source: Path) -> None:
    (source / "a.txt").write_text("a red\n apple\n", encoding="utf-8-sig")
    assert run(["batch", "in", "out", "--prompt-from", "text", "--prompt-suffix", ", {stem}", *SETTINGS]) == 0
    assert find("out/a.png").layer.values["prompt"] == "a red apple, a"
    assert find("out/b.png").layer.values["prompt"] == "a face, b"


def test_prompts_may_come_from_the_pictures(folder: Path) -> None:
    photo(folder / "x.png")
    assert run(["run", "x.png", "-o", "in/", *SETTINGS]) == 0
    assert run(["batch", "in", "out", "--prompt-from", "metadata", *QUICK]) == 0
    assert find("out/x.png").layer.values["prompt"] == "a face"


@pytest.mark.parametrize(("mode", "seeds"), [("same", [1, 1]), ("index", [1, 2])])
def test_seeds_by_mode(source: Path, capfd: pytest.CaptureFixture[str], mode: str, seeds: list[int]) -> None:
    assert run(["batch", "in", "out", "--json", "--seed-mode", mode, *SETTINGS]) == 0
    assert [one["seed"] for one in told(capfd, "saved")] == seeds


def test_a_seed_by_name_stays_with_its_picture(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def seed_of_b() -> int:
        assert run(["batch", "in", "out", "--json", "--seed-mode", "name", *SETTINGS]) == 0
        made = [one for one in events(capfd.readouterr().out) if one["event"] in ("saved", "skipped")]
        return next(one["seed"] for one in made if one["input"] == "in/b.png")

    before = seed_of_b()
    (source / "a.png").unlink()
    assert seed_of_b() == before


def test_a_list_says_it_for_each(source: Path) -> None:
    Path("jobs.csv").write_text(
        "input,prompt,strength,output\nin/a.png,a tree,0.9,\nin/b.png,,,named.png\n", encoding="utf-8"
    )
    assert run(["batch", "jobs.csv", "out", *QUICK[:2], *QUICK[4:], "--seed", "1", "-n", "grey"]) == 0
    one = find("out/in/a.png").layer.values
    assert (one["prompt"], one["strength"]) == ("a tree", 0.9)
    assert Path("out/named.png").is_file()


def test_a_row_that_cannot_be_meant_is_one_failure(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [{"input": "in/a.png"}, {"input": "in/b.png", "strength": 7}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)), encoding="utf-8")
    assert run(["batch", "jobs.jsonl", "out", *SETTINGS]) == 4
    assert "jobs.jsonl, line 2" in capfd.readouterr().err
    assert list(outputs()) == ["in/a.png"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "stdin"])
@pytest.mark.parametrize(
    ("job", "said"),
    [
        (
            {"input": "in/*.png"},
            "in/*.png is a pattern, and a job has one picture; give it as SOURCE",
        ),
        ({"input": "in"}, "in is a folder, and a job has one picture; give it as SOURCE"),
        ({"input": "in/a.png", "output": "w/"}, ".gif, such as 'w/{stem}.png'"),
        ({"input": "in/a.png", "output": "w"}, ".gif, such as 'w.png'"),
    ],
)
def test_a_job_that_names_many_is_told_where_they_belong(
    source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, job: Any, said: str
) -> None:
    table = "\n".join(",".join(row) for row in (job, job.values()))
    text = table if kind == "csv" else json.dumps(job)
    Path(f"jobs.{kind}").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(["batch", "-" if kind == "stdin" else f"jobs.{kind}", "out", *SETTINGS]) == 5
    told = " ".join(capfd.readouterr().err.split())
    assert said in told
    assert "ending in '/'" not in told


def test_a_matrix_makes_the_product(source: Path) -> None:
    Path("jobs.toml").write_text(
        '[[job]]\ninput = "in/a.png"\n[matrix]\nprompt = ["a tree", "a face"]\ncfg-scale = [1, 2]\n', encoding="utf-8"
    )
    assert run(["batch", "jobs.toml", "out", *QUICK]) == 0
    assert len(outputs()) == 4


def test_two_outputs_of_one_name_are_found_before_anything_runs(source: Path) -> None:
    photo(source / "a.jpg")
    assert batch() == 2
    assert not Path("out").exists()


def test_jobs_of_several_shapes_and_samplers(source: Path) -> None:
    photo(source / "d.png", (40, 64))
    rows = [{"input": f"in/{n}.png", "sampler": s} for n, s in zip("abd", ("euler", "heun", "euler_a"), strict=True)]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert run(["batch", "jobs.jsonl", "out", *SETTINGS]) == 0
    together = outputs()
    shutil.rmtree("out")
    for limit in ("1", "2", "3"):
        assert run(["batch", "jobs.jsonl", "out", "--limit", limit, *SETTINGS]) == 0
    assert outputs() == together


def test_a_stream_is_answered_line_by_line(
    source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        '{"input": "in/a.png", "output": "one.png"}',
        "no json",
        "",
        '{"input": "in/b.png", "output": "two.png", "prompt": "a tree"}',
        '{"input": "in/a.png", "output": "one.png"}',
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert run(["batch", "-", "out", "--json", *SETTINGS]) == 4
    out = events(capfd.readouterr().out)
    kinds = [one["event"] for one in out if one["event"] not in ("step", "warning")]
    assert kinds == ["start", "load", "saved", "failed", "saved", "skipped", "end"]
    assert "stdin, line 2" in next(one["error"] for one in out if one["event"] == "failed")
    assert sorted(outputs()) == ["one.png", "two.png"]


def test_an_output_outside_of_the_destination_is_refused(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("jobs.jsonl").write_text('{"input": "in/a.png", "output": "../evil.png"}', encoding="utf-8")
    assert run(["batch", "jobs.jsonl", "out", *SETTINGS]) == 5
    assert "outside" in capfd.readouterr().err
    assert not Path("evil.png").exists()


def test_an_output_behind_a_link_that_leads_out_is_refused(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for folder in ("elsewhere", "out/own"):
        Path(folder).mkdir(parents=True)
    Path("out/sub").symlink_to(Path("elsewhere").absolute(), target_is_directory=True)
    Path("out/inner").symlink_to(Path("out/own").absolute(), target_is_directory=True)
    rows = [{"input": "in/a.png", "output": f"{name}/a.png"} for name in ("sub", "inner")]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert run(["batch", "jobs.jsonl", "out", *SETTINGS]) == 4
    assert "out/sub, a link that leads out of out" in capfd.readouterr().err
    assert list(Path("elsewhere").iterdir()) == []
    assert Path("out/own/a.png").is_file()


def test_an_error_of_all_is_said_once_with_the_rows_that_it_holds_of(
    source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{"input": f"in/{name}.png", "lora": ["gone.safetensors"]} for name in ("a", "b", "sub/c")]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert run(["batch", "jobs.jsonl", "out", *SETTINGS]) == 5
    first, others = (line for line in capfd.readouterr().err.splitlines() if "gone" in line)
    assert first.startswith("sdedit: jobs.jsonl, line 1: ")
    assert others.startswith("sdedit: jobs.jsonl, line 2, jobs.jsonl, line 3 too: ")
    assert all("gone.safetensors: no such path" in line for line in (first, others))


def test_where_a_model_cannot_be_had_no_more_inputs_are_read(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (source / "b.png").write_bytes(b"no picture")
    Path("m.safetensors").write_bytes(b"no model")
    assert batch("--json", "-m", "m.safetensors") == 5
    assert [one["word"] for one in told(capfd, "failed")] == ["model-unusable"] * 3
    assert not leftovers(Path("out"))


HOSTILE = ("{foo}.png", "{stem:>999999999}.png", "{parent.__class__}.png", "n" * 300 + ".png", ".sdedit/a.png", "a.txt")


def test_an_output_that_cannot_be_costs_its_own_row(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    rows = "".join(f"in/a.png,{output}\n" for output in ("ok.png", *HOSTILE))
    Path("jobs.csv").write_text("input,output\n" + rows, encoding="utf-8")
    assert run(["batch", "jobs.csv", "out", *SETTINGS, "--json"]) == 4
    out, err = capfd.readouterr()
    failed = [one for one in events(out) if one["event"] == "failed"]
    assert len(failed) == len(HOSTILE)
    assert all(f"jobs.csv, line {number}: " in one["error"] for number, one in enumerate(failed, 3))
    assert list(outputs()) == ["ok.png"]
    assert "-o " not in err, "nobody gave that option"


def test_one_picture_twice_is_said_by_its_jobs(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("jobs.csv").write_text("input,prompt\nin/a.png,x\nin/b.png,x\nin/a.png,y\n", encoding="utf-8")
    assert run(["batch", "jobs.csv", "out", *SETTINGS]) == 2
    assert "in/a.png: jobs 1 and 3 would both be written to out/in/a.png" in capfd.readouterr().err


def test_what_stands_around_a_prompt_may_name_adapters(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "in", "out", *SETTINGS, "--prompt-prefix", "<lora:of-{stem}:1> "]) == 5
    err = capfd.readouterr().err
    for stem in ("a", "b"):
        assert f"in/{stem}.png: <lora:of-{stem}:1>: no LoRA is called so" in err
