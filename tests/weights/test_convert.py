"""Conversions keep every tensor and every fact, both ways; the oracle reads what they write and paints the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny.configs import EDITED
from helpers.tiny.folders import save_folder
from helpers.tiny.single_files import ema_tensors, folder_tensors, ldm_tensors, shared
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import sdedit_cli
from sdedit_cli.errors import ModelError, OutputError, SdeditError, UsageError
from sdedit_cli.names import ldm
from sdedit_cli.weights.load.networks import load_networks
from sdedit_cli.weights.write import safetensors as stream
from sdedit_cli.weights.write.convert import convert

PARTS = ("unet", "vae", "text_encoder")


@pytest.fixture(params=list(EDITED))
def model(request: pytest.FixtureRequest) -> tuple[str, Path, Path]:
    """A family, its tiny model as the oracle's folder, and as a single file."""
    return request.param, *shared(request.param)


@pytest.fixture
def sd1() -> tuple[Path, Path]:
    return shared("sd15")


def oracle_picture(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(7)
    result = pipe(
        "a cat!", image=picture, strength=0.6, num_inference_steps=4, guidance_scale=4.0, generator=generator,
        output_type="np",
    )  # fmt: skip
    return result.images


def oracle_folder(folder: Path) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline.from_pretrained(str(folder), local_files_only=True)


def oracle_file(path: Path, folder: Path) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline.from_single_file(str(path), config=str(folder), local_files_only=True)


def test_the_oracle_paints_the_same_with_what_was_written(model: tuple[str, Path, Path], tmp_path: Path) -> None:
    """Single file -> folder -> single file: each is loaded by the oracle and gives the original's picture."""
    _, folder, path = model
    convert(path, tmp_path / "folder")
    convert(tmp_path / "folder", tmp_path / "back.safetensors")
    expected = oracle_picture(oracle_folder(folder))
    assert (oracle_picture(oracle_folder(tmp_path / "folder")) == expected).all()
    assert (oracle_picture(oracle_file(tmp_path / "back.safetensors", folder)) == expected).all()


def test_folder_to_file_and_back_keeps_every_bit(model: tuple[str, Path, Path], tmp_path: Path) -> None:
    family, folder, _ = model
    convert(folder, tmp_path / "one.safetensors")
    written = load_file(tmp_path / "one.safetensors")
    expected = ldm_tensors(folder, family, leftovers=False)
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], expected[name]) for name in written)
    convert(tmp_path / "one.safetensors", tmp_path / "back")
    for part in PARTS:
        back, original = folder_tensors(tmp_path / "back", part), folder_tensors(folder, part)
        assert back.keys() == original.keys()
        assert all(torch.equal(back[name], original[name]) for name in back)


def test_the_same_layout_keeps_everything_and_only_casts(model: tuple[str, Path, Path], tmp_path: Path) -> None:
    summary = convert(model[2], tmp_path / "half.safetensors", dtype=torch.float16)
    before, after = load_file(model[2]), load_file(tmp_path / "half.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(after[name], expected), name
    assert summary.dropped == ()


@pytest.mark.parametrize("word", ["fp16", "bf16", "fp32"])
def test_every_dtype_is_one_rounding(word: str, sd1: tuple[Path, Path], tmp_path: Path) -> None:
    from sdedit_cli.weights.formats.precisions import PRECISIONS

    convert(sd1[1], tmp_path / "folder", dtype=PRECISIONS[word])
    for part in PARTS:
        original = folder_tensors(sd1[0], part)
        for name, tensor in folder_tensors(tmp_path / "folder", part).items():
            assert torch.equal(tensor, original[name].to(PRECISIONS[word])), name


def test_ema_is_taken_dropped_or_kept(sd1: tuple[Path, Path], tmp_path: Path) -> None:
    plain = ldm_tensors(sd1[0], "sd15")
    averaged = ema_tensors(plain)
    save_file(plain | averaged, tmp_path / "both.safetensors")
    kept = {name: load_of(tmp_path, ema) for name, ema in (("as is", None), ("taken", True), ("dropped", False))}
    conv_in = ldm.UNET + "input_blocks.0.0.weight"
    assert kept["as is"].keys() == (plain | averaged).keys()
    assert not any(name.startswith(ldm.EMA) for choice in ("taken", "dropped") for name in kept[choice])
    assert torch.equal(kept["taken"][conv_in], averaged[ldm.ema_name(conv_in)])
    assert torch.equal(kept["dropped"][conv_in], plain[conv_in])
    summary = convert(tmp_path / "both.safetensors", tmp_path / "folder", ema=True)
    folder = folder_tensors(tmp_path / "folder", "unet")
    assert torch.equal(folder["conv_in.weight"], averaged[ldm.ema_name(conv_in)])
    assert conv_in in summary.dropped
    with pytest.raises(ModelError, match="no EMA copy"):
        convert(sd1[1], tmp_path / "none.safetensors", ema=True)


@pytest.mark.parametrize("target", ["folder", "one.safetensors"])
@pytest.mark.parametrize("ema", [True, None])
def test_an_ema_copy_that_is_the_only_unet_is_taken(
    ema: bool | None, target: str, sd1: tuple[Path, Path], tmp_path: Path
) -> None:
    plain = ldm_tensors(sd1[0], "sd15")
    averaged = ema_tensors(plain)
    kept = {name: tensor for name, tensor in plain.items() if not name.startswith(ldm.UNET)}
    save_file(kept | averaged, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="leave --no-ema out"):
        convert(tmp_path / "model.safetensors", tmp_path / target, ema=False)
    assert "UNet from the EMA copy" in convert(tmp_path / "model.safetensors", tmp_path / target, ema=ema).kind
    for loaded in (load_networks(tmp_path / "model.safetensors"), load_networks(tmp_path / target)):
        assert loaded.unet is not None
        weight = loaded.unet.state_dict()["conv_in.weight"]
        assert torch.equal(weight, averaged[ldm.ema_name(f"{ldm.UNET}input_blocks.0.0.weight")])


def load_of(place: Path, ema: bool | None) -> dict[str, torch.Tensor]:
    convert(place / "both.safetensors", place / f"{ema}.safetensors", ema=ema)
    return load_file(place / f"{ema}.safetensors")


def test_only_one_component(sd1: tuple[Path, Path], tmp_path: Path) -> None:
    folder, path = sd1
    kinds = ("Stable Diffusion 1.x, UNet only", "VAE only", "Stable Diffusion 1.x, text encoder only")
    for part, kind in zip(PARTS, kinds, strict=True):
        assert convert(path, tmp_path / part, only=part).kind == kind
        assert (tmp_path / part / "config.json").is_file()
        loaded = getattr(load_networks(tmp_path / part), part)
        expected = folder_tensors(folder, part)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    convert(path, tmp_path / "vae.safetensors", only="vae")
    convert(folder, tmp_path / "vae2.safetensors", only="vae", to="ldm")
    convert(path, tmp_path / "vae3.safetensors", only="vae", to="diffusers")
    bare = load_file(tmp_path / "vae.safetensors")
    assert "encoder.down.0.block.0.conv1.weight" in bare
    assert bare.keys() == load_file(tmp_path / "vae2.safetensors").keys()
    assert load_file(tmp_path / "vae3.safetensors").keys() == folder_tensors(folder, "vae").keys()
    for name in ("vae", "vae2", "vae3"):
        vae = load_networks(tmp_path / f"{name}.safetensors").vae
        assert vae is not None
        original = folder_tensors(folder, "vae")
        assert all(torch.equal(tensor, original[n]) for n, tensor in vae.state_dict().items())
    with pytest.raises(UsageError, match="text_encoder_2"):
        convert(path, tmp_path / "nothing", only="text_encoder_2")


def test_shards_are_read_by_the_oracle_and_by_us(sd1: tuple[Path, Path], tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    summary = convert(sd1[1], tmp_path / "folder", max_shard_size=400_000)
    shards = sorted((tmp_path / "folder" / "unet").glob("*.safetensors"))
    assert len(shards) > 2
    assert summary.files > 2
    expected = folder_tensors(sd1[0], "unet")
    for module in (
        UNet2DConditionModel.from_pretrained(tmp_path / "folder" / "unet"),
        load_networks(tmp_path / "folder").unet,
    ):
        assert module is not None
        assert all(torch.equal(tensor, expected[name]) for name, tensor in module.state_dict().items())


def test_metadata_and_prediction_type_are_kept(sd1: tuple[Path, Path], tmp_path: Path) -> None:
    convert(sd1[1], tmp_path / "folder", prediction_type="v_prediction")
    scheduler = json.loads((tmp_path / "folder" / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["prediction_type"] == "v_prediction"
    convert(tmp_path / "folder", tmp_path / "back.safetensors")
    with safe_open(tmp_path / "back.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["title"] == "a test"
    assert metadata["sdedit.prediction_type"] == "v_prediction"
    config = load_networks(tmp_path / "back.safetensors").scheduler_config
    assert config is not None
    assert config["prediction_type"] == "v_prediction"


def test_an_unusual_model_survives_a_single_file(tmp_path: Path) -> None:
    """Heads and groups that shapes cannot tell travel in the file's metadata."""
    folder = save_folder(tmp_path / "folder", "sd15", attention_head_dim=2, norm_num_groups=16)
    convert(folder, tmp_path / "one.safetensors")
    convert(tmp_path / "one.safetensors", tmp_path / "back")
    back, original = load_networks(tmp_path / "back"), load_networks(folder)
    for part in PARTS:
        assert getattr(back, part).config == getattr(original, part).config
    unet = load_networks(tmp_path / "one.safetensors").unet
    assert unet is not None
    assert unet.config.attention_head_dim == 2


def test_nothing_is_overwritten_and_nothing_is_left_behind(
    sd1: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there.safetensors").write_text("precious")
    (tmp_path / "folder").mkdir()
    for target in ("there.safetensors", "folder"):
        with pytest.raises(OutputError, match="exists"):
            convert(sd1[1], tmp_path / target)
    assert (tmp_path / "there.safetensors").read_text() == "precious"

    def fails(*_: object, **__: object) -> None:
        raise OutputError("reads back with other values")

    monkeypatch.setattr("sdedit_cli.weights.write.files.verify", fails)
    for target in ("new.safetensors", "new"):
        with pytest.raises(OutputError, match="other values"):
            convert(sd1[1], tmp_path / target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "there.safetensors"]


def test_a_file_that_appears_meanwhile_is_not_replaced(
    sd1: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "new.safetensors"
    monkeypatch.setattr("sdedit_cli.weights.write.files.verify", lambda *_, **__: target.write_text("mine"))
    with pytest.raises(OutputError, match="exists"):
        convert(sd1[1], target)
    assert target.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["new.safetensors"]


def test_a_flipped_bit_on_the_disk_is_found(tmp_path: Path) -> None:
    from sdedit_cli.weights.formats.source import MemorySource

    source = MemorySource({"a": torch.rand(64), "b": torch.arange(5)})
    items = [stream.item(name, source, name, None) for name in source.names()]
    with (tmp_path / "x.safetensors").open("wb") as file:
        stream.write_safetensors(file, items, {"k": "v"})
    stream.verify(tmp_path / "x.safetensors", items, {"k": "v"})
    data = bytearray((tmp_path / "x.safetensors").read_bytes())
    data[-3] ^= 1
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(OutputError, match="other values"):
        stream.verify(tmp_path / "x.safetensors", items, {"k": "v"})


def test_numbers_beyond_half_precision_are_refused(sd1: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = ldm_tensors(sd1[0], "sd15")
    tensors[ldm.UNET + "out.2.bias"][0] = 1e6
    save_file(tensors, tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match=r"beyond the range of fp16.*bf16"):
        convert(tmp_path / "large.safetensors", tmp_path / "half.safetensors", dtype=torch.float16)
    assert not (tmp_path / "half.safetensors").exists()


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("model.ckpt", {}, "never pickles"),
    ("folder", {"to": "ldm"}, "ends in .safetensors"),
    ("model.safetensors", {"to": "diffusers"}, "is a folder"),
    ("not/there.safetensors", {}, "create it first"),
]


@pytest.mark.parametrize(("target", "options", "word"), WRONG)
def test_contradictory_requests_say_what_to_do(
    target: str, options: dict[str, Any], word: str, sd1: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(SdeditError, match=word):
        convert(sd1[1], tmp_path / target, **options)


def test_progress_counts_every_byte_twice(sd1: tuple[Path, Path], tmp_path: Path) -> None:
    """Once when it is written, once when it is compared."""
    seen: list[int] = []

    def begin(total: int) -> Any:
        seen.append(-total)
        return seen.append

    summary = convert(sd1[1], tmp_path / "new.safetensors", progress=begin)
    assert -seen[0] == 2 * summary.bytes == sum(seen[1:])


def test_the_built_in_model_survives_a_single_file(tmp_path: Path) -> None:
    """It has its own heads, groups, scheduler and vocabulary: all of them travel, and every bit comes back."""
    folder = Path(sdedit_cli.__file__).parent / "assets" / "starter"
    convert(folder, tmp_path / "one.safetensors")
    convert(tmp_path / "one.safetensors", tmp_path / "back")
    original = load_networks(folder)
    for found in (load_networks(tmp_path / "one.safetensors"), load_networks(tmp_path / "back")):
        for part in PARTS:
            mine, expected = getattr(found, part), getattr(original, part)
            assert mine.config == expected.config
            state = expected.state_dict()
            assert all(torch.equal(tensor, state[name]) for name, tensor in mine.state_dict().items())
        assert found.tokenizer is not None
        assert original.tokenizer is not None
        assert found.tokenizer.encode("a blue house!") == original.tokenizer.encode("a blue house!")
        assert found.scheduler_config == original.scheduler_config
