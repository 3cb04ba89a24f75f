"""Model folders as the oracle and others write them: variants, shards, pickles, Flax, missing parts; and misfits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as OracleVAE
from diffusers import AutoencoderTiny as OracleTiny
from diffusers import UNet2DConditionModel as OracleUNet
from helpers.cli import BUILT_IN
from helpers.weights import FLAX_FILES, flax_tree, msgpack
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig as OracleTextConfig
from transformers import CLIPTextModel as OracleText

from sdedit_cli.errors import ModelError
from sdedit_cli.nn import TinyAutoencoder
from sdedit_cli.weights import load_networks
from sdedit_cli.weights.checkpoint.weight_files import choose
from sdedit_cli.weights.formats.mapped_file import MappedFile

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 16,
    "attention_head_dim": 2,
}
VAE = {
    "block_out_channels": (8, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
    "sample_size": 16,
}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def oracle_parts() -> dict[str, Any]:
    torch.manual_seed(0)
    text = OracleText(OracleTextConfig(**TEXT, vocab_size=49408, max_position_embeddings=77, projection_dim=16))
    return {"unet": OracleUNet(**UNET), "vae": OracleVAE(**VAE), "text_encoder": text}


@pytest.fixture(scope="module")
def oracle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": True}
    for name, part in oracle_parts().items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "PNDMScheduler"}')
    index |= {
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": ["x", "y"],
        "tokenizer": ["t", "CLIPTokenizer"],
    }
    index |= {"feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def folder(oracle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(oracle_folder, tmp_path / "copy")


def weights_of(folder: Path, part: str) -> dict[str, Tensor]:
    name = "model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors"
    return load_file(folder / part / name)


def assert_holds(module: nn.Module | None, tensors: dict[str, Tensor]) -> None:
    assert module is not None
    state = module.state_dict()
    named = {name if name in state else f"text_model.{name}": tensor for name, tensor in tensors.items()}
    assert set(state) == set(named)
    assert all(torch.equal(state[name], tensor) for name, tensor in named.items())


def test_the_oracles_folder_loads_with_optional_parts_missing(folder: Path) -> None:
    """No safety checker and no tokenizer although the index lists them: the packaged tokenizer steps in."""
    loaded = load_networks(folder)
    for part in ("unet", "vae", "text_encoder"):
        assert_holds(getattr(loaded, part), weights_of(folder, part))
        assert not getattr(loaded, part).training
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.model_max_length == 77
    assert loaded.safety_checker is loaded.feature_extractor is loaded.image_encoder is None
    assert loaded.requires_safety_checker
    assert loaded.scheduler_config == {"_class_name": "PNDMScheduler"}
    assert loaded.report.missing == loaded.report.unused == ()
    assert any(name.startswith("vae.") for name in loaded.report.used)


def test_parts_that_the_caller_brings_are_not_read(folder: Path) -> None:
    shutil.rmtree(folder / "unet")
    loaded = load_networks(folder, skip=("unet", "tokenizer", "scheduler"), dtype=torch.float16)
    assert loaded.unet is loaded.tokenizer is loaded.scheduler_config is None
    assert loaded.vae is not None
    assert loaded.vae.dtype == torch.float16


@pytest.mark.parametrize(
    "options", [{}, {"variant": "fp16"}, {"max_shard_size": "40KB"}, {"variant": "fp16", "max_shard_size": "40KB"}]
)
def test_variants_and_shards_as_the_oracle_names_them(options: dict[str, Any], folder: Path) -> None:
    expected = weights_of(folder, "unet")
    shutil.rmtree(folder / "unet")
    unet = OracleUNet(**UNET)
    unet.load_state_dict(expected)
    unet.save_pretrained(folder / "unet", **options)
    assert_holds(load_networks(folder, variant=options.get("variant")).unet, expected)
    assert_holds(load_networks(folder).unet, expected)


def test_the_variant_is_preferred_where_there_is_one(folder: Path) -> None:
    plain = weights_of(folder, "vae")
    halves = {name: tensor * 2 for name, tensor in plain.items()}
    save_file(halves, folder / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    assert_holds(load_networks(folder).vae, plain)
    loaded = load_networks(folder, variant="fp16")
    assert_holds(loaded.vae, halves)
    assert_holds(loaded.unet, weights_of(folder, "unet"))
    with pytest.raises(ModelError, match="variant 'fp17'"):
        load_networks(folder, variant="fp17")


D, M, P = "diffusion_pytorch_model", "model", "pytorch_model"
# the files of a component's folder, the variant that is asked for, the file that is taken
CHOICES: list[tuple[list[str], str | None, str | None]] = [
    ([f"{D}.bin", f"{D}.fp16.safetensors"], None, f"{D}.bin"),
    ([f"{D}.bin", f"{D}.fp16.safetensors"], "fp16", f"{D}.fp16.safetensors"),
    ([f"{D}.bin", f"{D}.non_ema.safetensors"], None, f"{D}.bin"),
    ([f"{D}.safetensors", f"{D}.fp16.bin"], "fp16", f"{D}.fp16.bin"),
    ([f"{D}.safetensors", f"{D}.fp16.bin"], "bf16", f"{D}.safetensors"),
    ([f"{P}.bin", f"{M}.fp16.safetensors"], None, f"{P}.bin"),
    ([f"{P}.bin", f"{M}.safetensors"], None, f"{M}.safetensors"),
    ([f"{D}.safetensors", f"{D}.safetensors.index.json"], None, f"{D}.safetensors.index.json"),
    ([f"{M}.safetensors", f"{M}.safetensors.index.json"], None, f"{M}.safetensors"),
    ([f"{D}.fp16.safetensors"], None, f"{D}.fp16.safetensors"),
    ([f"{D}.safetensors.index.fp16.json"], None, f"{D}.safetensors.index.fp16.json"),
    ([f"{D}.fp16-00001-of-00001.safetensors"], None, None),
    ([f"{D}.fp16.safetensors", f"{D}.non_ema.safetensors"], None, None),
    ([f"{D}.fp16.safetensors", f"{D}.non_ema.safetensors"], "non_ema", f"{D}.non_ema.safetensors"),
]


@pytest.mark.parametrize(("names", "variant", "taken"), CHOICES)
def test_which_weights_of_a_folder_are_taken(names: list[str], variant: str | None, taken: str | None) -> None:
    assert choose(names, variant, None) == taken


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
@pytest.mark.parametrize("beside", ["plain.bin", "index"])
def test_of_several_weights_those_of_the_oracle_are_taken(part: str, beside: str, folder: Path) -> None:
    """A plain .bin beside a variant in safetensors; an index of shards beside a whole file."""
    stem, oracle = (D, OracleUNet) if part == "unet" else (M, OracleText)
    plain = weights_of(folder, part)
    other = {name: tensor * 2 for name, tensor in plain.items()}
    if beside == "plain.bin":
        (folder / part / f"{stem}.safetensors").unlink()
        torch.save(plain, folder / part / f"{stem if part == 'unet' else P}.bin")
        save_file(other, folder / part / f"{stem}.fp16.safetensors", metadata={"format": "pt"})
    else:
        shard = f"{stem}-00001-of-00001.safetensors"
        save_file(other, folder / part / shard, metadata={"format": "pt"})
        index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(plain, shard)}
        (folder / part / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    theirs: Any = oracle.from_pretrained(folder / part)
    assert_holds(getattr(load_networks(folder), part), dict(theirs.state_dict()))


def test_several_variants_and_no_plain_file_are_told(folder: Path) -> None:
    for tag in ("fp16", "non_ema"):
        shutil.copy(folder / "vae" / f"{D}.safetensors", folder / "vae" / f"{D}.{tag}.safetensors")
    (folder / "vae" / f"{D}.safetensors").unlink()
    with pytest.raises(ModelError, match=r"variants fp16, non_ema and no others; say which"):
        load_networks(folder)
    assert load_networks(folder, variant="fp16").vae is not None


def test_bin_files_are_read_and_safetensors_come_first(folder: Path) -> None:
    plain = weights_of(folder, "vae")
    torch.save({name: tensor * 2 for name, tensor in plain.items()}, folder / "vae" / "diffusion_pytorch_model.bin")
    assert_holds(load_networks(folder).vae, plain)
    doubled = {name: tensor * 2 for name, tensor in plain.items()}
    assert_holds(load_networks(folder / "vae", use_safetensors=False).vae, doubled)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert_holds(load_networks(folder).vae, doubled)
    with pytest.raises(ModelError, match=r"no weights in \.safetensors files"):
        load_networks(folder, use_safetensors=True)


def test_leaves_of_old_files(folder: Path) -> None:
    """VAE attention under its old names as 1x1 convolutions, position ids, a text encoder without its prefix."""
    vae, text = weights_of(folder, "vae"), weights_of(folder, "text_encoder")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed: dict[str, Tensor] = {}
    for name, tensor in vae.items():
        for new, was in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{was}.")
        is_attention = name.endswith(tuple(f".{was}.weight" for was in old.values()))
        renamed[name] = tensor[:, :, None, None].contiguous() if is_attention else tensor
    assert sum(name not in vae for name in renamed) == 16
    save_file(renamed, folder / "vae" / "diffusion_pytorch_model.safetensors")
    bare = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    bare["embeddings.position_ids"] = torch.arange(77)[None].half()
    save_file(bare, folder / "text_encoder" / "model.safetensors")
    loaded = load_networks(folder)
    assert_holds(loaded.vae, vae)
    assert_holds(loaded.text_encoder, text)


def test_flax_folders_are_converted_on_load(folder: Path) -> None:
    for part, file in FLAX_FILES.items():
        tensors = weights_of(folder, part)
        if part == "text_encoder":
            tensors = {
                name if name.startswith("text_model.") else f"text_model.{name}": t for name, t in tensors.items()
            }
        for path in (folder / part).glob("*.safetensors"):
            path.unlink()
        (folder / part / file).write_bytes(msgpack(flax_tree(tensors, part)))
        assert_holds(getattr(load_networks(folder, skip={"unet", "vae", "text_encoder"} - {part}), part), tensors)


def test_a_tiny_autoencoder_serves_as_vae(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    tiny = OracleTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
                      num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))  # fmt: skip
    tiny.save_pretrained(folder / "vae")
    loaded = load_networks(folder)
    assert isinstance(loaded.vae, TinyAutoencoder)
    assert_holds(loaded.vae, weights_of(folder, "vae"))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_the_folder_of_one_component(part: str, oracle_folder: Path) -> None:
    loaded = load_networks(oracle_folder / part)
    assert_holds(getattr(loaded, part), weights_of(oracle_folder, part))
    assert loaded.tokenizer is None


def test_a_folder_without_an_index_but_with_components(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    assert load_networks(folder).unet is not None


def test_null_components_are_left_out(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder": [None, None], "vae": [None, None]}))
    loaded = load_networks(folder)
    assert loaded.text_encoder is loaded.vae is None


def edit_config(folder: Path, part: str, **changes: Any) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_misfits_say_what_was_expected_and_where(folder: Path, tmp_path: Path) -> None:
    cases: list[tuple[str, str]] = []

    def problem(of: Path) -> str:
        with pytest.raises(ModelError) as error:
            load_networks(of)
        assert len(str(error.value).splitlines()) <= 2
        return str(error.value)

    (tmp_path / "empty").mkdir()
    cases.append(("no such file", problem(tmp_path / "gone")))
    cases.append(("has no model_index.json", problem(tmp_path / "empty")))
    edit_config(folder, "unet", cross_attention_dim=24)
    cases.append(("has the shape", problem(folder)))
    edit_config(folder, "unet", cross_attention_dim=16)
    edit_config(folder, "unet", layers_per_block=2)
    cases.append(("tensors are missing", problem(folder)))
    edit_config(folder, "unet", layers_per_block=1, _class_name="Kandinsky")
    cases.append(("names Kandinsky, expected one of UNet2DConditionModel", problem(folder)))
    edit_config(folder, "unet", _class_name="UNet2DConditionModel")
    for path in (folder / "vae").glob("*.safetensors"):
        path.unlink()
    cases.append(("has no weights in", problem(folder)))
    shutil.rmtree(folder / "vae")
    cases.append(("has no vae/config.json, which its index speaks of", problem(folder)))
    for expected, message in cases:
        assert expected in message


def test_models_of_other_families_are_called_by_name(folder: Path) -> None:
    unet = OracleUNet(**{**UNET, "in_channels": 9})
    unet.save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="is a model for inpainting"):
        load_networks(folder)
    index = json.loads((folder / "model_index.json").read_text()) | {"text_encoder_2": ["transformers", "x"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="Stable Diffusion XL"):
        load_networks(folder)


def test_pages_of_a_cast_source_are_given_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[int] = []
    original = MappedFile.release
    monkeypatch.setattr(
        MappedFile, "release", lambda self, tensor: (released.append(tensor.nbytes), original(self, tensor))
    )
    load_networks(folder / "unet", dtype=torch.float32)
    assert released == []
    load_networks(folder / "unet", dtype=torch.float16)
    assert sum(released) == sum(tensor.nbytes for tensor in weights_of(folder, "unet").values())


def test_the_index_names_the_schedulers_class(oracle_folder: Path, tmp_path: Path) -> None:
    """As the oracle: `_class_name` in the scheduler's own file may be an older choice, or missing."""
    folder = shutil.copytree(oracle_folder, tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "EulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    for written in ('{"_class_name": "PNDMScheduler"}', "{}"):
        (folder / "scheduler" / "scheduler_config.json").write_text(written)
        config = load_networks(folder, skip=("unet", "vae", "text_encoder", "tokenizer")).scheduler_config
        assert config is not None
        assert config["_class_name"] == "EulerDiscreteScheduler"


def test_a_tokenizer_with_more_tokens_than_the_text_encoder_is_refused(tmp_path: Path) -> None:
    """A missing tokenizer stands for CLIP's, which does not fit every encoder."""
    shutil.copytree(BUILT_IN, tmp_path / "m", ignore=shutil.ignore_patterns("tokenizer"))
    with pytest.raises(ModelError, match="there is no tokenizer, and CLIP's own has 49408 tokens"):
        load_networks(tmp_path / "m")


@pytest.mark.parametrize("named", [["AutoencoderKL"], {"a": 1}, 3, "Auto\x1b[2J"])
def test_a_class_that_is_no_name_of_one_is_refused(oracle_folder: Path, named: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(oracle_folder / "vae", tmp_path / "vae"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "_class_name": named}))
    with pytest.raises(ModelError, match=r"expected one of UNet2DConditionModel") as error:
        load_networks(folder)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("said", [["x"] * 1000, "x" * 1000, {"a": "\x1b[2J"}], ids=range(3))
def test_whatever_a_scheduler_says_of_the_prediction_is_told_in_short(folder: Path, said: Any) -> None:
    config = {"_class_name": "PNDMScheduler", "prediction_type": said}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"scheduler_config.json: 'prediction_type' is .* expected one of") as error:
        load_networks(folder)
    assert len(str(error.value)) < 300 + len(str(folder))
    assert "\x1b" not in str(error.value)
