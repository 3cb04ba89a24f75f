"""A batch gives the same pictures wherever they lie and in any order, and in batches of any size nearly the same."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import QUICK, events, leftovers, photo
from helpers.disks import closed_to_writers, mounted
from PIL import Image

from sdedit_cli.cli.main import run

NAMES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def source(folder: Path) -> Path:
    (folder / "in").mkdir()
    for name in NAMES:
        photo(folder / "in" / name)
    return folder / "in"


@pytest.fixture
def other_disk(folder: Path) -> Generator[Path, None, None]:
    with mounted(folder / "disk", "size=16m") as path:
        yield path


@pytest.fixture
def closed(folder: Path) -> Generator[Path, None, None]:
    with closed_to_writers(folder / "closed") as path:
        yield path


def batch(dest: str, *more: str) -> int:
    return run(["batch", "in", dest, "-p", "a face", *QUICK, *more])


def made(dest: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dest.glob("*.png")}


def test_on_another_file_system_the_same_bytes_are_made_once(
    source: Path, other_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert os.stat(source).st_dev != os.stat(other_disk).st_dev
    assert batch("out") == 0
    assert batch("disk/out") == 0
    assert sorted(made(other_disk / "out")) == sorted(NAMES)
    assert made(other_disk / "out") == made(Path("out"))
    assert not leftovers(other_disk)
    capfd.readouterr()
    assert batch("disk/out", "--json") == 0
    assert [one["event"] for one in events(capfd.readouterr().out)] == ["start", *["skipped"] * 4, "end"]


@pytest.mark.parametrize("below", ["", "/out"])
def test_a_destination_that_may_not_be_written_is_one_line(
    source: Path, closed: Path, capfd: pytest.CaptureFixture[str], below: str
) -> None:
    for more in ((), ("--dry-run",)):
        assert batch(f"closed{below}", *more) == 3
        said = capfd.readouterr().err.strip().splitlines()
        assert len(said) == 1, said
        assert "closed" in said[0]
    assert sorted(path.name for path in source.iterdir()) == sorted(NAMES)


def test_a_dry_run_refuses_what_would_go_into_a_closed_folder_below(source: Path) -> None:
    (source / "sub").mkdir()
    photo(source / "sub" / "a.png")
    Path("out").mkdir()
    with closed_to_writers(Path("out/sub").absolute()):
        for more in (("--dry-run",), ()):
            assert batch("out", "--recursive", *more) == 4
    assert sorted(made(Path("out"))) == sorted(NAMES)


@pytest.mark.parametrize("pictures", ["in", "in/a.png"])
@pytest.mark.parametrize(
    ("dest", "what"),
    [
        ("out.png", "DEST out.png: is the name of one picture"),
        ("-", "DEST -: is stdout"),
        ("in/b.png", "DEST in/b.png: is a file"),
        ("notes.txt", "DEST notes.txt: is a file"),
    ],
)
def test_a_destination_that_is_no_folder_is_refused_in_words(
    source: Path, capfd: pytest.CaptureFixture[str], pictures: str, dest: str, what: str
) -> None:
    Path("notes.txt").write_text("mine")
    before = sorted(Path().rglob("*"))
    assert run(["batch", pictures, dest, "-p", "a face", *QUICK]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"{what}, and a batch writes into a folder; give a folder (end it with '/')" in said
    assert sorted(Path().rglob("*")) == before


def test_a_folder_may_end_as_pictures_do_where_it_is_said_to_be_one(source: Path) -> None:
    assert batch("out.png/", "--limit", "1") == 0
    assert batch("out.png") == 0
    assert sorted(made(Path("out.png"))) == sorted(NAMES)


def test_the_order_of_the_jobs_changes_no_byte(source: Path) -> None:
    jobs = [
        {
            "input": f"in/{name}",
            "output": name,
            "prompt": f"{number} trees",
            "seed": number,
            "strength": 0.4 + number / 10,
        }
        for number, name in enumerate(NAMES)
    ]
    found: list[dict[str, bytes]] = []
    for number, order in enumerate((jobs, jobs[::-1], [jobs[2], jobs[0], jobs[3], jobs[1]])):
        Path(f"jobs{number}.jsonl").write_text("".join(json.dumps(job) + "\n" for job in order), encoding="utf-8")
        command = ["batch", f"jobs{number}.jsonl", f"out{number}", "--steps", "4", "--batch-size", "3", "-q"]
        assert run(command) == 0
        found.append(made(Path(f"out{number}")))
    assert sorted(found[0]) == sorted(NAMES)
    assert len(set(found[0].values())) == len(NAMES)
    assert found[0] == found[1] == found[2]


def test_in_batches_of_one_three_and_eight_pictures_differ_by_rounding(folder: Path) -> None:
    (folder / "in").mkdir()
    rng = np.random.default_rng(1)
    for number in range(8):
        noise = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((48, 48), Image.Resampling.BICUBIC).save(folder / "in" / f"{number}.png")
    for size in (1, 3, 8):
        assert batch(f"out{size}", "--batch-size", str(size), "--dtype", "fp32", "--seed-mode", "index") == 0
    compared = 0
    for name, data in made(Path("out1")).items():
        one = np.asarray(Image.open(io.BytesIO(data)), dtype=int)
        for size in (3, 8):
            other = np.asarray(Image.open(f"out{size}/{name}"), dtype=int)
            assert np.abs(one - other).max() <= 1, (name, size)
            compared += 1
    assert compared == 16


def test_results_that_lie_among_the_pictures_are_not_edited_again(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(pictures: str) -> tuple[int, str]:
        code = run(["batch", pictures, "in/{stem}-x.png", "-p", "a face", *QUICK])
        return code, capsys.readouterr().err

    results = {f"{name[0]}-x.png" for name in NAMES}
    assert told("in")[0] == 0
    assert set(made(source)) == {*NAMES, *results}
    for pictures in ("in", "in/*.png"):
        before = made(source)
        code, words = told(pictures)
        assert code == 0
        assert "4 files left out as results that a journal knows, such as " in words
        assert made(source) == before
    # Of those that are not there, results are pictures as others are.
    assert told("in/?-x.png")[0] == 0
    assert "a-x-x.png" in made(source)
    assert run(["batch", "in", "in", "-p", "a face", *QUICK, "--on-exists", "overwrite", "--include", "[ab].png"]) == 0
    assert run(["batch", "in", "in", "-p", "a face", *QUICK, "--check", "--include", "[ab].png"]) == 0


def test_what_is_edited_in_its_place_is_not_edited_again(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert batch("in", "--on-exists", "overwrite") == 0
    before = made(source)
    for more in ((), ("--check",), ("--on-exists", "overwrite")):
        assert batch("in", *more) == 0
        assert made(source) == before
    for more in (("-n", "fog"), ("--force", "-n", "fog")):
        assert batch("in", *more) == 0
        assert made(source) != before
        before = made(source)
        assert batch("in", "--check", "-n", "fog") == 0
        assert batch("in", "-n", "fog") == 0
        assert made(source) == before
    os.rename("in", "moved")
    assert run(["batch", "moved", "moved", "-p", "a face", *QUICK, "-n", "fog", "--check"]) == 0
    os.rename("moved", "in")
    assert batch("in") == 0
    capsys.readouterr()
    photo(source / "a.png", (40, 48))
    assert batch("in", "--check") == 6
    assert capsys.readouterr().err.count("in/") == 1


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_what_is_edited_in_its_place_through_a_link_is_not_edited_again(source: Path) -> None:
    Path("link").symlink_to("in", target_is_directory=True)
    assert batch("link", "--on-exists", "overwrite") == 0
    before = made(source)
    for dest in ("link", "in"):
        for more in (("--check",), ()):
            assert batch(dest, *more) == 0
            assert made(source) == before


def test_what_was_edited_in_its_place_is_not_edited_again_when_it_was_away_for_a_run(source: Path) -> None:
    Path("jobs.csv").write_text("input,output\na.png,a.png\nb.png,b.png\n")
    os.rename("jobs.csv", "in/jobs.csv")
    words = ("batch", "in/jobs.csv", "in", "-p", "a face", *QUICK)
    assert run([*words, "--on-exists", "overwrite"]) == 0
    before = made(source)
    os.rename("in/a.png", "away.png")
    assert run(list(words)) == 4
    assert run([*words, "--check"]) == 6
    os.rename("away.png", "in/a.png")
    for more in ("--check", "--retry-failed", "-q"):
        assert run([*words, more]) == 0
        assert made(source) == before


def test_what_an_earlier_stage_has_made_is_the_source_of_the_next(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch("mid") == 0
    photo(Path("mid") / "more.png")
    for pictures in ("mid", "mid/*.png"):
        assert run(["batch", pictures, "mid/{stem}-2.png", "-p", "a face", *QUICK]) == 0
        assert {f"{name[0]}-2.png" for name in NAMES} | {"more-2.png"} < made(Path("mid")).keys()
        assert "-2-2.png" not in " ".join(made(Path("mid")))
    assert "5 files left out as results that a journal knows" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("more", [("--shard", "1/2"), ()], ids=["shard", "link"])
def test_an_input_of_a_job_of_another_shard_or_behind_a_link_is_not_replaced(
    source: Path, more: tuple[str, ...]
) -> None:
    Path("link").symlink_to("in", target_is_directory=True)
    before = (source / "b.png").read_bytes()
    rows = [{"input": "link/a.png", "output": "b.png"}, {"input": "link/b.png", "output": "z.png"}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code = run(["batch", "jobs.jsonl", "in", "-p", "a face", *QUICK, "--on-exists", "overwrite", *more])
    assert code == (5 if more else 4)
    assert (source / "b.png").read_bytes() == before


@pytest.mark.parametrize("known", [False, True])
def test_a_folder_that_has_the_name_of_an_output_is_refused_by_a_dry_run_too(
    source: Path, capfd: pytest.CaptureFixture[str], known: bool
) -> None:
    if known:
        assert batch("out", "--include", "a.png") == 0
        Path("out/a.png").unlink()
    Path("out/a.png").mkdir(parents=True)
    for more in (("--dry-run",), ()):
        capfd.readouterr()
        assert batch("out", "--on-exists", "overwrite", "--json", *more) == 4
        told = events(capfd.readouterr().out)
        (failed,) = [one for one in told if one["event"] == "failed"]
        assert (failed["input"], failed["word"]) == ("in/a.png", "output-unwritable")
        assert failed["error"].startswith("out/a.png: ")
        assert "out/a.png" not in [one["output"] for one in told if one["event"] == "plan"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("link", ["folder", "file", "file elsewhere"])
def test_two_outputs_that_are_one_file_by_links_are_found_before_anything_runs(
    source: Path, capfd: pytest.CaptureFixture[str], link: str
) -> None:
    Path("out/one").mkdir(parents=True)
    Path("out/one/a.png").write_bytes(b"mine")
    if link == "folder":
        Path("out/two").symlink_to("one", target_is_directory=True)
    else:
        Path("out/two").mkdir()
        Path("out/two/a.png").symlink_to("../one/a.png")
        if link == "file elsewhere":
            Path("out/one/a.png").rename("a.png")
            Path("out/one/a.png").symlink_to(Path("a.png").absolute())
    rows = [{"input": f"in/{name}.png", "output": f"{folder}/a.png"} for name, folder in (("a", "one"), ("b", "two"))]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["batch", "jobs.jsonl", "out", "-p", "a face", *QUICK, "--on-exists", "overwrite"]
    assert run(command) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"{Path('out/one/a.png')} and {Path('out/two/a.png')} (of in/b.png) are one file" in said
    assert Path("out/one/a.png").read_bytes() == b"mine"
    Path("out/two" if link == "folder" else "out/two/a.png").unlink()
    assert run(command) == 0
    assert run([*command, "--check"]) == 0


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_finished_outputs_may_be_links_to_one_file(source: Path) -> None:
    """As programs keep equal files that hold those of a repository; none of them is written through."""
    rows = [{"input": "in/a.png", "output": name} for name in ("one.png", "two.png")]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = ["batch", "jobs.jsonl", "out", "-p", "a face", *QUICK]
    assert run(command) == 0
    before = Path("out/one.png").read_bytes()
    Path("out/two.png").unlink()
    Path("out/two.png").symlink_to("one.png")
    assert run(command) == 0
    assert run([*command, "--check"]) == 0
    for more in ([], ["--dry-run"]):
        assert run([*command, "--cfg-scale", "2", *more]) == 2
    assert Path("out/one.png").read_bytes() == before


@pytest.mark.skipif(os.name == "nt", reason="pipes have no files there")
def test_a_pipe_is_no_input_of_a_batch_and_waited_for_by_none(
    source: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo("pipe.png")
    jobs = '{"input": "pipe.png"}\n{"input": "in/a.png"}\n'
    Path("jobs.jsonl").write_text(jobs)
    for given, code in (("pipe.png", 3), ("jobs.jsonl", 4), ("-", 4)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(jobs.encode())))
        assert run(["batch", given, "out", "-p", "a face", *QUICK, "--json"]) == code
        told = events(capfd.readouterr().out)
        (error,) = [one["error"] for one in told if one["event"] == ("end" if code == 3 else "failed")]
        assert "pipe.png: is a pipe, and a batch looks at a picture more than once" in error
        if code == 4:
            assert {one["word"] for one in told if one["event"] == "failed"} == {"input-unusable"}


@pytest.mark.skipif(os.name == "nt", reason="pipes have no files there")
def test_a_pipe_is_no_prompt_beside_a_picture_and_waited_for_by_none(
    source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(source / "a.txt")
    (source / "b.txt").write_text("a face")
    for more in (["--dry-run"], []):
        assert run(["batch", "in", "out", *QUICK, "--json", *more]) in (4, 5)
        failed = [one["error"] for one in events(capfd.readouterr().out) if one["event"] == "failed"]
        assert any(error.endswith("a.txt: is a pipe; expected the prompt of a.png") for error in failed)


def test_a_failure_says_of_which_output_it_is(source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two rows of one input are told apart by nothing else."""
    for path in (source / "b.png", Path("no.safetensors")):
        path.write_bytes(b"neither a picture nor weights")
    rows = [
        ("b.png", "x.png", ""),
        ("b.png", "y.png", ""),
        ("a.png", "z.png", "no.safetensors"),
        ("a.png", "fine.png", ""),
    ]
    jobs = [{"input": f"in/{name}", "output": output, "lora": [lora] if lora else []} for name, output, lora in rows]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    assert run(["batch", "jobs.jsonl", "out", "-p", "a face", *QUICK, "--json"]) == 4
    failed = [one for one in events(capfd.readouterr().out) if one["event"] == "failed"]
    assert sorted(one["output"] for one in failed) == [str(Path("out") / name) for name in ("x.png", "y.png", "z.png")]


@pytest.mark.skipif(os.name == "nt", reason="pipes have no files there")
@pytest.mark.parametrize("option", ["mask", "vae", "lora", "embedding", "prompt-embeds", "config", "upscaler"])
@pytest.mark.parametrize(
    "path", ["pipe", "x" * 300, f"diffusion_pytorch_model.{'x' * 300}"], ids=["pipe", "long", "long-weights"]
)
def test_a_row_that_names_what_cannot_be_read_costs_itself_alone(
    source: Path, option: str, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as one whose columns are shifted, so that its prompt stands under `mask`."""
    os.mkfifo("pipe")
    bad = {"input": "in/a.png", option: path} | ({"upscale": 2} if option == "upscaler" else {})
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, [bad, {"input": "in/b.png"}])))
    for more, code in (("--dry-run", 4), ("--check", 6)):
        assert run(["batch", "jobs.jsonl", "out", *QUICK, "--json", more]) == code
        told = events(capfd.readouterr().out)
        assert [one["input"] for one in told if one["event"] == "failed"] == ["in/a.png"] * (code == 4)
        assert [one["output"] for one in told if one["event"] == "plan"] == [str(Path("out/in/b.png"))] * (code == 4)
