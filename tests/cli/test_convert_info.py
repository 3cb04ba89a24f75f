"""`sdedit convert` and `sdedit info` on the command line: what they print, where, and their exit codes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import shared
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.convert import parse_size
from sdedit_cli.cli.info import autov1
from sdedit_cli.cli.main import run
from sdedit_cli.errors import UsageError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert run(["info", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_convert_reports_on_stderr_and_leaves_stdout_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "half.safetensors"
    assert run(["convert", str(shared("sd2")[1]), str(target), "--dtype", "fp16", "--no-ema"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Stable Diffusion 2.x" in printed.err
    assert "predicts v_prediction (assumed" in printed.err
    assert "2 x model_ema.*" in printed.err
    assert {t.dtype for t in load_file(target).values()} == {torch.float16}
    assert run(["convert", str(shared("sd2")[1]), str(target)]) == 3
    assert "exists and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["nothing.ckpt", "new"], 3, "no such file"),
        (["{model}", "new.ckpt"], 2, "never pickles"),
        (["{model}", "new", "--only", "text_encoder_2"], 2, "has no text_encoder_2"),
        (["{model}", "new", "--max-shard-size", "huge"], 2, "is no size"),
        (["{model}", "new", "--prediction-type", "v-pred"], 2, "prediction type 'v-pred'"),
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
    model = shared("sd1")[1]
    capsys.readouterr()  # the oracle's progress bars, when it has just built the model
    assert run(["convert", *(a.format(model=model) for a in arguments)]) == code
    said = capsys.readouterr().err
    assert word in said
    assert len(said.splitlines()) <= 2
    assert "Traceback" not in said
    assert not (tmp_path / "new").exists()


def test_info_of_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    folder, path = shared("sd2")
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
    assert found["kind"] == "a LoRA"
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "picture.png")
    [found] = facts(capsys, str(tmp_path / "picture.png"))
    assert found["kind"] == "picture"


def test_info_goes_on_after_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.ckpt").write_text("hello, this is a text\n")
    assert run(["info", str(tmp_path / "text.ckpt"), str(shared("sd1")[1])]) == 3
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


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("1.5 MiB", 3 << 19), ("7", 7), ("2k", 2000)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "0", "5XB", "5 i B"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
