"""A batch that is run again: rows that were mended, circumstances that are others, and what cannot be removed."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import BUILT_IN, QUICK, events, photo
from helpers.disks import Unlisted
from PIL import Image
from safetensors.torch import load_file, save

from sdedit_cli.cli.main import run


@pytest.fixture
def place(folder: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        photo(folder / name)
    return folder


def batch(source: str, *more: str) -> int:
    return run(["batch", source, "out", "-p", "a face", *QUICK, *more])


def told(capfd: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    return [one for one in events(capfd.readouterr().out) if one["event"] == event]


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ('{"input": "b.png", "strength": 2}', '{"input": "b.png", "strength": 0.9}'),
        ('{"input": "b.png", "seed": ', '{"input": "b.png"}'),
        ('{"output": "b.png"}', '{"output": "b.png", "input": "b.png"}'),
    ],
)
def test_a_row_that_was_mended_is_one_that_had_failed(
    place: Path, capfd: pytest.CaptureFixture[str], broken: str, mended: str
) -> None:
    Path("jobs.jsonl").write_text(f'{{"input": "a.png"}}\n{broken}\n')
    assert batch("jobs.jsonl") == 4
    journal = Path("out/.sdedit/journal.jsonl").read_bytes()
    assert batch("jobs.jsonl") == 4
    assert Path("out/.sdedit/journal.jsonl").read_bytes() == journal, "what is known of a row is said once"
    Path("jobs.jsonl").write_text(f'{{"input": "a.png", "seed": 7}}\n{mended}\n{{"input": "c.png"}}\n')
    capfd.readouterr()
    assert batch("jobs.jsonl", "--retry-failed", "--json") == 0
    assert [one["input"] for one in told(capfd, "saved")] == ["b.png"]
    other = json.dumps({**json.loads(mended), "cfg-scale": 3})
    Path("jobs.jsonl").write_text(f'{{"input": "a.png"}}\n{other}\n')
    assert batch("jobs.jsonl", "--retry-failed", "--json") == 0
    assert not told(capfd, "saved"), "it is made by now, and what changes of it has not failed"


def test_the_circumstances_are_kept_beside_the_key(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert batch("*.png", "--batch-size", "2") == 0
    lines = map(json.loads, Path("out/.sdedit/journal.jsonl").read_text().splitlines())
    noted = [line["environment"] for line in lines if line["event"] == "done"]
    assert [(one["backend"], one["together"]) for one in noted] == [("torch", 2)] * 3
    assert batch("*.png", "--batch-size", "2", "--check", "--strict-env") == 0
    assert batch("*.png", "--batch-size", "1", "--check") == 0, "a key says nothing of them"
    capfd.readouterr()
    assert batch("*.png", "--batch-size", "1", "--check", "--strict-env", "--json") == 6
    assert {one["reason"] for one in told(capfd, "stale")} == {"made 2 at a time, and it would be 1"}
    assert batch("*.png", "--batch-size", "2", "--check", "--strict-env", "--json", "--backend", "jax") == 6
    assert {one["reason"] for one in told(capfd, "stale")} == {"made with the backend torch, and it would be jax"}


@pytest.mark.parametrize(
    ("option", "code", "word"),
    [
        (("--lora", "nowhere"), 3, "--lora nowhere"),
        (("--vae", "no.safetensors"), 3, "--vae no.safetensors"),
        (("--mask", "no.png"), 3, "--mask no.png"),
        (("--ip-adapter", "a.png", "--ip-image", "no.png"), 3, "--ip-image no.png"),
        (("--sampler", "Eular"), 2, "'Eular'"),
    ],
)
def test_what_a_command_names_and_is_nowhere_is_said_once(
    place: Path, capfd: pytest.CaptureFixture[str], option: tuple[str, ...], code: int, word: str
) -> None:
    assert batch("*.png", *option) == code
    said = capfd.readouterr().err
    assert said.count(word) == 1
    assert "a.png:" not in said
    assert not Path("out").exists()


def test_what_each_row_replaces_need_not_be_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("p.toml").write_text('model = "nowhere"\n')
    Path("jobs.csv").write_text("input,model\na.png,built-in\n")
    assert batch("jobs.csv", "--preset", "p.toml") == 0
    assert Path("out/a.png").exists()


def test_what_has_the_size_and_time_of_what_it_replaced_is_seen_to_be_another(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Archives and builds set the time of files as they like: of inputs, of models, and of results edited by hand."""

    def placed(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, (1_000_000_000, 1_000_000_000))

    def pixels(colour: str) -> bytes:
        held = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(held, "bmp")
        return held.getvalue()

    def words(*more: str) -> str:
        run(["batch", "in.bmp", "out", "-m", "model", "-p", "x", *QUICK, *more])
        return capsys.readouterr().err

    shutil.copytree(BUILT_IN, "model")
    weights = next(Path("model/unet").glob("*.safetensors"))
    placed(Path("in.bmp"), pixels("red"))
    placed(weights, weights.read_bytes())
    assert "1 made" in words()
    placed(Path("in.bmp"), pixels("blue"))
    assert "the input changed" in words("--check")
    assert "1 made" in words()
    assert "1 unchanged" in words()
    state = {name: tensor * 1.01 for name, tensor in load_file(weights).items()}
    placed(weights, save(state))
    assert "the model changed" in words("--check")
    assert "1 made" in words()
    result, status = Path("out/in.png"), os.stat("out/in.png")
    data = bytearray(result.read_bytes())
    data[-20] ^= 1
    result.write_bytes(data)
    os.utime(result, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "the output was edited by hand" in words("--check")


def test_what_cannot_be_removed_is_a_failure_of_its_own(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert batch("*.png") == 0
    Path("b.png").unlink()
    Path("c.png").unlink()
    capfd.readouterr()
    assert batch("*.png", "--prune", "--dry-run", "--json") == 0
    would = [(one["output"], one["dry_run"]) for one in told(capfd, "pruned")]
    assert would == [("out/b.png", True), ("out/c.png", True)], "programs hear of it as people do"
    remove = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        remove(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    capfd.readouterr()
    assert batch("*.png", "--prune", "--json") == 4
    out = capfd.readouterr()
    assert "out/b.png: cannot be removed (Permission denied)" in out.err
    assert "Traceback" not in out.err
    assert [one["output"] for one in events(out.out) if one["event"] == "pruned"] == ["out/c.png"]


def test_a_folder_that_cannot_be_read_is_one_failed_job(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        photo(place / "in" / name)
    words = ("--recursive", "--json", "-q")
    shut = "in/sub: the folder cannot be read (Input/output error); make it readable"
    shut += ", or leave it out with --exclude '/sub'"
    real = os.scandir
    monkeypatch.setattr(os, "scandir", Unlisted(Path("in/sub"), OSError(5, "Input/output error")))
    assert batch("in", *words) == 4
    (failed,) = told(capfd, "failed")
    assert (failed["input"], failed["word"]) == ("in/sub", "input-unusable")
    assert failed["error"] == shut
    assert batch("in", *words, "--check") == 6
    assert [(one["input"], one["reason"]) for one in told(capfd, "stale")] == [("in/sub", shut)]
    for choice in (("--exclude", "sub"), ("--include", "/a.*")):
        assert batch("in", *words, "--check", *choice) == 0
    Path("in/a.png").unlink()
    assert batch("in", *words) == 5
    monkeypatch.setattr(os, "scandir", real)
    capfd.readouterr()
    assert batch("in", *words, "--retry-failed") == 0
    assert [one["input"] for one in told(capfd, "saved")] == ["in/sub/b.png"]


def test_what_came_of_a_folder_that_cannot_be_read_is_not_pruned(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "b.png", "sub/c.png"):
        photo(place / "in" / name)
    words = ("--recursive", "--prune", "--json", "-q")
    assert batch("in", *words) == 0
    Path("in/b.png").unlink()
    real = os.scandir
    monkeypatch.setattr(os, "scandir", Unlisted(Path("in/sub"), OSError(5, "Input/output error")))
    for more in ((), ("--dry-run",)):
        capfd.readouterr()
        assert batch("in", *words, *more) == 4
        warned = [one["message"] for one in told(capfd, "warning")]
        assert any(text.startswith("--prune: nothing is removed") for text in warned)
    assert sorted(path.name for path in Path("out").rglob("*.png")) == ["a.png", "b.png", "c.png"]
    monkeypatch.setattr(os, "scandir", real)
    os.rename("in/sub", "moved")
    Path("in/sub").symlink_to(place / "moved", target_is_directory=True)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")  # what a journal says counts from where it was said
    assert run(["batch", "../in", "../out", "-p", "x", *QUICK, *words]) == 0
    monkeypatch.chdir(place)
    assert batch("in", *words) == 0
    assert sorted(path.name for path in Path("out").rglob("*.png")) == ["a.png", "c.png"], "the other one is known"


@pytest.mark.parametrize("edited", [False, True])
def test_an_output_whose_last_try_failed_is_pruned_as_others_are(place: Path, edited: bool) -> None:
    assert batch("*.png") == 0
    Path("b.png").write_bytes(b"no picture")
    assert batch("*.png") == 4
    Path("b.png").unlink()
    if edited:
        Path("out/b.png").write_bytes(b"mine")
    assert batch("*.png", "--prune") == 0
    assert Path("out/b.png").exists() == edited
    assert batch("*.png", "--prune") == 0


def test_what_fails_again_and_again_keeps_no_other_from_its_turn(place: Path) -> None:
    (place / "a.png").write_bytes(b"no picture")
    assert [batch("*.png", "--limit", "1") for _ in range(4)] == [5, 0, 0, 4]
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["b.png", "c.png"]


@pytest.mark.parametrize("reader", ["input", "mask", "like"])
def test_what_the_run_itself_reads_is_not_pruned(place: Path, reader: str) -> None:
    """A batch may read what another list has made in the same destination."""
    Path("first.csv").write_text("input,output\na.png,made/stage.png\nb.png,made/gone.png\n")
    Path("second.csv").write_text("input,output\nout/made/stage.png,final.png\n")
    assert batch("first.csv") == 0
    Path("link").symlink_to("out", target_is_directory=True)
    more = () if reader == "input" else (f"--{reader}", "link/made/stage.png")
    assert batch("second.csv" if reader == "input" else "c.png", "--prune", *more) == 0
    assert [path.name for path in Path("out/made").glob("*.png")] == ["stage.png"]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_was_edited_in_its_place_is_not_pruned(
    place: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """It is an input that was there before, and there is no other copy of it."""
    words = ("-p", "a face", *QUICK)
    assert run(["batch", ".", ".", "--on-exists", "overwrite", *words]) == 0
    monkeypatch.chdir(place.parent if elsewhere else place)
    folder = place.name if elsewhere else "."
    assert run(["batch", folder, folder, "--exclude", "a.png", "--prune", *words]) == 0
    assert (place / "a.png").is_file()


@pytest.mark.parametrize("seconds", [4e9, 0, -1e6], ids=["far ahead", "the beginning", "before it"])
def test_a_clock_that_jumps_makes_nothing_stale_and_loses_nothing(place: Path, seconds: float) -> None:
    """Times are compared for being equal alone, and lines of the journal are counted: what has another time is read."""
    assert batch("*.png") == 0
    for path in (*Path("out").glob("*.png"), *place.glob("*.png"), Path("out/.sdedit/journal.jsonl")):
        os.utime(path, (seconds, seconds))
    before = {path: path.read_bytes() for path in Path("out").glob("*.png")}
    assert batch("*.png", "--check") == 0
    assert batch("*.png") == 0
    photo(place / "b.png", (64, 40))
    os.utime(place / "b.png", (seconds, seconds))
    assert batch("*.png", "--check") == 6
    assert batch("*.png") == 0
    changed = [path.name for path, data in before.items() if path.read_bytes() != data]
    assert changed == ["b.png"]
    assert batch("*.png", "--check") == 0


@pytest.mark.parametrize("kind", ["scheduler", "size", "yaml", "vae"])
def test_what_stands_beside_the_weights_counts(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    model = Path("model.safetensors" if kind == "yaml" else "model")
    if kind == "yaml":
        assert run(["convert", str(BUILT_IN), str(model)]) == 0
    else:
        shutil.copytree(BUILT_IN, model)
    shutil.copytree(BUILT_IN / "vae", "vae")
    more = ["--vae", "vae/diffusion_pytorch_model.safetensors"] if kind == "vae" else []
    words = ["batch", "a.png", "out", "-m", str(model), "-p", "x", *more, *QUICK]
    assert run(words) == 0
    assert run([*words, "--check"]) == 0
    if kind == "yaml":
        model.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: v\n")
    elif kind == "vae":
        said = json.loads(Path("vae/config.json").read_text()) | {"scaling_factor": 0.5}
        Path("vae/config.json").write_text(json.dumps(said))
    else:
        index = json.loads((model / "model_index.json").read_text())
        index |= {"scheduler": ["diffusers", "EulerDiscreteScheduler"]} if kind == "scheduler" else {"_native_size": 96}
        (model / "model_index.json").write_text(json.dumps(index))
    capsys.readouterr()
    assert run([*words, "--check"]) == 6
    who = "autoencoder" if kind == "vae" else "model"
    assert f"what the {who} says of itself changed" in capsys.readouterr().err
