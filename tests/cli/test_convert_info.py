"""`sdedit convert` and `sdedit info` on the command line: what they print, where, and their exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from helpers.cli import environment, start
from helpers.tiny.single_files import shared
from PIL import Image
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.info import autov1
from sdedit_cli.cli.main import run
from sdedit_cli.pictures.codec import read_picture


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run(["info", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_convert_reports_on_stderr_and_leaves_stdout_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "half.safetensors"
    assert run(["convert", str(shared("sd21")[1]), str(target), "--dtype", "fp16", "--no-ema"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Stable Diffusion 2.x" in printed.err
    assert "predicts v_prediction (assumed" in printed.err
    assert "2 x model_ema.*" in printed.err
    assert {t.dtype for t in load_file(target).values()} == {torch.float16}
    assert run(["convert", str(shared("sd21")[1]), str(target)]) == 3
    assert "exists and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nothing.ckpt", "new"], 3, "no such file"),
        (["{model}", "new.ckpt"], 2, "never pickles"),
        (["{model}", "new", "--only", "text_encoder_2"], 2, "has no text_encoder_2"),
        (["{model}", "new", "--max-shard-size", "huge"], 2, "--max-shard-size is 'huge'"),
        (["{model}", "new.safetensors", "--max-shard-size", "1MB"], 2, "--max-shard-size is for folders"),
        (["{model}", "new.safetensors", "--only", "vae", "--max-shard-size", "1MB"], 2, "leave --max-shard-size out"),
        (["{model}", "new", "--prediction-type", "v-pred"], 2, "prediction type 'v-pred'"),
        (["{model}", "new", "--variant", ""], 2, "--variant: the name is empty"),
    ],
)
def test_wrong_requests_are_one_or_two_lines(
    arguments: list[str],
    code: int,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = shared("sd15")[1]
    capsys.readouterr()  # the oracle's progress bars, when it has just built the model
    assert run(["convert", *(a.format(model=model) for a in arguments)]) == code
    said = capsys.readouterr().err
    assert word in said
    assert len(said.splitlines()) <= 2
    assert "Traceback" not in said
    assert not list(tmp_path.glob("new*"))


def test_a_closed_stderr_costs_no_conversion(folder: Path) -> None:
    words = [sys.executable, "-m", "sdedit_cli", "convert", str(shared("sd15")[1]), "new.safetensors"]
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh", *words]
    assert subprocess.run(closed, cwd=folder, env=environment(), check=False).returncode == 0
    assert (folder / "new.safetensors").is_file()


def test_what_is_dropped_is_printed_without_its_escapes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(load_file(shared("sd15")[1]) | {"\x1b[2Jx\n": torch.ones(1)}, folder / "model.safetensors")
    assert run(["convert", "model.safetensors", "new"]) == 0
    said = capsys.readouterr().err
    assert "\\x1b[2Jx\\n" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".Safetensors"])
def test_the_case_of_a_suffix_means_nothing(suffix: str, folder: Path) -> None:
    assert run(["convert", str(shared("sd15")[1]), f"new{suffix}"]) == 0
    assert load_file(folder / f"new{suffix}").keys() == load_file(shared("sd15")[1]).keys()
    assert run(["convert", str(shared("sd15")[1]), "new.CKPT"]) == 2


def test_info_of_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = shared("sd21")
    single, whole = facts(capsys, str(path), str(folder))
    assert (single["family"], single["prediction_type"], single["format"]) == ("sd2", "v_prediction", "safetensors")
    assert [part["name"] for part in single["components"]] == ["unet", "vae", "text_encoder"]
    assert single["metadata"]["title"] == "a test"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (single["sha256"], single["autov2"]) == (digest, digest[:10])
    assert whole["family"] == "sd2"
    assert whole["components"] == single["components"]
    assert "sha256" not in whole


def test_the_oldest_hash_is_that_of_its_64_kib(tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    (tmp_path / "file").write_bytes(data)
    assert autov1(tmp_path / "file") == hashlib.sha256(data[0x100000:0x110000]).hexdigest()[:8]
    (tmp_path / "small").write_bytes(b"x")
    assert autov1(tmp_path / "small") == hashlib.sha256(b"").hexdigest()[:8]


def test_info_of_other_files_says_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lora = {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.ones(2, 2)}
    save_file(lora, tmp_path / "lora.safetensors")
    [found] = facts(capsys, str(tmp_path / "lora.safetensors"))
    assert (found["type"], found["kind"]) == ("lora", "LoRA")

    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    [found] = facts(capsys, str(tmp_path / "picture.png"))
    assert found["kind"] == "picture"


OTHERS = ("jp2", "j2k", "qoi", "ppm", "pfm", "tga", "ico", "icns", "dds", "pcx", "sgi", "xbm", "msp")


@pytest.mark.parametrize("ending", OTHERS)
def test_info_knows_every_format_that_is_read(folder: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    mode = {"xbm": "1", "msp": "1", "pfm": "F"}.get(ending, "RGB")
    Image.new(mode, (32, 32)).save(f"a.{ending}")
    [found] = facts(capsys, f"a.{ending}")
    with Image.open(f"a.{ending}") as saved:
        assert (found["type"], found["width"], found["height"]) == ("picture", *saved.size)
    assert "autov2" not in found


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff", "float"])
@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 7, 9])
def test_info_says_how_large_the_upright_picture_is(
    folder: Path, capsys: pytest.CaptureFixture[str], ending: str, orientation: int
) -> None:
    if ending == "float":
        tag = (0x0112, "H", 1, orientation, True)
        tifffile.imwrite("a.float", np.zeros((24, 40, 3), np.float32), photometric="rgb", extratags=[tag])
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 24)).save(f"a.{ending}", exif=exif)
    [found] = facts(capsys, f"a.{ending}")
    assert (found["width"], found["height"]) == ((24, 40) if orientation in (6, 7) else (40, 24))
    assert read_picture(f"a.{ending}", 1).rgb.size == (found["width"], found["height"])


@pytest.mark.parametrize("ending", ["psd", "icns", "tiff"])
def test_info_knows_large_pictures(folder: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    """Of some formats the first part alone is not enough."""
    if ending == "psd":
        noise = os.urandom(2 << 20)
        layers = struct.pack(">I", len(noise)) + noise
        head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 32, 32, 8, 3) + bytes(8)
        Path("a.psd").write_bytes(head + layers + bytes(2) + bytes(3 * 32 * 32))
    elif ending == "icns":
        Image.effect_noise((1024, 1024), 90).convert("RGBA").save("a.icns")
    else:
        tifffile.imwrite("a.tiff", np.zeros((512, 512, 3), np.float32), photometric="rgb", bigtiff=True)
    assert Path(f"a.{ending}").stat().st_size > 1 << 20
    [found] = facts(capsys, f"a.{ending}")
    assert found["type"] == "picture"
    assert found["width"] == found["height"]


def test_a_palette_that_is_partly_transparent_is_no_matter_for_info(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pillow warns of it where it is asked for colours alone, as those are that may hold an embedding."""
    picture = Image.linear_gradient("L").quantize(8)
    picture.save("palette.png", transparency=bytes([0, 128, 255]))
    assert run(["info", "palette.png", "--no-hash"]) == 0
    assert capfd.readouterr().err == ""


def test_info_goes_on_after_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.ckpt").write_text("hello, this is a text\n")
    assert run(["info", str(tmp_path / "text.ckpt"), str(shared("sd15")[1])]) == 3
    printed = capsys.readouterr()
    assert "Stable Diffusion 1.x" in printed.out
    assert "is a text file" in printed.err
    assert "1 of 2 files cannot be used" in printed.err


def test_info_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    [found] = facts(capsys)
    assert found["libraries"]["torch"] == torch.__version__
    assert found["devices"]["cpu"]
    assert run(["info"]) == 0
    assert "model folders" in capsys.readouterr().out


_SWALLOWED = """
import os, signal, sys
from sdedit_cli.cli.main import main

signal.signal(int(sys.argv[2]), signal.SIG_DFL)  # whoever runs the tests may ignore it

class Swallowed:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            try:
                os.kill(os.getpid(), int(sys.argv[2]))
            except BaseException:
                pass

sys.meta_path.insert(0, Swallowed())
main(["convert", sys.argv[1], "dst.safetensors"])
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), *[(signal.SIGHUP, 143)] * hasattr(signal, "SIGHUP")],
    ids=str,
)
def test_a_signal_lost_in_an_import_still_ends_a_conversion(folder: Path, number: signal.Signals, code: int) -> None:
    """An exception raised by the handler may be swallowed, as by libraries that guard their own imports."""
    words = [sys.executable, "-c", _SWALLOWED, str(shared("sd15")[1]), str(int(number))]
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.3, 0.5, 0.6, 0.7, 0.85, 1.0])
def test_a_signal_at_any_moment_leaves_all_or_nothing(folder: Path, delay: float) -> None:
    model = str(shared("sd15")[1])
    with start("convert", model, "dst.safetensors", cwd=folder, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code in (143, -signal.SIGTERM, 0)
    assert [path.name for path in folder.iterdir()] == (["dst.safetensors"] if code == 0 else [])


def test_info_whose_reader_has_gone_is_quiet(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    with start("info", "a.png", cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 3


def test_failures_of_info_are_objects_of_its_own_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    for words in (["none.png"], ["none.png", "a.png"]):
        assert run(["info", "--json", *words]) == 3
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(fact["schema"], fact["file"]) for fact in told] == [("sdedit.info/1", word) for word in words]
        assert "no such file" in told[0]["error"]


@pytest.mark.parametrize("words", [["info", "{long}"], ["convert", "{long}", "x"], ["convert", "{model}", "{long}"]])
def test_names_that_are_too_long_are_told(folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    model = str(shared("sd15")[1])
    capsys.readouterr()
    assert run([word.format(long="x" * 300, model=model) for word in words]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(folder.iterdir())


def test_a_long_name_that_fits_is_written(folder: Path) -> None:
    name = "x" * 240 + ".safetensors"
    assert run(["convert", str(shared("sd15")[1]), name]) == 0
    assert [path.name for path in folder.iterdir()] == [name]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_what_may_not_be_read_or_written_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "a.png").chmod(0)
    (folder / "ro").mkdir(mode=0o500)
    assert run(["info", "a.png"]) == 3
    assert "cannot be read" in capsys.readouterr().err
    assert run(["convert", str(shared("sd15")[1]), "ro/m.safetensors"]) == 3
    assert "the folder ro is not writable; choose another place" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_told_in_fitting_units(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda *_: SimpleNamespace(free=4000))
    assert run(["convert", str(shared("sd15")[1]), "x"]) == 3
    assert "the disk has 4.0 kB left; free some space" in capsys.readouterr().err


def test_info_shows_small_sizes_and_folders_that_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    assert run(["info", "a.png"]) == 0
    assert " kB" in capsys.readouterr().out
    monkeypatch.setenv("SDEDIT_MODELS", str(folder / "a.png"))
    assert run(["info"]) == 0
    assert "(cannot be read: Not a directory)" in capsys.readouterr().out
