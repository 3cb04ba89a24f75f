"""What PEFT's configs say of strengths: for its LoHa and LoKr, by patterns, and what of it is not read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"


def written(folder: Path, state: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("LoHaConfig", {"r": 4, "alpha": 2}),
        ("LoHaConfig", {"r": 4, "alpha": 2, "use_effective_conv2d": True, "alpha_pattern": {"conv1": 3}}),
        ("LoKrConfig", {"r": 2, "alpha": 6, "decompose_factor": 2}),
        ("LoKrConfig", {"r": 20, "alpha": 6, "rank_pattern": {"conv1": 40}}),
        ("LoraConfig", {"r": 2, "lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 3, f"^{CONV}": 5, "v1": 9}}),
    ],
)
def test_files_of_peft_are_as_strong_as_peft_has_them(kind: str, settings: dict[str, Any], folder: Path) -> None:
    """Its LoKr of two whole matrices is scaled too, where LyCORIS' is not; converted, it stays so."""
    import peft
    from diffusers import StableDiffusionImg2ImgPipeline as Oracle

    from sdedit_cli.adapters.lora import read_adapter
    from sdedit_cli.adapters.write import written as as_files

    unet = Oracle.from_pretrained(folder, safety_checker=None).unet
    config = getattr(peft, kind)(target_modules=[LAYER, CONV], **settings)
    theirs = peft.get_peft_model(unet, config)
    for name, parameter in theirs.named_parameters():
        if any(mark in name for mark in ("lora_", "hada_", "lokr_")):
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    said = {key: value for key, value in config.to_dict().items() if key in settings} | {
        "peft_type": str(config.peft_type.value)
    }
    place = written(folder / f"{kind}{len(str(settings))}", peft.get_peft_model_state_dict(theirs), **said)

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    assert pipe.text_encoder is not None
    base = {name: pipe.unet.get_submodule(name).weight.clone() for name in (LAYER, CONV)}
    adapter = read_adapter(place, pipe.unet.config, pipe.text_encoder.config)
    kohya = as_files(adapter, "kohya", lambda module: base[module[1]].shape)[""].tensors
    renamed = folder / f"{place.name} renamed"
    renamed.mkdir()
    shutil.copy(place / "adapter_config.json", renamed)
    shutil.copy(place / "adapter_model.safetensors", renamed / "style.safetensors")
    state, _ = pipe.lora_state_dict(str(place))
    for source in (place, dict(kohya), state, renamed, renamed / "style.safetensors"):
        pipe.load_lora_weights(source)
        for name in (LAYER, CONV):
            delta = theirs.base_model.model.get_submodule(name).get_delta_weight("default").detach()
            made = pipe.unet.get_submodule(name).weight - base[name]
            torch.testing.assert_close(made, delta.reshape(made.shape), atol=2e-6, rtol=1e-4)
            assert float(delta.abs().max()) > 0.05
        pipe.unload_lora_weights()


def test_patterns_that_are_expressions_are_refused_by_name(
    folder: Path, tmp_path: Path, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    state = {
        f"base_model.model.{LAYER}.lora_A.weight": torch.ones(2, 32),
        f"base_model.model.{LAYER}.lora_B.weight": torch.ones(32, 2),
    }
    place = written(tmp_path / "one", state, r=2, lora_alpha=2, alpha_pattern={"down.*to_q": 8})
    with pytest.raises(ModelError, match=r"alpha_pattern has 'down\.\*to_q'; expected names of modules"):
        pipe.load_lora_weights(place)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"r": 2, "init_lora_weights": "pissa_niter_16"}, "a base of its own"),
        ({"r": 2, "init_lora_weights": "olora"}, "a base of its own"),
        ({"r": 2, "lora_alpha": "8"}, "alpha is 8; expected a finite number"),
        ({"r": 2, "lora_alpha": True}, "expected a finite number"),
        ({"r": 2, "lora_alpha": 2, "alpha_pattern": {"to_q": "7"}}, "expected a finite number"),
        ({"r": 0, "lora_alpha": 2}, "r is 0; expected a rank"),
        ({"r": 2, "use_rslora": "true"}, "use_rslora is true; expected true or false"),
        ({"r": 2, "use_qalora": True}, "QALoRA"),
        ({"r": 2, "kasa_config": {"beta": 1e-4}}, "KaSA"),
        ({"peft_type": "VERA"}, "is PEFT's VERA, which is not read"),
        ({"peft_type": "OFT", "coft": True}, "coft"),
        ({"use_cayley_neumann": False}, "exact rotations"),
        ({"peft_type": "OFT", "num_cayley_neumann_terms": 3}, "asks for 3 num_cayley_neumann_terms"),
    ],
)
@pytest.mark.parametrize("in_header", ["", "unet.", "alone"])
def test_what_a_config_asks_for_and_is_not_done_is_refused(
    config: dict[str, Any], words: str, in_header: str, tmp_path: Path, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    """Passed over, each would be another change than was trained."""
    prefix = "unet." if in_header else "base_model.model."
    state = {f"{prefix}{LAYER}.lora_A.weight": torch.ones(2, 32), f"{prefix}{LAYER}.lora_B.weight": torch.ones(32, 2)}
    place = written(tmp_path / "one", state, **config)
    if in_header:
        place = tmp_path / "one.safetensors"
        header = {key if in_header == "alone" else f"unet.{key}": value for key, value in config.items()}
        save_file(state, place, {"lora_adapter_metadata": json.dumps(header)})
    with pytest.raises(ModelError, match=words):
        pipe.load_lora_weights(place)


@pytest.mark.parametrize(
    "settings",
    [{"lora_alpha": 9}, {"lora_alpha": 6, "use_rslora": True}, {"lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 3}}],
    ids=str,
)
def test_what_a_network_alone_was_saved_with_counts(settings: dict[str, Any], folder: Path) -> None:
    """The header of such a file names no component."""
    import peft
    from diffusers import StableDiffusionImg2ImgPipeline as Oracle

    unet = Oracle.from_pretrained(folder, safety_checker=None).unet
    unet.add_adapter(peft.LoraConfig(r=4, target_modules=[LAYER], init_lora_weights=False, **settings))
    place = folder / f"alone {len(str(settings))}"
    unet.save_lora_adapter(place)
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    before = pipe.unet.get_submodule(LAYER).weight.clone()
    pipe.load_lora_weights(place)
    theirs = unet.get_submodule(LAYER).get_delta_weight("default").detach()
    torch.testing.assert_close(pipe.unet.get_submodule(LAYER).weight - before, theirs, atol=2e-6, rtol=1e-4)
    assert float(theirs.abs().max()) > 0.05


def test_a_config_says_nothing_of_a_file_that_says_it_itself(
    pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Somebody may have put another file beside it."""
    factors = {"lora_A": torch.ones(2, 32), "lora_B": torch.ones(32, 2)}
    of_peft = {f"base_model.model.{LAYER}.{leaf}.weight": tensor for leaf, tensor in factors.items()}
    kohya = f"lora_unet_{LAYER.replace('.', '_')}"
    of_kohya = {f"{kohya}.lora_down.weight": factors["lora_A"], f"{kohya}.lora_up.weight": factors["lora_B"]}
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.r": 2, "lora_alpha": 2})}
    backwards = {"lora_adapter_metadata": json.dumps({"lora_alpha": 2, "unet.r": 2, "unet.lora_alpha": 8})}
    layer, changes = pipe.unet.get_submodule(LAYER), list[float]()
    for place, state, metadata in (
        ("peft", of_peft, None),
        ("kohya", of_kohya, None),
        ("alpha", {**of_kohya, f"{kohya}.alpha": torch.tensor(4.0)}, None),
        ("header", of_peft, header),
        ("backwards", of_peft, backwards),
    ):
        written(tmp_path / place, {}, r=2, lora_alpha=64)
        (tmp_path / place / "adapter_model.safetensors").unlink()
        save_file(state, tmp_path / place / "style.safetensors", metadata)
        before = layer.weight.clone()
        pipe.load_lora_weights(tmp_path / place / "style.safetensors")
        changes.append(round(float((layer.weight - before).mean()), 4))
        pipe.unload_lora_weights()
    assert changes == [64.0, 2.0, 4.0, 8.0, 8.0]


@pytest.mark.parametrize("partial", [False, True])
def test_singular_values_between_factors_are_refused_by_name(
    partial: bool, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    state = {
        f"base_model.model.{LAYER}.lora_A": torch.ones(2, 32),
        f"base_model.model.{LAYER}.lora_B": torch.ones(32, 2),
        f"base_model.model.{LAYER}.lora_E": torch.ones(2, 1),
    }
    with pytest.raises(ModelError, match="AdaLoRA"):
        pipe.load_lora_weights(state, partial=partial)
