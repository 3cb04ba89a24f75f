"""Less common single files: tiny VAEs, distilled UNets, the 24th layer of OpenCLIP, damaged notes in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from helpers.ends import reached, reaches
from helpers.names import real_keys
from helpers.tiny.folders import save_folder
from helpers.tiny.single_files import ShapeSource, folder_tensors, ldm_tensors, shared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sdedit_cli.configs.unet import UNetConfig
from sdedit_cli.errors import ModelError
from sdedit_cli.names import ldm
from sdedit_cli.weights.checkpoint.from_file import read_file
from sdedit_cli.weights.checkpoint.renamed import Renamed
from sdedit_cli.weights.describe import describe
from sdedit_cli.weights.formats.open import open_weights
from sdedit_cli.weights.load.networks import load_networks
from sdedit_cli.weights.write.convert import convert


def test_the_last_layer_of_openclip_is_left_out(tmp_path: Path) -> None:
    """Files of 2.x hold 24 layers of which the model uses 23: ours and the oracle's text encoders are equal."""
    from diffusers import StableDiffusionImg2ImgPipeline

    folder = save_folder(tmp_path / "folder", "sd21", layers=23)
    tensors = ldm_tensors(folder, "sd21")
    first = f"{ldm.OPENCLIP}transformer.resblocks.0."
    tensors |= {n.replace(".0.", ".23.", 1): t * 2 for n, t in tensors.items() if n.startswith(first)}
    save_file(tensors, tmp_path / "model.safetensors")
    text = load_networks(tmp_path / "model.safetensors").text_encoder
    assert text is not None
    assert text.config.num_hidden_layers == 23
    pipe: Any = StableDiffusionImg2ImgPipeline.from_single_file(
        str(tmp_path / "model.safetensors"), config=str(folder), local_files_only=True
    )
    ids = torch.randint(0, 49408, (1, 77), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mine, theirs = text(ids).last_hidden_state, pipe.text_encoder(ids).last_hidden_state
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    summary = convert(tmp_path / "model.safetensors", tmp_path / "new")
    assert ldm.OPENCLIP + "transformer.resblocks.23.ln_1.weight" in summary.dropped
    convert(tmp_path / "new", tmp_path / "back.safetensors")
    again = load_networks(tmp_path / "back.safetensors").text_encoder
    assert again is not None
    assert again.config == text.config


@pytest.mark.parametrize(
    ("name", "cls", "scale"),
    [
        ("diffusion_pytorch_model.safetensors", "AutoencoderKL", 0.5),
        ("diffusion_pytorch_model.fp16.safetensors", "AutoencoderKL", 0.5),
        ("my.safetensors", "AutoencoderKL", 0.18215),
        ("diffusion_pytorch_model.safetensors", "VQModel", 0.18215),
    ],
    ids=["of-a-folder", "a-variant", "another-name", "another-class"],
)
def test_the_weights_of_a_folder_are_told_by_the_config_beside_them(
    tmp_path: Path, name: str, cls: str, scale: float
) -> None:
    """What shapes don't tell, such as the scale of its latents, would otherwise be that of Stable Diffusion."""
    vae = shared("sd15")[0] / "vae"
    (tmp_path / name).write_bytes((vae / "diffusion_pytorch_model.safetensors").read_bytes())
    said = json.loads((vae / "config.json").read_text()) | {"scaling_factor": 0.5, "_class_name": cls}
    (tmp_path / "config.json").write_text(json.dumps(said))
    loaded = load_networks(tmp_path / name).vae
    assert loaded is not None
    assert loaded.config.scaling_factor == scale
    for broken in ("{", json.dumps(said | {"block_out_channels": [32, 32, 32, 32]})) if scale == 0.5 else ():
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(ModelError, match=r"/config\.json"):
            load_networks(tmp_path / name)


def test_tiny_vaes(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    oracle = AutoencoderTiny()
    oracle.save_pretrained(tmp_path / "taesd")
    path = tmp_path / "taesd" / "diffusion_pytorch_model.safetensors"
    ours = load_networks(path).vae
    assert ours is not None
    state = oracle.state_dict()
    assert ours.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())
    assert read_file(open_weights(path)).title() == "tiny VAE only"
    convert(path, tmp_path / "half", dtype=torch.float16)
    assert AutoencoderTiny.from_pretrained(tmp_path / "half", torch_dtype=torch.float16).dtype == torch.float16


def test_distilled_unets_keep_their_guidance_embedding(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "folder", "sd15", time_cond_proj_dim=16)
    convert(folder, tmp_path / "one.safetensors")
    unet = load_networks(tmp_path / "one.safetensors").unet
    assert unet is not None
    assert unet.config.time_cond_proj_dim == 16
    assert torch.equal(
        unet.state_dict()["time_embedding.cond_proj.weight"],
        folder_tensors(folder, "unet")["time_embedding.cond_proj.weight"],
    )


def test_a_vae_is_taken_even_from_models_that_cannot_be_run(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "folder", "sd15", in_channels=9)
    save_file(ldm_tensors(folder, "sd15"), tmp_path / "model.safetensors")
    skip = ("unet", "text_encoder", "tokenizer", "scheduler")
    vae = load_networks(tmp_path / "model.safetensors", skip=skip).vae
    assert vae is not None


@pytest.mark.parametrize(
    ("channels", "task"), [(4, ""), (9, ", inpainting"), (8, ", instruct-pix2pix"), (5, ", depth to image")]
)
def test_folders_are_named_by_their_task_as_files_are(channels: int, task: str, tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "folder", "sd15", in_channels=channels)
    summary = convert(folder, tmp_path / "one.safetensors")
    convert(tmp_path / "one.safetensors", tmp_path / "again")
    named = json.loads((tmp_path / "again" / "model_index.json").read_text())["_class_name"]
    assert hasattr(diffusers, named)
    assert (named == "StableDiffusionPipeline") == (not task)
    kinds = [summary.kind, *(describe(path).kind for path in (folder, tmp_path / "one.safetensors"))]
    assert kinds == [f"Stable Diffusion 1.x{task}"] * 3
    parts = [describe(folder / part) for part in ("unet", "vae")]
    assert [part.kind for part in parts] == [f"Stable Diffusion 1.x{task}, UNet only", "VAE only"]
    assert [part.family for part in parts] == ["sd1", ""]


def test_a_unet_of_the_caller_leaves_the_rest() -> None:
    loaded = load_networks(shared("sd15")[1], skip=("unet",))
    assert loaded.unet is None
    assert loaded.scheduler_config is not None


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("family", ["sd15", "sd21"])
def test_a_text_encoder_of_the_caller_has_a_tokenizer_of_the_family_or_the_config(
    family: str, configured: bool, tmp_path: Path
) -> None:
    folder, whole = shared(family)
    tensors = {name: tensor for name, tensor in load_file(whole).items() if name.startswith(ldm.UNET)}
    save_file(tensors, tmp_path / "unet.safetensors")
    config = folder if configured else None
    skip = ("vae", "text_encoder", "scheduler")
    tokenizer = load_networks(tmp_path / "unet.safetensors", skip=skip, config=config).tokenizer
    expected = load_networks(folder).tokenizer
    assert tokenizer is not None
    assert expected is not None
    assert tokenizer.encode("a <cat> of the sea") == expected.encode("a <cat> of the sea")


NOTES = ("sdedit.configs", "sdedit.scheduler", "sdedit.tokenizer", "sdedit.prediction_type")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["unet", "vae", "text_encoder", "block_out_channels", "norm_num_groups", "vocab.json"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@reaches(loaded=2, refused=5)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(note=st.sampled_from(NOTES), text=JSON.map(json.dumps) | st.text(max_size=20) | st.just("epsilon"))
def test_notes_in_the_metadata_are_not_trusted(note: str, text: str, tmp_path: Path) -> None:
    """Whatever a file says about itself: it loads, or is refused by name."""
    tensors = {n: t for n, t in ldm_tensors(shared("sd15")[0], "sd15").items() if not n.startswith(ldm.VAE)}
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata={note: text})
    said = refusal(path)
    assert said == "" or str(path) in said
    reached("refused" if said else "loaded")


SHAPES = st.lists(st.integers(0, 3), max_size=5).map(tuple)


@reaches(known=10, refused=4)
@settings(max_examples=60, deadline=None)
@given(model=st.sampled_from(["sd15", "sd21", "sdxl"]), data=st.data())
def test_damaged_files_are_refused_by_name(model: str, data: Any) -> None:
    """Tensors that are missing, or of any shape: detection gives an answer or a ModelError that names the file."""
    keys = dict(real_keys(model)["ldm"])
    telling = [n for n in keys if ".0." in n or n.startswith("first_stage") or "embed" in n or n.count(".") < 5]
    decisive = [n for n in telling if n.endswith((".0.0.weight", "conv_in.weight", "token_embedding.weight"))]
    for name in data.draw(st.lists(st.sampled_from(telling) | st.sampled_from(decisive), min_size=1, max_size=4)):
        shape = data.draw(st.none() | SHAPES)
        if shape is None:
            keys.pop(name, None)
        else:
            keys[name] = shape
    said = ""
    try:
        found = read_file(ShapeSource(keys, Path("some.safetensors")))
        for part in found.components.values():
            renamed = Renamed(ShapeSource(keys, Path("some.safetensors")), part.tensors.origins)
            for name in renamed.names():
                renamed.shape(name)
    except ModelError as error:
        said = str(error)
    assert said == "" or "some.safetensors" in said
    reached("refused" if said else "known")


def refusal(path: Path) -> str:
    try:
        load_networks(path)
    except ModelError as error:
        return str(error)
    return ""


@settings(max_examples=24, deadline=None)
@given(st.data())
def test_configs_are_inferred_back_from_shapes(data: Any) -> None:
    """Any Stable Diffusion UNet: the shapes of its tensors lead to the config that it was built from."""
    from helpers.tiny.single_files import unet_shapes

    levels = data.draw(st.integers(2, 4))
    attends = data.draw(st.lists(st.booleans(), min_size=levels, max_size=levels).filter(any))
    config = UNetConfig(
        in_channels=4,
        block_out_channels=tuple(data.draw(st.lists(st.sampled_from([32, 64]), min_size=levels, max_size=levels))),
        layers_per_block=data.draw(st.integers(1, 3)),
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        mid_block_type=data.draw(st.sampled_from(["UNetMidBlock2DCrossAttn", None])),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        transformer_layers_per_block=data.draw(st.integers(1, 2)),
        cross_attention_dim=data.draw(st.sampled_from([64, 768])),
        use_linear_projection=data.draw(st.booleans()),
        time_cond_proj_dim=data.draw(st.sampled_from([None, 8])),
    )
    for naming in ("ldm", "diffusers"):
        part = read_file(unet_shapes(config, naming)).components["unet"]
        found = part.config
        assert isinstance(found, UNetConfig)
        for key in (
            "block_out_channels",
            "layers_per_block",
            "down_block_types",
            "mid_block_type",
            "up_block_types",
            "cross_attention_dim",
            "use_linear_projection",
            "time_cond_proj_dim",
        ):
            assert getattr(found, key) == getattr(config, key), key
        assert [lv.depths for lv in found.down_levels() if lv.attends] == [
            lv.depths for lv in config.down_levels() if lv.attends
        ]
        assert config.mid_block_type is None or found.mid_level().depths == config.mid_level().depths
        assert part.unknown == ()


# What the folder alone brings defaults for.
PLAIN = ("--strength", "0.8", "--cfg-scale", "7.5", "--dtype", "fp32", "--device", "cpu")


@pytest.mark.parametrize("kind", ["folder", "safetensors", "ckpt", "half"])
def test_every_format_paints_the_same_picture(kind: str, tmp_path: Path) -> None:
    """The built-in model as a folder, a single file, a pickle, and there and back: the same picture, bit for bit."""
    from PIL import Image

    import sdedit_cli
    from sdedit_cli.cli.main import run

    starter = Path(sdedit_cli.__file__).parent / "assets" / "starter"
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(tmp_path / "in.png")
    models: dict[str, Path] = {"folder": starter}
    if kind != "folder":
        convert(starter, tmp_path / "one.safetensors")
        models[kind] = tmp_path / "one.safetensors"
    if kind == "half":
        convert(tmp_path / "one.safetensors", tmp_path / "back")
        models[kind] = tmp_path / "back"
    pictures: list[bytes] = []
    if kind == "ckpt":
        from safetensors.torch import load_file

        torch.save({"state_dict": load_file(tmp_path / "one.safetensors")}, tmp_path / "one.ckpt")
        models[kind] = tmp_path / "one.ckpt"
    for name, model in models.items():
        extra = ["--config", str(starter)] if name == "ckpt" else []
        arguments = [
            "run",
            str(tmp_path / "in.png"),
            "-p",
            "a house",
            "-m",
            str(model),
            "-o",
            str(tmp_path / f"{name}.png"),
        ]
        assert run([*arguments, "--seed", "1", "--steps", "3", *PLAIN, *extra]) == 0
        pictures.append(Image.open(tmp_path / f"{name}.png").tobytes())
    assert len(set(pictures)) == 1
    assert load_networks(starter).unet is not None
