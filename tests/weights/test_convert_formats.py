"""Every format that people have becomes the same model: pickles, Flax folders, .bin folders, XL's two encoders."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny.configs import EDITED
from helpers.tiny.single_files import folder_tensors, ldm_tensors, shared, xl_single_file, xl_tensors
from helpers.weights import FLAX_FILES, Call, flax_tree, msgpack, quantised
from safetensors.torch import load_file, save_file

from sdedit_cli.errors import ModelError, UnsafeFileError
from sdedit_cli.names import ldm
from sdedit_cli.weights.checkpoint.open import open_checkpoint
from sdedit_cli.weights.describe import describe
from sdedit_cli.weights.load.networks import load_networks
from sdedit_cli.weights.write.convert import convert

PARTS = ("unet", "vae", "text_encoder")


def assert_same_folder(found: Path, expected: Path) -> None:
    for part in PARTS:
        mine, original = folder_tensors(found, part), folder_tensors(expected, part)
        assert mine.keys() == original.keys()
        assert all(torch.equal(mine[name], original[name]) for name in mine), part


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("family", EDITED)
def test_pickled_checkpoints(family: str, zipped: bool, wrapped: bool, tmp_path: Path) -> None:
    """A .ckpt with and without its wrapper, of new and old torch, converts to the model that it is."""
    tensors: dict[str, Any] = ldm_tensors(shared(family)[0], family)
    content = {"state_dict": tensors, "global_step": 470000, "callbacks": {}} if wrapped else tensors
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=zipped)
    convert(tmp_path / "model.ckpt", tmp_path / "folder")
    assert_same_folder(tmp_path / "folder", shared(family)[0])
    convert(tmp_path / "model.ckpt", tmp_path / "model.safetensors")
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())


def test_the_training_step_of_2_0_base_tells_what_it_predicts(tmp_path: Path) -> None:
    tensors = ldm_tensors(shared("sd21")[0], "sd21")
    for step, kind in ((875_000, "epsilon"), (140_000, "v_prediction")):
        torch.save({"state_dict": tensors, "global_step": step}, tmp_path / f"{step}.ckpt")
        assert open_checkpoint(tmp_path / f"{step}.ckpt").prediction.kind == kind


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    content = {"state_dict": {}, "callback": Call(Path.touch, marker)}
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises((UnsafeFileError, ModelError)):
        convert(tmp_path / "model.ckpt", tmp_path / "model.safetensors")
    assert not marker.exists()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("family", EDITED)
def test_flax_folders(family: str, tmp_path: Path) -> None:
    folder = shared(family)[0]
    for part, name in FLAX_FILES.items():
        (tmp_path / "flax" / part).mkdir(parents=True)
        shutil.copy(folder / part / "config.json", tmp_path / "flax" / part)
        (tmp_path / "flax" / part / name).write_bytes(msgpack(flax_tree(folder_tensors(folder, part), part)))
    for name in ("tokenizer", "scheduler", "model_index.json"):
        copy = shutil.copytree if (folder / name).is_dir() else shutil.copy
        copy(folder / name, tmp_path / "flax" / name)
    convert(tmp_path / "flax", tmp_path / "torch")
    assert_same_folder(tmp_path / "torch", folder)
    convert(tmp_path / "flax", tmp_path / "one.safetensors")
    expected = ldm_tensors(folder, family, leftovers=False)
    written = load_file(tmp_path / "one.safetensors")
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    whole, original = load_networks(tmp_path / "flax"), load_networks(folder)
    for part in PARTS:
        state = getattr(original, part).state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in getattr(whole, part).state_dict().items())


def test_folders_of_pickles_with_old_names(tmp_path: Path) -> None:
    """.bin files, the VAE's attention as convolutions under its first names, a text encoder without its prefix."""
    folder = shared("sd15")[0]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "pytorch_model"),
    ):
        state = folder_tensors(folder, part)
        if part == "vae":
            state = {n: t[:, :, None, None] if is_attention(n) else t for n, t in state.items()}
            for new, word in old.items():
                state = {n.replace(f"attentions.0.{new}.", f"attentions.0.{word}."): t for n, t in state.items()}
        if part == "text_encoder":
            state = {n.removeprefix("text_model."): t for n, t in state.items()}
            state["embeddings.position_ids"] = torch.arange(77)[None]
        (tmp_path / "old" / part).mkdir(parents=True)
        shutil.copy(folder / part / "config.json", tmp_path / "old" / part)
        torch.save(state, tmp_path / "old" / part / f"{name}.bin")
    shutil.copytree(folder / "scheduler", tmp_path / "old" / "scheduler")
    convert(tmp_path / "old", tmp_path / "new")
    assert_same_folder(tmp_path / "new", folder)
    convert(tmp_path / "old", tmp_path / "new.safetensors")
    written, expected = load_file(tmp_path / "new.safetensors"), ldm_tensors(folder, "sd15", leftovers=False)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())


def is_attention(name: str) -> bool:
    return "mid_block.attentions.0.to_" in name and name.endswith(".weight")


@pytest.mark.parametrize("refiner", [False, True])
def test_xl_models_convert_both_ways_and_are_not_run(refiner: bool, tmp_path: Path) -> None:
    states = xl_tensors(refiner)
    path = xl_single_file(tmp_path / "xl.safetensors", states, refiner)
    summary = convert(path, tmp_path / "folder")
    assert ("refiner" in summary.kind) == refiner
    for part, state in states.items():
        name = "model" if part.startswith("text") else "diffusion_pytorch_model"
        written = load_file(tmp_path / "folder" / part / f"{name}.safetensors")
        assert written.keys() == state.keys()
        assert all(torch.equal(written[n], state[n]) for n in written)
    convert(tmp_path / "folder", tmp_path / "back.safetensors")
    back, original = load_file(tmp_path / "back.safetensors"), load_file(path)
    assert back.keys() == original.keys()
    assert all(torch.equal(back[n], original[n]) for n in back)
    for load in (lambda: load_networks(path), lambda: load_networks(tmp_path / "folder")):
        with pytest.raises(ModelError, match="Stable Diffusion XL"):
            load()


def test_the_oracle_loads_a_converted_xl_folder(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    states = xl_tensors(refiner=False)
    convert(xl_single_file(tmp_path / "xl.safetensors", states, False), tmp_path / "folder")
    pipe: Any = StableDiffusionXLPipeline.from_pretrained(tmp_path / "folder", local_files_only=True)
    for part, state in states.items():
        loaded = {n.removeprefix("text_model."): t for n, t in getattr(pipe, part).state_dict().items()}
        assert all(torch.equal(loaded[n.removeprefix("text_model.")], t) for n, t in state.items()), part


# what is wrong with the tensor, what the refusal says of it
DAMAGES = {"missing": (None, "1 tensors are missing"), "misshapen": (torch.zeros(3, 3), "has the shape [3, 3]")}
DAMAGED = [
    ("unet", "model.diffusion_model.middle_block.0.in_layers.2.weight", "mid_block.resnets.0.conv1.weight"),
    ("unet", "model.diffusion_model.time_embed.0.bias", "time_embedding.linear_1.bias"),
    ("vae", "first_stage_model.decoder.conv_in.weight", "decoder.conv_in.weight"),
    ("text_encoder", f"{ldm.CLIP}text_model.encoder.layers.1.mlp.fc2.weight", "encoder.layers.1.mlp.fc2.weight"),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("part", "foreign", "ours"), DAMAGED)
def test_damaged_models_are_refused_by_their_tensors(
    part: Any, foreign: str, ours: str, damage: str, tmp_path: Path
) -> None:
    """A file or a folder that could not be loaded afterwards is not converted; its sound components are."""
    folder, (replacement, words) = shared("sd15")[0], DAMAGES[damage]
    other = "vae" if part == "unet" else "unet"
    save_file(damaged(ldm_tensors(folder, "sd15"), foreign, replacement), tmp_path / "file.safetensors")
    shutil.copytree(folder, tmp_path / "folder")
    name = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    weights = tmp_path / "folder" / part / f"{name}.safetensors"
    save_file(damaged(load_file(weights), ours, replacement), weights)
    for source, named in ((tmp_path / "file.safetensors", foreign), (tmp_path / "folder", ours)):
        for target in ("new", "new.safetensors"):
            with pytest.raises(ModelError) as error:
                convert(source, tmp_path / target)
            assert words in str(error.value)
            assert named in str(error.value)
            assert len(str(error.value).splitlines()) <= 2
            assert words in describe(source).note
            assert not (tmp_path / target).exists()
        convert(source, tmp_path / f"{source.stem}.{other}", only=other)


def damaged(tensors: dict[str, torch.Tensor], name: str, replacement: torch.Tensor | None) -> dict[str, torch.Tensor]:
    [found] = [n for n in tensors if n.endswith(name)]
    del tensors[found]
    return tensors if replacement is None else {**tensors, found: replacement}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [ldm.UNET + "label_emb.0.2.bias", ldm.SDXL_OPENCLIP + "text_projection"])
def test_damaged_xl_models_are_refused(damage: str, name: str, tmp_path: Path) -> None:
    path = xl_single_file(tmp_path / "xl.safetensors", xl_tensors(refiner=False), False)
    save_file(damaged(load_file(path), name, DAMAGES[damage][0]), path)
    with pytest.raises(ModelError) as error:
        convert(path, tmp_path / "new")
    assert name in str(error.value)


@pytest.mark.parametrize("width", [None, -1, 2**40])
def test_a_second_text_encoder_without_a_width_of_its_projection_is_refused_by_that(
    width: int | None, tmp_path: Path
) -> None:
    convert(xl_single_file(tmp_path / "xl.safetensors", xl_tensors(refiner=False), False), tmp_path / "folder")
    config = tmp_path / "folder" / "text_encoder_2" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "projection_dim": width}))
    with pytest.raises(ModelError, match=f"'projection_dim' is {width}, expected 1 to 65536"):
        convert(tmp_path / "folder", tmp_path / "new")


def test_leftovers_that_cannot_be_read_are_dropped(tmp_path: Path) -> None:
    """Among the weights too: only what the model needs can refuse it."""
    tensors = ldm_tensors(shared("sd15")[0], "sd15")
    left = {"table": torch.ones(1).expand(2**40), "scores": quantised(torch.ones(3))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"state_dict": {**tensors, **left}}, tmp_path / "extra.ckpt")
    for target in ("folder", "new.safetensors"):
        assert left.keys() <= set(convert(tmp_path / "extra.ckpt", tmp_path / target).dropped)
    assert load_file(tmp_path / "new.safetensors").keys() == tensors.keys()
    assert load_networks(tmp_path / "extra.ckpt").unet is not None


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float8_e4m3fnuz])
def test_numbers_that_safetensors_cannot_hold(dtype: torch.dtype, tmp_path: Path) -> None:
    """A leftover of them is dropped, and said; a weight is refused by name."""
    tensors = ldm_tensors(shared("sd15")[0], "sd15")
    torch.save({"state_dict": {**tensors, "leftover": torch.zeros(3).to(dtype)}}, tmp_path / "extra.ckpt")
    assert convert(tmp_path / "extra.ckpt", tmp_path / "new.safetensors").dropped == ("leftover",)
    assert load_file(tmp_path / "new.safetensors").keys() == tensors.keys()
    weight = ldm.UNET + "time_embed.0.bias"
    torch.save({"state_dict": {**tensors, weight: tensors[weight].to(dtype)}}, tmp_path / "weight.ckpt")
    said = rf"\({str(dtype).removeprefix('torch.')}\)" if dtype.is_floating_point else "holds complex128 numbers"
    for target, name in (("folder", "time_embedding.linear_1.bias"), ("file.safetensors", weight)):
        with pytest.raises(ModelError, match=rf"{name if dtype.is_floating_point else weight}' {said}"):
            convert(tmp_path / "weight.ckpt", tmp_path / target)
        assert not (tmp_path / target).exists()


def test_a_variant_of_a_folder(tmp_path: Path) -> None:
    """As published models have them: the UNet in two variants without a plain file, the rest plain."""
    folder = shutil.copytree(shared("sd15")[0], tmp_path / "model")
    state = folder_tensors(folder, "unet")
    for tag, factor in (("fp16", 1.0), ("non_ema", 2.0)):
        scaled = {name: tensor * factor for name, tensor in state.items()}
        save_file(scaled, folder / "unet" / f"diffusion_pytorch_model.{tag}.safetensors")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for source, variant, said in (
        (folder, None, "variants fp16, non_ema"),
        (folder, "bf16", "no component has weights of the variant 'bf16'"),
        (folder / "vae", "fp16", "no component has weights of the variant 'fp16'"),
        (shared("sd15")[1], "fp16", "has no variants"),
    ):
        with pytest.raises(ModelError, match=said):
            convert(source, tmp_path / "new", variant=variant)
    convert(folder, tmp_path / "new", variant="non_ema")
    written = folder_tensors(tmp_path / "new", "unet")
    assert all(torch.equal(tensor, state[name] * 2) for name, tensor in written.items())
    convert(folder / "unet", tmp_path / "unet", variant="non_ema")


def with_metadata(path: Path, metadata: dict[str, str], **renamed: str) -> Path:
    """The tiny model with this metadata, and with tensors under other names."""
    data = shared("sd15")[1].read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = {renamed.get(name, name): facts for name, facts in json.loads(data[8:start]).items()}
    text = json.dumps({**header, "__metadata__": metadata}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])
    return path


def test_halves_of_characters_cost_nothing_but_themselves(tmp_path: Path) -> None:
    """JSON may escape half a character, in names and in metadata; no file can hold one as text."""
    model = with_metadata(tmp_path / "model.safetensors", {"ti\udfff": "a \ud800 test"}, betas="\ud800left")
    assert describe(model).metadata == {"ti?": "a ? test"}
    for target in ("folder", "new.safetensors"):
        assert "\ud800left" in convert(model, tmp_path / target).dropped
    assert describe(tmp_path / "new.safetensors").metadata["ti?"] == "a ? test"
    assert load_networks(tmp_path / "folder").unet is not None
    tokenizer = {"sdedit.tokenizer": json.dumps({"vocab.json": "\ud800"})}
    for use in (lambda path: convert(path, tmp_path / "no"), load_networks):
        with pytest.raises(ModelError, match="holds no tokenizer"):
            use(with_metadata(tmp_path / "model.safetensors", tokenizer))
    empty = {"sdedit.tokenizer": json.dumps({"vocab.json": "{}", "merges.txt": ""})}
    with pytest.raises(ModelError, match=r"model\.safetensors: the tokenizer in it, merges\.txt: "):
        load_networks(with_metadata(tmp_path / "model.safetensors", empty))


def test_an_unfinished_folder_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    folder = shared("sd15")[0]
    shutil.copytree(folder, tmp_path / "broken")
    state = folder_tensors(folder, "vae")
    del state["decoder.conv_in.weight"]
    save_file(state, tmp_path / "broken" / "vae" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match=r"decoder\.conv_in\.weight"):
        convert(tmp_path / "broken", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no model_index\.json, config\.json"):
        convert(tmp_path / "empty", tmp_path / "new")
