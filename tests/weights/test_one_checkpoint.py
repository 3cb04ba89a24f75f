"""One checkpoint: what a load, a conversion, `info` and a dry run say of a model is the same, and nothing gets lost."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import BUILT_IN, photo
from helpers.tiny.single_files import ema_tensors, ldm_tensors, save_single_file, shared
from safetensors.torch import load_file, save_file

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError, SdeditError
from sdedit_cli.names import ldm
from sdedit_cli.text import Tokenizer
from sdedit_cli.weights import load_networks, open_checkpoint
from sdedit_cli.weights.describe import describe
from sdedit_cli.weights.write.convert import convert

UNET = "unet/diffusion_pytorch_model.safetensors"
Change = Callable[[Path], object]


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def in_index(**values: Any) -> Change:
    return lambda folder: edit_json(folder / "model_index.json", **values)


def in_scheduler(**values: Any) -> Change:
    return lambda folder: edit_json(folder / "scheduler/scheduler_config.json", **values)


def with_unet(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def changed(folder: Path) -> None:
        state = load_file(folder / UNET)
        change(state)
        save_file(state, folder / UNET)

    return changed


def text_config_of_its_type(folder: Path) -> None:
    path = folder / "text_encoder/config.json"
    config = json.loads(path.read_text())
    del config["architectures"]
    path.write_text(json.dumps(config))


def tiny_vae(folder: Path) -> None:
    from diffusers import AutoencoderTiny

    shutil.rmtree(folder / "vae")
    sides = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    torch.manual_seed(0)
    AutoencoderTiny(**sides, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).save_pretrained(folder / "vae")


def sharded(folder: Path) -> None:
    state = load_file(folder / UNET)
    names = list(state)
    parts = {"diffusion_pytorch_model-00001-of-00002.safetensors": names[::2]}
    parts["diffusion_pytorch_model-00002-of-00002.safetensors"] = names[1::2]
    for file, held in parts.items():
        save_file({name: state[name] for name in held}, folder / "unet" / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    (folder / f"{UNET}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / UNET).unlink()


def projected_text(folder: Path) -> None:
    """A first text encoder with a projection, which an edit has no use for."""
    path = folder / "text_encoder/model.safetensors"
    save_file(load_file(path) | {"text_projection.weight": torch.ones(8, 64)}, path)
    edit_json(folder / "text_encoder/config.json", architectures=["CLIPTextModelWithProjection"])
    edit_json(folder / "model_index.json", text_encoder=["transformers", "CLIPTextModelWithProjection"])


# what is odd about a folder that can be used all the same, or cannot
SOUND: dict[str, Change] = {
    "index names another scheduler": in_index(scheduler=["diffusers", "EulerDiscreteScheduler"]),
    "native size": in_index(_native_size=32),
    "predicts v": in_scheduler(prediction_type="v_prediction"),
    "other betas": in_scheduler(beta_end=0.02),
    "text config without architectures": text_config_of_its_type,
    "no tokenizer": lambda folder: shutil.rmtree(folder / "tokenizer"),
    "padded as 2.x": lambda folder: Tokenizer.packaged(pad="!").save(folder / "tokenizer"),
    "other heads": lambda folder: edit_json(folder / "unet/config.json", attention_head_dim=4),
    "gelu": lambda folder: edit_json(folder / "text_encoder/config.json", hidden_act="gelu"),
    "no index": lambda folder: (folder / "model_index.json").unlink(),
    "sharded": sharded,
    "one variant only": lambda folder: (folder / UNET).rename(folder / UNET.replace(".safe", ".fp16.safe")),
    "projected text": projected_text,
    "classes of Flax": lambda folder: edit_json(folder / "unet/config.json", _class_name="FlaxUNet2DConditionModel"),
    "another pipeline": in_index(_class_name="StableDiffusionPipeline", controlnet=["diffusers", "ControlNetModel"]),
    "pickled": lambda folder: (
        torch.save(load_file(folder / UNET), folder / UNET.replace(".safetensors", ".bin")),
        (folder / UNET).unlink(),
    ),
}
BROKEN: dict[str, Change] = {
    "a tensor too many": with_unet(lambda state: state.update({"motion.weight": torch.ones(2)})),
    "a tensor too few": with_unet(lambda state: state.pop("conv_in.weight")),
    "whole numbers": with_unet(lambda state: state.update({"conv_in.bias": torch.ones(32, dtype=torch.int8)})),
    "another shape": with_unet(lambda state: state.update({"conv_in.bias": torch.ones(31)})),
    "no unet": lambda folder: shutil.rmtree(folder / "unet"),
    "a class of nobody's": lambda folder: edit_json(folder / "vae/config.json", _class_name="Kandinsky"),
    "no scheduler file": lambda folder: (folder / "scheduler/scheduler_config.json").unlink(),
    "broken tokenizer": lambda folder: [path.write_text("{") for path in (folder / "tokenizer").iterdir()],
}


@dataclass(frozen=True)
class Said:
    """What became of a model: facts of the load (None: refused), and what the others made of it."""

    facts: tuple[Any, ...] | None
    converts: bool
    runs: bool
    note: str


def facts_of(path: Path) -> tuple[Any, ...] | None:
    try:
        loaded = load_networks(path)
    except SdeditError:
        return None
    networks = {"unet": loaded.unet, "vae": loaded.vae, "text_encoder": loaded.text_encoder}
    tensors = {
        f"{slot}.{name}": tensor.numpy().tobytes()
        for slot, network in networks.items()
        if network is not None
        for name, tensor in network.state_dict().items()
    }
    configs = {slot: network and network.config for slot, network in networks.items()}
    ids = loaded.tokenizer and loaded.tokenizer.encode("a cat of the sea")
    return tensors, configs, loaded.scheduler_config, loaded.native_size, ids


def refused(use: Callable[[], object]) -> bool:
    try:
        use()
    except SdeditError:
        return True
    return False


def note_of(path: Path) -> str:
    try:
        return describe(path).note
    except SdeditError as error:
        return str(error)


def said_of(model: Path, folder: Path, picture: Path) -> Said:
    fails = [refused(lambda target=target: convert(model, folder / target)) for target in ("new", "new.safetensors")]
    assert fails[0] == fails[1]
    code = run(["run", str(picture), "-m", str(model), "-p", "x", "-o", str(folder / "x.png"), "--dry-run", "-q"])
    assert code in (0, 3)
    return Said(facts_of(model), not fails[0], code == 0, note_of(model))


def made(folder: Path, *changes: Change) -> Path:
    model = Path(shutil.copytree(shared("sd15")[0], folder / "model"))
    for change in changes:
        change(model)
    return model


ODD = {**SOUND, **BROKEN}
PAIRS = random.Random(3).sample(list(itertools.combinations(SOUND, 2)), 12)


@pytest.mark.parametrize("names", [*((name,) for name in ODD), *PAIRS], ids=" + ".join)
def test_all_readers_of_a_model_agree(names: tuple[str, ...], tmp_path: Path) -> None:
    """A model loads when it converts, and then as it did; `info` and the dry run know before."""
    model = made(tmp_path, *(ODD[name] for name in names))
    said = said_of(model, tmp_path, photo(tmp_path / "a.png"))
    sound = all(name in SOUND for name in names)
    assert (said.facts is not None) == said.converts == said.runs == (said.note == "") == sound, said.note
    if sound:
        for new in ("new", "new.safetensors"):
            assert facts_of(tmp_path / new) == said.facts


def test_a_single_file_and_what_it_is_converted_to_are_one_model(tmp_path: Path) -> None:
    model = made(tmp_path, SOUND["other heads"], SOUND["native size"])
    single = save_single_file(tmp_path / "ldm.safetensors", model, "sd15")
    said = said_of(single, tmp_path, photo(tmp_path / "a.png"))
    assert said.runs
    assert said.note == ""
    assert facts_of(tmp_path / "new") == facts_of(tmp_path / "new.safetensors") == said.facts


def with_ema(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | ema_tensors(tensors)


def ema_alone(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in with_ema(tensors).items() if not name.startswith(ldm.UNET)}


def wrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def beginning(*prefixes: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


FILES = {
    "an EMA copy beside": (with_ema, True),
    "an EMA copy alone": (ema_alone, True),
    "wrapped": (wrapped, True),
    "marked as predicting v": (lambda tensors: tensors | {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}, True),
    "VAE only": (beginning(ldm.VAE), False),
    "text encoder only": (beginning(ldm.CLIP), False),
    "no text encoder": (beginning(ldm.UNET, ldm.VAE), False),
}


@pytest.mark.parametrize("name", FILES)
def test_odd_files_are_one_model_with_what_they_become(name: str, tmp_path: Path) -> None:
    """Parts of a model load and convert as such, and an edit refuses them before it loads them."""
    change, whole = FILES[name]
    tensors: dict[str, torch.Tensor] = change(ldm_tensors(shared("sd15")[0], "sd15"))
    save_file(tensors, tmp_path / "odd.safetensors")
    said = said_of(tmp_path / "odd.safetensors", tmp_path, photo(tmp_path / "a.png"))
    assert said.converts
    assert said.note == ""
    assert said.runs == whole
    assert facts_of(tmp_path / "new.safetensors") == said.facts
    facts = facts_of(tmp_path / "new")
    assert facts is not None
    assert said.facts is not None
    # The folder of one component has no place for a tokenizer.
    told = slice(None if (tmp_path / "new/model_index.json").is_file() else -1)
    assert facts[told] == said.facts[told]


def test_a_scheduler_that_is_not_known_is_told_of_and_copied(tmp_path: Path) -> None:
    name = "FlowMatchEulerDiscreteScheduler"
    model = made(tmp_path, in_index(scheduler=["diffusers", name]), in_scheduler(_class_name=name))
    said = said_of(model, tmp_path, photo(tmp_path / "a.png"))
    assert said.converts
    assert not said.runs
    assert name in said.note
    assert facts_of(tmp_path / "new") == facts_of(tmp_path / "new.safetensors") == said.facts is not None


def test_the_dry_run_takes_the_scheduler_that_the_edit_takes(tmp_path: Path) -> None:
    """Euler, by the index, takes custom timesteps; DDIM, which the scheduler's own file names, has none."""
    model = made(tmp_path, SOUND["index names another scheduler"], in_scheduler(_class_name="DDIMScheduler"))
    command = ["run", str(photo(tmp_path / "a.png")), "-m", str(model), "--timesteps", "900,500,100", "-q"]
    assert run([*command, "-o", str(tmp_path / "x.png"), "--dry-run"]) == 0
    assert run([*command, "-o", str(tmp_path / "x.png"), "--dtype", "fp32"]) == 0
    shutil.copy(shared("sd15")[0] / "model_index.json", model)
    edit_json(model / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    assert run([*command, "-o", str(tmp_path / "y.png"), "--dry-run"]) == 2


def test_a_saved_pipeline_keeps_its_native_size(tmp_path: Path) -> None:
    StableDiffusionImg2ImgPipeline.from_pretrained(BUILT_IN).save_pretrained(tmp_path / "saved")
    assert open_checkpoint(tmp_path / "saved").native_size == open_checkpoint(BUILT_IN).native_size == 64


def test_a_tiny_autoencoder_is_one_in_the_index_too(tmp_path: Path) -> None:
    model = made(tmp_path, tiny_vae)
    convert(model, tmp_path / "new")
    assert json.loads((tmp_path / "new/model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderTiny"]
    assert facts_of(tmp_path / "new") == facts_of(model) is not None
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(model)
    pipe.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderTiny"]


def test_what_the_index_leaves_out_is_left_out_by_all(tmp_path: Path) -> None:
    model = made(tmp_path, in_index(vae=[None, None]))
    assert load_networks(model).vae is None
    convert(model, tmp_path / "new")
    assert not (tmp_path / "new/vae").exists()
    command = ["run", str(photo(tmp_path / "a.png")), "-m", str(model), "-o", str(tmp_path / "x.png"), "-q"]
    assert run([*command, "--dry-run"]) == 3
    assert run([*command, "--vae", str(shared("sd15")[0] / "vae"), "--dry-run"]) == 0


@pytest.mark.parametrize("prefix", [ldm.VAE, ldm.CLIP], ids=["VAE", "text encoder"])
def test_a_file_without_a_unet_is_said_to_lack_that_by_all(
    prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not the scheduler, which no file of such parts has."""
    model = tmp_path / "part.safetensors"
    state = ldm_tensors(shared("sd15")[0], "sd15")
    save_file({name: tensor for name, tensor in state.items() if name.startswith(prefix)}, model)
    command = ["run", str(photo(tmp_path / "a.png")), "-m", str(model), "-o", str(tmp_path / "x.png"), "-q"]
    for more in ([], ["--dry-run"], ["--steps", "3"], ["--clip-skip", "1"]):
        assert run([*command, *more]) == 3
        assert "has no unet, which every edit needs" in capsys.readouterr().err
    with pytest.raises(ModelError, match="has no unet, which every edit needs"):
        StableDiffusionImg2ImgPipeline.from_single_file(model)
