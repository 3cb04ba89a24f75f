"""One checkpoint in every format that people have gives one picture, bit for bit, through the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, ROOT, sdedit
from helpers.weights import FLAX_FILES, flax_tree, msgpack
from PIL import Image
from safetensors.torch import load_file, save_file

PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "pytorch_model"}
FORMATS = ("folder", "bin", "variant", "sharded", "flax", "safetensors", "ckpt", "legacy ckpt", "round trip")


def weights(part: str) -> dict[str, torch.Tensor]:
    (file,) = (BUILT_IN / part).glob("*.safetensors")
    named = load_file(file)
    if part != "text_encoder":
        return named
    return {name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in named.items()}


def as_folder(folder: Path, kind: str) -> None:
    """The built-in model with its weights in files of another kind."""
    shutil.copytree(BUILT_IN, folder)
    for part, stem in PARTS.items():
        (file,) = (folder / part).glob("*.safetensors")
        if kind == "variant":
            file.rename(file.with_suffix(".fp16.safetensors"))
            continue
        file.unlink()
        if kind == "bin":
            torch.save(weights(part), folder / part / f"{stem}.bin")
        else:
            (folder / part / FLAX_FILES[part]).write_bytes(msgpack(flax_tree(weights(part), part)))


def convert(cwd: Path, source: Path | str, target: str, *more: str) -> None:
    done = sdedit("convert", source, target, *more, cwd=cwd)
    assert done.returncode == 0, done.stderr


def model(cwd: Path, kind: str) -> list[str | Path]:
    """The options that name the checkpoint in this format, made in `cwd`."""
    match kind:
        case "folder":
            return ["-m", BUILT_IN]
        case "bin" | "variant" | "flax":
            as_folder(cwd / "m", kind)
            return ["-m", "m"]
        case "sharded":
            convert(cwd, BUILT_IN, "m", "--max-shard-size", "3MB", "--to", "diffusers")
            assert list((cwd / "m" / "unet").glob("*-of-*"))
            return ["-m", "m"]
        case "round trip":
            convert(cwd, BUILT_IN, "one.safetensors")
            convert(cwd, "one.safetensors", "m")
            return ["-m", "m"]
    convert(cwd, BUILT_IN, "m.safetensors")
    if kind == "safetensors":
        return ["-m", "m.safetensors"]
    leftovers = {"global_step": 7, "callbacks": {"best": 0.5}, "state_dict": load_file(cwd / "m.safetensors")}
    torch.save(leftovers, cwd / "m.ckpt", _use_new_zipfile_serialization=kind == "ckpt")
    # A pickle has no place for notes: what its shapes do not tell comes from a folder.
    return ["-m", "m.ckpt", "--config", BUILT_IN]


def painted(cwd: Path, *options: str | Path) -> bytes:
    apple = ROOT / "presets" / "strokes" / "apple.png"
    done = sdedit("run", apple, "-p", "a red apple", *QUICK, "--cfg-scale", "7.5", "-o", "out.png", *options, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return Image.open(cwd / "out.png").tobytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return painted(tmp_path_factory.mktemp("built-in"))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_picture(kind: str, expected: bytes, tmp_path: Path) -> None:
    assert painted(tmp_path, *model(tmp_path, kind)) == expected


def test_of_several_variants_one_is_said(expected: bytes, tmp_path: Path) -> None:
    """A folder with two and no plain weights says which option chooses; the option chooses, here and in a record."""
    as_folder(tmp_path / "m", "variant")
    (file,) = (tmp_path / "m" / "unet").glob("*.safetensors")
    scaled = {name: tensor * 1.25 for name, tensor in load_file(file).items()}
    save_file(scaled, file.with_name(file.name.replace(".fp16.", ".other.")))
    apple = ROOT / "presets" / "strokes" / "apple.png"
    refused = sdedit("run", apple, "-p", "x", *QUICK, "-m", "m", "-o", "none.png", cwd=tmp_path)
    assert refused.returncode == 3, refused.stderr
    assert b"fp16, other" in refused.stderr
    assert b"--variant" in refused.stderr
    assert painted(tmp_path, "-m", "m", "--variant", "fp16") == expected
    assert b'"variant":"fp16"' in (tmp_path / "out.png").read_bytes()
    assert painted(tmp_path, "-m", "m", "--variant", "other", "--on-exists", "overwrite") != expected
