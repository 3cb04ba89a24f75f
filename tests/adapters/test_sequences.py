"""Calls of a pipeline one after the other: how strongly each adapter is in the weights then, as in the reference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loras import DIALECTS, RANK, factors
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError

Call = Callable[[Any], object]
Loras = Mapping[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def loras(folder: Path) -> Loras:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    of = {name: factors(pipe, seed=seed, everything=False, alpha=float(RANK)) for seed, name in enumerate("abc")}
    return {name: DIALECTS["diffusers, PEFT, text_model"](pipe, own) for name, own in of.items()}


def call(words: str, loras: Loras) -> Call:
    name, _, value = words.partition(" ")
    calls: dict[str, Call] = {
        "load": lambda pipe: pipe.load_lora_weights(dict(loras[value]), value),
        "set": lambda pipe: pipe.set_adapters(value[0], float(value[2:])),
        "both": lambda pipe: pipe.set_adapters(["a", "b"], [0.5, 0.25]),
        "delete": lambda pipe: pipe.delete_adapters(value),
        "disable": lambda pipe: pipe.disable_lora(),
        "fuse": lambda pipe: pipe.fuse_lora(lora_scale=0.5),
        "fuse_unet": lambda pipe: pipe.fuse_lora(["unet"], lora_scale=0.5),
        "fuse_one": lambda pipe: pipe.fuse_lora(adapter_names=[value]),
        "unfuse": lambda pipe: pipe.unfuse_lora(),
        "unload": lambda pipe: pipe.unload_lora_weights(),
    }
    return calls[name]


def linear_weights(pipe: Any) -> dict[str, Tensor]:
    """The weights of linear layers that a step works with, of ours or with the reference's layers of peft."""
    found: dict[str, Tensor] = {}
    for slot in ("unet", "text_encoder"):
        for name, module in getattr(pipe, slot).named_modules():
            key = f"{slot}.{name.removeprefix('text_model.')}"
            if hasattr(module, "base_layer"):
                total = module.base_layer.weight.detach().clone()
                if not (module.merged or module.disable_adapters):
                    total += sum(module.get_delta_weight(one) for one in module.active_adapters)
                found[key] = total
            elif isinstance(module, torch.nn.Linear) and "base_layer" not in name and "lora_" not in name:
                found[key] = module.weight.detach().clone()
    return found


# calls -> how much of a, b and c is in the UNet, and in the text encoder where that is different
CASES: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "load a, load b": ((0, 1, 0),),
    "load a, load b, both": ((0.5, 0.25, 0),),
    "load a, fuse": ((0.5, 0, 0),),
    "load a, fuse_unet": ((0.5, 0, 0), (1, 0, 0)),
    "load a, fuse, unload": ((0.5, 0, 0),),
    "load a, fuse, unload, load b": ((0.5, 1, 0),),
    "load a, fuse, unload, load b, fuse, unload, load c": ((0.5, 0.5, 1),),
    "load a, fuse, fuse_one a": ((0.5, 0, 0),),
    "load a, load b, both, fuse, unload": ((0.25, 0.125, 0),),
    "load a, set a 0.5, load b, fuse_one a, unload": ((0.5, 0, 0),),
    "load a, load b, fuse_one a": ((1, 0, 0),),
    "load a, load b, both, fuse_one a": ((0.5, 0, 0),),
    "load a, load b, both, fuse_one a, set b 1": ((0.5, 0, 0),),
    "load a, load b, both, fuse_one a, fuse_one b": ((0.5, 0.25, 0),),
    "load a, load b, both, fuse_one a, unfuse": ((0.5, 0.25, 0),),
    "load a, load b, load c, delete c": ((1, 0, 0),),
    "load a, set a 0.5, load b, delete b": ((0.5, 0, 0),),
    "load a, load b, both, delete a": ((0, 0.25, 0),),
    "load a, disable, unload, load b": ((0, 1, 0),),
}
# The same, where the reference does otherwise: it forgets what is fused, or keeps scales of fusing.
OURS: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "load a, fuse, load b": ((0.5, 1, 0),),
    "load a, fuse, unload, load b, unfuse": ((0, 1, 0),),
    "load a, fuse, unload, load b, unload": ((0.5, 0, 0),),
    "load a, fuse, unfuse": ((1, 0, 0),),
    "load a, fuse, disable": ((0.5, 0, 0),),
    "load a, disable, delete a, load b": ((0, 1, 0),),
}


@pytest.fixture(scope="module")
def made(folder: Path, loras: Loras) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """The weights of the base, and what each of the LoRAs adds."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    base, deltas = linear_weights(pipe), dict[str, dict[str, Tensor]]()
    for name, lora in loras.items():
        pipe.load_lora_weights(dict(lora))
        deltas[name] = {key: weight - base[key] for key, weight in linear_weights(pipe).items()}
        pipe.unload_lora_weights()
    return base, deltas


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("calls", [*CASES, *OURS])
def test_adapters_are_in_the_weights_as_calls_say(calls: str, folder: Path, loras: Loras, made: Any) -> None:
    """Fusing holds through unloading, and leaves room for others; what is let go of is gone, what stays is at work."""
    how = (CASES | OURS)[calls]
    shares = {"unet": how[0], "text_encoder": how[-1]}
    base, deltas = made
    wanted = {
        key: weight + sum(s * deltas[name][key] for name, s in zip("abc", shares[key.partition(".")[0]], strict=True))
        for key, weight in base.items()
    }
    ours = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipes: list[Any] = [ours]
    if calls in CASES:
        from diffusers import StableDiffusionImg2ImgPipeline as Oracle

        pipes.append(Oracle.from_pretrained(folder, safety_checker=None))
    for pipe in pipes:
        for words in calls.split(", "):
            call(words, loras)(pipe)
        found = linear_weights(pipe)
        assert found.keys() == wanted.keys()
        assert [key for key in wanted if not torch.allclose(found[key], wanted[key], atol=1e-5)] == []
        assert sorted(pipe.get_active_adapters()) == sorted(pipes[0].get_active_adapters())


def test_what_is_fused_is_saved_and_what_is_loaded_is_not(folder: Path, loras: Loras, tmp_path: Path) -> None:
    """The reference's way to a fused checkpoint: fuse, unload, save."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    base = linear_weights(pipe)
    pipe.load_lora_weights(dict(loras["a"]))
    pipe.save_pretrained(tmp_path / "base")
    pipe.fuse_lora()
    fused = linear_weights(pipe)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(dict(loras["b"]))
    pipe.save_pretrained(tmp_path / "fused")
    for name, wanted in (("base", base), ("fused", fused)):
        found = linear_weights(StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / name))
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    pipe.unload_lora_weights()
    pipe.unfuse_lora()
    assert all(torch.equal(weight, base[key]) for key, weight in linear_weights(pipe).items())


def test_what_has_no_effect_is_told(folder: Path, loras: Loras) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.load_lora_weights(dict(loras["a"]), "a")
    pipe.fuse_lora()
    assert (pipe.fused_loras, pipe.num_fused_loras) == ({"a"}, 1)
    with pytest.warns(UserWarning, match="'a' is fused already"):
        pipe.fuse_lora(lora_scale=0.5)
    pipe.disable_lora()
    with pytest.warns(UserWarning, match="'b' is loaded, and adapters are disabled; enable_lora"):
        pipe.load_lora_weights(dict(loras["b"]), "b")


def test_arguments_are_called_as_in_the_reference(folder: Path, loras: Loras, tmp_path: Path) -> None:
    """Each of the reference's arguments of a method about adapters or files is one of ours, and in its place."""
    from diffusers import StableDiffusionImg2ImgPipeline as Oracle

    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(pretrained_model_name_or_path=folder)
    names = [
        *("load_lora_weights", "set_adapters", "delete_adapters", "fuse_lora", "unfuse_lora", "save_lora_weights"),
        *("load_textual_inversion", "unload_textual_inversion", "load_ip_adapter", "set_ip_adapter_scale"),
        *("lora_state_dict", "unload_lora_weights", "from_pretrained", "from_single_file", "encode_prompt"),
    ]
    for name in names:
        ours, theirs = (list(signature(getattr(it, name)).parameters.values()) for it in (pipe, Oracle))
        positional = [one.name for one in ours if one.kind is one.POSITIONAL_OR_KEYWORD]
        assert [one.name for one in theirs if one.name not in ("self", "kwargs")] == positional, name


def test_another_takes_the_place_of_an_adapter(folder: Path, loras: Loras, made: Any) -> None:
    base, deltas = made
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.load_lora_weights(dict(loras["a"]), "mine")
    pipe.set_adapters("mine", 0.5)
    pipe.load_lora_weights(dict(loras["b"]), "mine", hotswap=True)
    found = linear_weights(pipe)
    assert all(torch.allclose(found[key], base[key] + 0.5 * deltas["b"][key], atol=1e-5) for key in base)
    with pytest.raises(UsageError, match="no adapter is called 'other'; loaded are: mine"):
        pipe.load_lora_weights(dict(loras["b"]), "other", hotswap=True)


@pytest.mark.parametrize("weight", [0.5, 0.0, {"unet": 0.5, "text_encoder": 0.25}], ids=str)
def test_what_takes_the_place_has_that_strength_on_modules_of_its_own(
    folder: Path, loras: Loras, made: Any, weight: Any
) -> None:
    base, deltas = made
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    fewer = {key: value for key, value in loras["a"].items() if "unet" in key and "attn1" in key}
    assert 0 < len(fewer) < len(loras["a"])
    pipe.load_lora_weights(fewer, "mine")
    pipe.set_adapters("mine", weight)
    pipe.load_lora_weights(dict(loras["b"]), "mine", hotswap=True)
    found = linear_weights(pipe)
    for key in base:
        share = weight[key.partition(".")[0]] if isinstance(weight, dict) else weight
        assert torch.allclose(found[key], base[key] + share * deltas["b"][key], atol=1e-5)


@pytest.mark.parametrize("names", [None, 5, ["a", 5]], ids=repr)
def test_names_that_are_no_texts_are_told(folder: Path, loras: Loras, names: Any) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.load_lora_weights(dict(loras["a"]), "a")
    for method in (pipe.set_adapters, pipe.delete_adapters):
        with pytest.raises(TypeError, match="adapter_names is"):
            method(names)
    pipe.fuse_lora(adapter_names="a")
    assert pipe.fused_loras == {"a"}


def test_tensors_of_a_file_mean_what_the_file_does(folder: Path, loras: Loras, tmp_path: Path, made: Any) -> None:
    """What its header says of alphas too."""
    base, deltas = made
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    parts = {
        slot: {key.removeprefix(f"{slot}."): tensor for key, tensor in loras["a"].items() if key.startswith(slot)}
        for slot in ("unet", "text_encoder")
    }
    told = {"r": RANK, "lora_alpha": 2 * RANK}
    pipe.save_lora_weights(tmp_path, parts["unet"], parts["text_encoder"], unet_lora_adapter_metadata=told)
    state, alphas = StableDiffusionImg2ImgPipeline.lora_state_dict(tmp_path)
    assert alphas is None
    for source in (tmp_path, state):
        pipe.load_lora_weights(source)
        found = linear_weights(pipe)
        for key in base:
            wanted = base[key] + (2 if key.startswith("unet") else 1) * deltas["a"][key]
            assert torch.allclose(found[key], wanted, atol=1e-5)
        pipe.unload_lora_weights()


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ({"unet": {"up": {"block_7": 1}}}, "of up are given for 'block_7'; expected block_0, block_1"),
        ({"unet": {"up": {"block_1": [1, 0, 1, 1, 1]}}}, "of up block_1 are 5; expected 2, one a layer, or one"),
        ({"unet": {"down": {"block_0": {"x": 1}}}}, "one a layer"),
        ({"unet": {"over": 1}}, "of the UNet are given for 'over'; expected down, mid, up"),
        ({"text_encoder": {"block_0": 1}}, "expected a finite number"),
        ({"text_encoder_2": 1}, "expected unet, text_encoder"),
        (float("nan"), "expected a finite number"),
        ("0.5", "expected a finite number"),
    ],
)
def test_weights_without_a_meaning_are_refused(weight: Any, words: str, folder: Path, loras: Loras) -> None:
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    pipe.load_lora_weights(dict(loras["a"]), "a")
    before = linear_weights(pipe)
    with pytest.raises(UsageError, match=re.escape(words)):
        pipe.set_adapters("a", weight)
    assert all(torch.equal(weight, before[key]) for key, weight in linear_weights(pipe).items())


def test_what_a_caller_does_with_its_state_dict_changes_no_adapter(folder: Path, loras: Loras) -> None:
    """A training loop goes on with its tensors: a strength that changes later is one of what was loaded."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    own = {key: tensor.clone() for key, tensor in loras["a"].items()}
    pipe.load_lora_weights(own, "a")
    before = linear_weights(pipe)
    for tensor in own.values():
        tensor.zero_()
    for strength in (0.5, 1.0):
        pipe.set_adapters("a", strength)
    assert all(torch.equal(weight, before[key]) for key, weight in linear_weights(pipe).items())
