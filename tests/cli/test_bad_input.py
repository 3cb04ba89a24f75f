"""What goes wrong at the command line, each through the real command with the real built-in model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, ROOT, bomb, environment, events, leftovers, one_line, photo, sdedit
from helpers.disks import closed_to_writers, mounted
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.main import run
from sdedit_cli.cli.models import find_model, model_names
from sdedit_cli.errors import ModelError

Errors = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["none.png"], 3, "none.png: no such file"),
        (["*.gif"], 3, "*.gif: matches no file"),
        (["."], 3, ".: is a folder"),
        (["empty.png"], 3, "empty.png: is empty (0 bytes)"),
        (["text.png"], 3, "text.png: is a text file"),
        (["cut.png"], 3, "cut.png: is damaged or cut short"),
        (["bomb.png"], 3, "bomb.png: is 20000 x 20000 pixels"),
        (["a.png", "--sampler", "eular"], 2, "unknown sampler 'eular'; did you mean 'euler'?"),
        (["a.png", "--strength", "0"], 2, "--strength is 0; expected a number above 0 and at most 1"),
        (["a.png", "--strength", "1.2"], 2, "--strength is 1.2; expected a number above 0 and at most 1"),
        (["a.png", "--strength", "0.01"], 2, "the smallest strength that works is 0.04"),
        (["a.png", "--steps", "0"], 2, "--steps is 0; expected a whole number from 1 to 1000"),
        (["a.png", "--steps", "3", "--timesteps", "9,5"], 2, "steps and timesteps exclude each other"),
        (["a.png", "--same-noise"], 2, "--same-noise is for the rounds of --repeats K; give that too"),
        (["a.png", "--lora-dir", "nope", "--dry-run"], 3, "--lora-dir nope: no such folder"),
        (["a.png", "--embedding-dir", "text.png"], 3, "--embedding-dir text.png: no such folder"),
        (["a.png", "--schedule", "karas"], 2, "did you mean 'karras'"),
        (["a.png", "--device", "cuda:99", "--dry-run"], 2, "device 'cuda:99' is not there"),
        (["a.png", "-m", "d" * 300], 3, "no such path, and no model of that name"),
        (["a.png", "--vae", "d" * 300], 3, "no such file or folder"),
        (["a.png", "--vae", "nope"], 3, "--vae nope: no such file or folder"),
        (["a.png", "--config", "."], 2, "--config is for a single file"),
        (["a.png", "-m", "empty.png", "--config", "nope"], 3, "--config nope: no such folder"),
        (["a.png", "-o", "d" * 300 + ".png"], 3, "cannot be written (File name too long)"),
        (["a.png", "-o", "d" * 251 + ".png", "--count", "2"], 3, "cannot be written (File name too long)"),
        (["a.png", "-o", "d" * 300 + "/a.png"], 3, "cannot be written (File name too long)"),
        (["a.png", "-o", "new/" + "d" * 300 + ".png", "--dry-run"], 3, "cannot be written (File name too long)"),
        (["a.png", "-o", "new/" + "d" * 300 + "/a.png", "--dry-run"], 3, "cannot be written (File name too long)"),
        (["a.png", "-o", "{seed:99999999999}.png"], 2, "too wide"),
        (["a.png", "-o", "{seed:c}.png", "--seed", "0"], 2, "NUL character"),
        (["a.png", "-o", "{seed:c}.png", "--seed", "99999999"], 2, "is no template"),
        (["a.png", "-m", "org/name", "--dry-run"], 3, "not in the Hub's cache"),
        (["a.png", "--vae", "nope", "--dry-run"], 3, "--vae nope: no such file or folder"),
        (["a.png", "--clip-skip", "99", "--dry-run"], 2, "--clip-skip is 99"),
        (["a.png", "--clip-skip", "99"], 2, "--clip-skip is 99"),
        (["a.png", "--schedule", "lu_lambdas", "--sampler", "ddim", "--dry-run"], 2, "these samplers do: dpmpp_2m"),
        (["a.png", "--schedule", "beta", "--sampler", "Euler Karras", "--dry-run"], 2, "schedules karras and beta"),
        (["a.png", "--eta", "0.9", "--sampler", "euler", "--dry-run"], 2, "'euler' takes no eta, and eta is 0.9"),
        (["a.png", "--eta", "0.9", "--sampler", "euler"], 2, "these samplers do: ddim, tcd"),
        (["a.png", "--timesteps", "30,20,10", "--sampler", "ddim", "--dry-run"], 2, "timesteps"),
        (["a.png", "--timesteps", "30,10,20"], 2, "10 is followed by 20"),
        (["a.png", "--sigmas", "3,1,1"], 2, "1 is followed by 1"),
        (["a.png", "-o", "-", "--json"], 2, "both want stdout"),
        (["a.png", "--steps-dir", "s"], 2, "is for the pictures of --save-every"),
        (["a.png", "--preset", "quik"], 3, "did you mean 'quick'"),
        (["a.png", "--like", "a.png"], 3, "a.png: holds no settings"),
        (["a.png", "-m", "none"], 3, "-m none: no such path, and no model of that name"),
        (["a.png", "-o", "text.png/x.png"], 3, "cannot be a folder"),
        (["a.png", "-o", "text.png"], 3, "text.png: exists already"),
        (["a.png", "--prompt"], 2, "requires an argument"),
        (["a.png", "--like", ""], 2, "'--like': the path is empty; expected a file, a folder or a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_requests_end_in_one_line_and_the_right_code(
    folder: Path, capfd: Errors, words: list[str], code: int, told: str
) -> None:
    photo(folder / "a.png")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture")
    whole = photo(folder / "cut.png", (200, 200)).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(bomb())
    before = sorted(path.name for path in folder.iterdir())
    assert run(["run", *words]) == code
    err = capfd.readouterr().err
    assert told in (one_line(err) if code else err)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_output_that_is_too_long_fails_that_picture_alone(folder: Path, capfd: Errors) -> None:
    long = photo(folder / f"{'d' * 250}.png").name
    photo(folder / "a.png")
    assert run(["run", long, "a.png", "-o", "{name}.edited.png", "--json", *QUICK]) == 4
    kinds = [event["event"] for event in events(capfd.readouterr().out)]
    assert (kinds.count("failed"), kinds.count("saved")) == (1, 1)


@pytest.mark.skipif(find_spec("xformers") is not None, reason="xformers is installed")
def test_a_dry_run_refuses_attention_that_is_not_installed(folder: Path, capfd: Errors) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--dry-run", "--attention", "xformers"]) == 2
    err = capfd.readouterr().err
    assert "xformers is not installed" in one_line(err)
    assert "would edit" not in err


@pytest.mark.parametrize("option", ["--vae", "--tiny-vae"])
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("zeros.safetensors", "download it again"),
        ("unet", "holds no autoencoder"),
        ("half", "decoder.conv_out.weight"),
        ("whole", "is a whole autoencoder and no tiny one"),
    ],
)
def test_a_dry_run_refuses_autoencoders_as_the_run_does(
    folder: Path, capfd: Errors, option: str, file: str, told: str
) -> None:
    photo(folder / "a.png")
    (folder / "zeros.safetensors").write_bytes(bytes(5000))
    for name, part in (("unet", "unet"), ("half", "vae"), ("whole", "vae")):
        shutil.copytree(BUILT_IN / part, folder / name)
    (weights,) = (folder / "half").glob("*.safetensors")
    left = {name: tensor for name, tensor in load_file(weights).items() if name != "decoder.conv_out.weight"}
    save_file(left, weights)
    fits = file == "whole" and option == "--vae"
    said = []
    for more in (["--dry-run"], QUICK):
        assert run(["run", "a.png", "-p", "x", option, file, *more]) == (0 if fits else 3)
        said.append(capfd.readouterr().err)
    if not fits:
        assert all(told in one_line(err) for err in said)


def test_nothing_is_announced_that_is_refused(folder: Path, capfd: Errors) -> None:
    photo(folder / "a.png")
    assert run(["run", "a.png", "--sampler", "ddim", "--timesteps", "30,20,10"]) == 2
    assert "steps (strength" not in capfd.readouterr().err


def test_the_steps_that_fit_an_exact_schedule_are_not_none(folder: Path, capfd: Errors) -> None:
    assert run(["run", "a.png", "--steps", "1000", "--exact-steps", "--strength", "0.0001"]) == 2
    err = one_line(capfd.readouterr().err)
    assert "at most 0" not in err
    assert "take a strength of at least 1" in err


@pytest.mark.skipif(os.name != "posix", reason="closes a stream through the shell")
def test_a_closed_stdin_is_told(folder: Path) -> None:
    line = f"exec {sys.executable} -m sdedit_cli run - -o x.png <&-"
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == 3
    assert "stdin is closed" in one_line(done.stderr)


@contextmanager
def closed_to_us(path: Path) -> Generator[None, None, None]:
    """A folder of mode 0 within it, and we are somebody whom that keeps out."""
    path.parent.chmod(0o777)
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="needs file modes")
def test_unreadable_places_of_models_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shut").mkdir()
    with closed_to_us(folder / "shut"):
        with pytest.raises(ModelError, match="-m shut: the folder cannot be read"):
            find_model("shut", [])
        with pytest.raises(ModelError, match="-m shut/x: cannot be read"):
            find_model("shut/x", [])
        with pytest.raises(ModelError, match=r"shut \(cannot be read\); check \$SDEDIT_MODELS"):
            find_model("foo", [Path("shut")])
        assert model_names([Path("shut"), Path(".")]) == []


def test_an_unreadable_picture(folder: Path) -> None:
    (folder / "a").mkdir()
    path = folder / "loop.png"
    path.symlink_to("loop.png")
    done = sdedit("run", "loop.png", cwd=folder)
    assert done.returncode == 3
    assert "loop.png: cannot be read" in one_line(done.stderr)


@pytest.fixture
def closed(folder: Path) -> Generator[Path, None, None]:
    with closed_to_writers(folder / "closed") as path:
        yield path


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("-o", ["run", "a.png", "-o", "closed/x/"]),
        ("--steps-dir", ["run", "a.png", "--save-every", "1", "--steps-dir", "closed/x"]),
        ("--animate", ["run", "a.png", "--animate", "closed/x.webp"]),
        ("--save-preset", ["run", "a.png", "--save-preset", "closed/x.toml"]),
        ("--report", ["batch", "a.png", "out", "--report", "closed/x.html"]),
        ("--strokes", ["presets", "--strokes", "closed/x"]),
        ("-o", ["run", "a.png", "--sweep", "eta=0,1", "-o", "closed/x.png"]),
        ("--sweep-page", ["run", "a.png", "--sweep", "eta=0,1", "--sweep-page", "closed/x.html"]),
        ("--sweep-dir", ["run", "a.png", "--sweep", "eta=0,1", "--sweep-dir", "../{here}/closed/x"]),
    ],
)
def test_a_folder_that_may_not_be_written_is_told_with_its_option(
    folder: Path, capfd: Errors, closed: Path, flag: str, words: list[str]
) -> None:
    photo(folder / "a.png")
    given = [word.format(here=folder.name) for word in words]
    assert run([*given, *(QUICK if words[0] != "presets" else ())]) == 3
    told = capfd.readouterr().err
    assert told.count("not writable") == 1
    assert f"{closed.name}: is not writable; choose another place with {flag}" in one_line(told)
    assert f"{os.sep}{os.pardir}{os.sep}" not in told
    assert [path.name for path in folder.glob("*") if path.name not in ("a.png", "closed")] == []


def test_the_folder_one_is_in_is_told_by_its_name(
    folder: Path, capfd: Errors, closed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(folder / "a.png")
    with monkeypatch.context() as inside:  # a disk that one is in cannot be taken away
        inside.chdir(closed)
        assert run(["run", "../a.png", "-o", "x.png", *QUICK]) == 3
    assert f"{closed.resolve()}: is not writable" in one_line(capfd.readouterr().err)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_picture_of_somebody_else(folder: Path, capfd: Errors) -> None:
    photo(folder / "secret.png").chmod(0)
    assert run(["run", "secret.png"]) == 3
    assert "secret.png: cannot be read (Permission denied)" in one_line(capfd.readouterr().err)


def test_errors_come_as_events_too(folder: Path, capfd: Errors) -> None:
    for words, code, word in (
        (["none.png", "--json"], 3, "input-unusable"),
        (["a.png", "--json", "--strength", "2"], 2, "bad-request"),
        (["--json", "--nope"], 2, "bad-request"),
    ):
        assert run(["run", *words]) == code
        end = events(capfd.readouterr().out)[-1]
        assert (end["event"], end["ok"], end["exit_code"], end["word"]) == ("end", False, code, word)
        assert end["error"]


def test_a_traceback_is_for_those_who_ask(folder: Path, capfd: Errors) -> None:
    assert run(["run", "none.png", "--debug"]) == 3
    assert "Traceback" in capfd.readouterr().err


@pytest.fixture
def model(folder: Path) -> Path:
    """A copy of the built-in model to be spoilt."""
    photo(folder / "a.png")
    return Path(shutil.copytree(BUILT_IN, folder / "model"))


def change_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_weights(path: Path, change: Any) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


UNET = "unet/diffusion_pytorch_model.safetensors"
FIRST = "conv_in.weight"


def lying_config(model: Path) -> None:
    channels = json.loads((model / "unet" / "config.json").read_text())["block_out_channels"]
    change_json(model / "unet" / "config.json", block_out_channels=[2 * n for n in channels])


def missing_tensor(model: Path) -> None:
    change_weights(model / UNET, lambda tensors: tensors.pop(FIRST))


def unexpected_tensor(model: Path) -> None:
    change_weights(model / UNET, lambda tensors: tensors.update({"stray.weight": torch.ones(1)}))


def no_json(model: Path) -> None:
    (model / "unet" / "config.json").write_text("{")


def wrong_type(model: Path) -> None:
    change_json(model / "unet" / "config.json", block_out_channels="many")


def cut_weights(model: Path) -> None:
    whole = (model / UNET).read_bytes()
    (model / UNET).write_bytes(whole[: len(whole) // 2])


def no_weights(model: Path) -> None:
    (model / UNET).unlink()


def empty_folder(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lying_config, FIRST),
        (missing_tensor, FIRST),
        (unexpected_tensor, "stray.weight"),
        (no_json, "config.json"),
        (wrong_type, "block_out_channels"),
        (cut_weights, "diffusion_pytorch_model"),
        (no_weights, "unet"),
        (empty_folder, "model"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_spoilt_model_is_refused_by_name(model: Path, capfd: Errors, spoil: Any, told: str) -> None:
    spoil(model)
    assert run(["run", "a.png", "-m", "model", *QUICK]) == 3
    captured = capfd.readouterr().err
    assert "Traceback" not in captured
    assert told in captured
    assert not Path("a.edited.png").exists()


def test_a_result_that_is_not_finite_is_not_written(model: Path, capfd: Errors) -> None:
    change_weights(model / UNET, lambda tensors: tensors[FIRST].fill_(float("nan")))
    assert run(["run", "a.png", "-m", "model", "--json", "--save-every", "1", "--steps-dir", "s", *QUICK]) == 8
    out, err = capfd.readouterr()
    assert "the result is not finite (seed 1), so nothing was written" in one_line(err)
    assert events(out)[-1]["exit_code"] == 8
    assert not [*Path().glob("s/*"), *Path().glob("a.edited.png")], "nor what would have become of it"


@pytest.fixture
def small_disk(folder: Path) -> Generator[Path, None, None]:
    """A file system of 16 KiB."""
    with mounted(folder / "disk", "size=16k") as path:
        yield path


def test_a_full_disk_leaves_nothing_half_written(folder: Path, capfd: Errors, small_disk: Path) -> None:
    photo(folder / "a.png", (160, 160))
    assert run(["run", "a.png", "-o", "disk/", *QUICK]) == 3
    assert "disk/a.png: cannot be written (No space left on device); nothing was left behind" in one_line(
        capfd.readouterr().err
    )
    assert not list(small_disk.iterdir())


_LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from sdedit_cli.cli.main import main
main(sys.argv[1:])
"""


def test_a_disk_that_takes_no_more_leaves_the_old_picture(folder: Path) -> None:
    photo(folder / "a.png", (160, 160))
    (folder / "b.png").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, "run", "a.png", "-o", "b.png", "--on-exists", "overwrite", *QUICK],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3
    assert "b.png: cannot be written (File too large)" in one_line(done.stderr)
    assert (folder / "b.png").read_bytes() == b"old"
    assert not leftovers(folder)
