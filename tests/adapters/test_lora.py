"""LoRA files of every dialect lead to the weights of the formula; what does not fit changes nothing; no trace stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import QUICK, photo
from helpers.loras import DIALECTS, RANK, WITHOUT_ALPHA, Factors, factors, kohya, merged
from helpers.pipelines import picture
from safetensors.torch import save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.errors import ModelError, UsageError


def weights(pipe: StableDiffusionImg2ImgPipeline) -> dict[str, Tensor]:
    assert pipe.text_encoder is not None
    networks = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    return {f"{slot}.{name}": t.clone() for slot, net in networks.items() for name, t in net.state_dict().items()}


def digest(pipe: StableDiffusionImg2ImgPipeline) -> str:
    state = weights(pipe)
    return hashlib.sha256(
        b"".join(state[name].view(torch.uint8).numpy().tobytes() for name in sorted(state))
    ).hexdigest()


def expected(base: dict[str, Tensor], of: Factors, strength: float = 1.0) -> dict[str, Tensor]:
    made = dict(base)
    for (slot, module), (down, up, alpha) in of.items():
        name = f"{slot}.{module}.weight"
        made[name] = merged(base[name], down, up, alpha, strength)
    return made


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    far = [name for name in found if not torch.allclose(found[name], wanted[name], atol=1e-6)]
    assert far == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_leads_to_the_weights_of_the_formula(
    dialect: str, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Every linear layer and convolution, each with an alpha of its own where the dialect has any."""
    base, before = weights(pipe), digest(pipe)
    alpha = {"alpha": float(RANK)} if dialect in WITHOUT_ALPHA else {"differing": True}
    of = factors(pipe, **alpha)
    save_file({k: v.contiguous() for k, v in DIALECTS[dialect](pipe, of).items()}, tmp_path / "lora.safetensors")
    pipe.load_lora_weights(tmp_path / "lora.safetensors")
    assert_same(weights(pipe), expected(base, of))
    assert len(of) > 100
    pipe.unload_lora_weights()
    assert digest(pipe) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_base_comes_back_bit_for_bit(dtype: torch.dtype, folder: Path) -> None:
    """In any order, after fusing, disabling, strengths of 0, and after an adapter that did not fit."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=dtype)
    before = digest(pipe)
    one, two = (DIALECTS["kohya"](pipe, factors(pipe, seed=seed)) for seed in (1, 2))
    pipe.load_lora_weights(one, "one")
    pipe.load_lora_weights(two, "two")
    assert pipe.get_active_adapters() == ["two"]
    both = [(pipe.set_adapters(names, scales), digest(pipe))[1] for names, scales in ((["one", "two"], [0.5, -1.5]),)]
    pipe.set_adapters("one", 0.0)
    assert digest(pipe) == before
    pipe.set_adapters(["one", "two"], [0.5, -1.5])
    assert [digest(pipe)] == both
    pipe.disable_lora()
    assert digest(pipe) == before
    pipe.enable_lora()
    pipe.fuse_lora(lora_scale=0.3)
    pipe.unload_lora_weights()
    assert digest(pipe) != before
    pipe.unfuse_lora()
    assert digest(pipe) == before
    wrong = {key: value[:, :-1] if "lora_down" in key else value for key, value in one.items()}
    with pytest.raises(ModelError, match="nothing was changed"):
        pipe.load_lora_weights(wrong)
    assert digest(pipe) == before
    assert pipe.get_list_adapters() == {}


def test_a_fused_network_takes_adapters_too(pipe: StableDiffusionImg2ImgPipeline) -> None:
    base, of = weights(pipe), factors(pipe)
    pipe.fuse_qkv_projections()
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, of))
    pipe.unfuse_qkv_projections()
    assert_same(weights(pipe), expected(base, of))


def test_strengths_add_and_are_told_by_part_and_block(pipe: StableDiffusionImg2ImgPipeline) -> None:
    base = weights(pipe)
    one, two = factors(pipe, seed=1), factors(pipe, seed=2)
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, one), "one")
    pipe.load_lora_weights(DIALECTS["kohya"](pipe, two), "two")
    by_block = {"unet": {"down": 0.25, "up": {"block_1": [0.5, 2.0]}}, "text_encoder": 0.0}
    pipe.set_adapters(["one", "two"], [by_block, 0.5])
    first = {
        module: 0.0 if module[0] == "text_encoder" else
        0.25 if module[1].startswith("down_blocks") else
        0.5 if module[1].startswith(("up_blocks.1.attentions.0", "up_blocks.1.resnets.0")) else
        2.0 if module[1].startswith(("up_blocks.1.attentions.1", "up_blocks.1.resnets.1")) else 1.0
        for module in one
    }  # fmt: skip
    wanted = dict(base)
    for (slot, name), (down, up, alpha) in one.items():
        key = f"{slot}.{name}.weight"
        wanted[key] = merged(base[key], down, up, alpha, first[slot, name])
        down, up, alpha = two[slot, name]
        wanted[key] = wanted[key] + (merged(base[key], down, up, alpha, 0.5) - base[key])
    found = weights(pipe)
    assert [name for name in found if not torch.allclose(found[name], wanted[name], atol=1e-5)] == []
    assert len(set(first.values())) == 5


def test_alphas_of_headers_and_configs_count(pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    base = weights(pipe)
    of = factors(pipe, alpha=3.0)
    tensors = {k: v.contiguous() for k, v in DIALECTS["diffusers, PEFT"](pipe, of).items()}
    header = {
        f"{slot}.{key}": value for slot in ("unet", "text_encoder") for key, value in (("r", RANK), ("lora_alpha", 3))
    }
    save_file(tensors, tmp_path / "a.safetensors", {"lora_adapter_metadata": json.dumps(header)})
    pipe.load_lora_weights(tmp_path / "a.safetensors")
    assert_same(weights(pipe), expected(base, of))
    pipe.unload_lora_weights()
    (tmp_path / "peft").mkdir()
    save_file(
        {k: v.contiguous() for k, v in DIALECTS["PEFT"](pipe, of).items()}, tmp_path / "peft/adapter_model.safetensors"
    )
    config = {"r": RANK, "lora_alpha": 3, "use_rslora": True, "alpha_pattern": {"to_q": 6}}
    (tmp_path / "peft/adapter_config.json").write_text(json.dumps(config))
    pipe.load_lora_weights(tmp_path / "peft")
    stabilised = {key: (d, u, (6 if key[1].endswith("to_q") else a) * RANK**0.5) for key, (d, u, a) in of.items()}
    assert_same(weights(pipe), expected(base, stabilised))


def test_the_picture_is_the_oracles(folder: Path) -> None:
    """peft's layers in the reference's pipeline, trained-like and saved by itself, and our reading of the file."""
    from diffusers import StableDiffusionImg2ImgPipeline as Oracle
    from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

    theirs = Oracle.from_pretrained(folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    unet = LoraConfig(
        r=RANK, lora_alpha=6, target_modules=["to_q", "to_k", "to_v", "to_out.0", "conv1", "time_emb_proj"]
    )
    text = LoraConfig(r=RANK, lora_alpha=3, target_modules=["q_proj", "fc1"])
    theirs.unet.add_adapter(unet)
    inject_adapter_in_model(text, theirs.text_encoder)
    torch.manual_seed(0)
    for network in (theirs.unet, theirs.text_encoder):
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    layers = {"unet": theirs.unet, "text_encoder": theirs.text_encoder}
    state = {
        f"{slot}.{k}": v.detach() for slot, net in layers.items() for k, v in get_peft_model_state_dict(net).items()
    }
    state |= {}
    ours = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    plain = shown(ours)
    alphas = {"unet": 6.0, "text_encoder": 3.0}
    with_alphas = {
        **state,
        **{
            k.replace(".lora_A.weight", ".alpha"): torch.tensor(alphas[k.split(".")[0]]) for k in state if "lora_A" in k
        },
    }
    ours.load_lora_weights(with_alphas)
    found, wanted = shown(ours), shown(theirs)
    assert (found - wanted).abs().max() < 1e-4
    assert (found - plain).abs().max() > 1e-2
    at_work = digest(ours)
    scaled = shown(ours, cross_attention_kwargs={"scale": 0.4})
    assert (scaled - shown(theirs, cross_attention_kwargs={"scale": 0.4})).abs().max() < 1e-4
    # A call's strengths end with it.
    assert digest(ours) == at_work
    encoded, oracles = (
        [pipe.encode_prompt("a cat", "cpu", 1, False, lora_scale=scale)[0] for scale in (0.4, 1.0, None)]
        for pipe in (ours, theirs)
    )
    assert max((one - two).abs().max() for one, two in zip(encoded, oracles, strict=True)) < 1e-4
    assert (encoded[0] - encoded[1]).abs().max() > 1e-2
    assert digest(ours) == at_work
    assert (shown(ours) - wanted).abs().max() < 1e-4
    ours.unload_lora_weights()
    ours.encode_prompt("a cat", "cpu", 1, False, lora_scale=0.4)


def shown(pipe: Any, **options: Any) -> Tensor:
    made = pipe(
        prompt="a cat",
        image=picture(),
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
        **options,
    )
    return made.images


def dropped(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    key = next(k for k in state if part in k)
    return {k: v for k, v in state.items() if k != key}


def with_value(state: dict[str, Tensor], value: float) -> dict[str, Tensor]:
    key = next(k for k in state if "lora_up" in k)
    tensor = state[key].clone()
    tensor.view(-1)[0] = value
    return {**state, key: tensor}


WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "unknown module": (
        lambda s: {**s, "lora_unet_nothing.lora_up.weight": torch.ones(2, 2)},
        r"1 of \d+ keys fit no module",
    ),
    "unknown leaf": (
        lambda s: {**s, f"unet.{'down_blocks.0.' * 9}attn1.to_k.lora_diag": torch.ones(2)},
        r"1 of \d+ keys are of no kind of adapter that is read \(unet\..*\.to_k\.lora_diag\)",
    ),
    "half a pair": (lambda s: dropped(s, "lora_up"), r"unet\.|text_encoder\."),
    "not a number": (lambda s: with_value(s, float("nan")), "not finite"),
    "infinite": (lambda s: with_value(s, float("inf")), "not finite"),
    "another family": (
        lambda s: {"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(2, 2), **s},
        "made for Stable Diffusion XL",
    ),
    "wan": (lambda _: {"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": torch.ones(2, 2)}, "made for Wan, or"),
    "z": (lambda _: {"diffusion_model.layers.0.feed_forward.w1.lora_A.weight": torch.ones(2, 2)}, "made for Z-Image"),
    "the text of 2.x": (
        lambda _: {
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 1024),
            "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(4096, 2),
        },
        "made for Stable Diffusion 2.x, and this model is ",
    ),
    "XL without its text": (
        lambda _: {"lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.lora_up.weight": torch.ones(2, 2)},
        "made for Stable Diffusion XL",
    ),
    "hunyuan": (lambda _: {"transformer.double_blocks.0.img_attn_qkv.lora_A.weight": torch.ones(2, 2)}, "HunyuanVideo"),
    "motion": (lambda _: {"down_blocks.0.motion_modules.0.to_q.lora_A.weight": torch.ones(2, 2)}, "for AnimateDiff"),
    "control": (
        lambda _: {"lora_controlnet": torch.ones(1), "input_hint_block.0.weight": torch.ones(2, 2)},
        "is a Control",
    ),
    "flux": (lambda _: {"transformer.single_blocks.0.lora_A.weight": torch.ones(2, 2)}, "made for FLUX"),
    "nothing": (lambda _: {}, "holds no adapter"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(
    case: str, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    change, said = WRONG[case]
    before = digest(pipe)
    with pytest.raises(ModelError, match=said):
        pipe.load_lora_weights(change(DIALECTS["kohya"](pipe, factors(pipe, everything=False))))
    assert digest(pipe) == before
    assert pipe.get_active_adapters() == []


def test_what_is_left_over_can_be_passed_over(pipe: StableDiffusionImg2ImgPipeline) -> None:
    base, of = weights(pipe), factors(pipe)
    state = {**DIALECTS["kohya"](pipe, of), "lora_unet_x.alpha": torch.ones(()), "y": torch.ones(())}
    with pytest.warns(UserWarning, match=r"2 keys fit nowhere: lora_unet_x.alpha, y") as warned:
        pipe.load_lora_weights(state, partial=True)
    assert [Path(one.filename).name for one in warned] == [Path(__file__).name]
    assert_same(weights(pipe), expected(base, of))


def test_names_are_kept_apart(pipe: StableDiffusionImg2ImgPipeline) -> None:
    state = DIALECTS["kohya"](pipe, factors(pipe, everything=False))
    pipe.load_lora_weights(state)
    pipe.load_lora_weights(state)
    assert pipe.get_list_adapters() == {slot: ["default_0", "default_1"] for slot in ("unet", "text_encoder")}
    with pytest.raises(UsageError, match="is called 'default_0' already"):
        pipe.load_lora_weights(state, "default_0")
    with pytest.raises(UsageError, match="did you mean 'default_1'"):
        pipe.set_adapters("defualt_1")
    pipe.delete_adapters("default_1")
    assert pipe.get_active_adapters() == ["default_0"]
    with pytest.raises(UsageError, match="expected 'scale' alone"):
        shown(pipe, cross_attention_kwargs={"scales": 1})


def test_saved_layers_are_read_again(pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path) -> None:
    base, of = weights(pipe), factors(pipe, alpha=float(RANK))
    layers: dict[str, dict[str, Tensor]] = {"unet": {}, "text_encoder": {}}
    for (slot, module), (down, up, _) in of.items():
        layers[slot] |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    pipe.save_lora_weights(tmp_path, layers["unet"], layers["text_encoder"])
    pipe.load_lora_weights(tmp_path)
    assert_same(weights(pipe), expected(base, of))
    pipe.save_pretrained(tmp_path / "model")
    assert_same(weights(StableDiffusionImg2ImgPipeline.from_pretrained(tmp_path / "model")), base)


def test_the_command_line_takes_files_with_strengths(
    folder: Path, pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path
) -> None:
    """Named in the picture with hash and strength; 0 is none; the text encoder has a strength of its own."""
    from PIL import Image

    state = {k: v.contiguous() for k, v in DIALECTS["kohya"](pipe, factors(pipe)).items()}
    save_file(state, tmp_path / "my style: v2.safetensors")
    lora = str(tmp_path / "my style: v2.safetensors")
    command = ["run", str(photo(tmp_path / "a.png")), "-m", str(folder), "-p", "a cat", "-q", *QUICK]

    def made(name: str, *options: str) -> Image.Image:
        assert run([*command, "-o", str(tmp_path / name), *options]) == 0
        return Image.open(tmp_path / name)

    plain, full = made("plain.png"), made("full.png", "--lora", lora)
    none = made("none.png", "--lora", f"{lora}:0")
    text_alone = made("text.png", "--lora", f"{lora}:0:1")
    assert none.tobytes() == plain.tobytes() != full.tobytes()
    assert text_alone.tobytes() not in (plain.tobytes(), full.tobytes())
    assert 'Lora hashes: "my style v2: ' in full.text["parameters"]
    assert json.loads(full.text["sdedit"])["ingredients"][0]["scale"] == 1
    assert run([*command, "-o", str(tmp_path / "x.png"), "--lora", str(tmp_path / "gone.safetensors")]) == 3
    assert kohya("unet", "a.b") == "lora_unet_a_b"


# leaves of the module `up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q`, as LyCORIS and others write them
KINDS_IN_FILES: dict[str, dict[str, tuple[int, ...]]] = {
    "LoHa": {"hada_w1_a": (32, 2), "hada_w1_b": (2, 32), "hada_w2_a": (32, 2), "hada_w2_b": (2, 32), "alpha": ()},
    "LoKr": {"lokr_w1": (4, 4), "lokr_w2_a": (8, 2), "lokr_w2_b": (2, 8), "alpha": ()},
    "DoRA": {"lora_down.weight": (2, 32), "lora_up.weight": (32, 2), "dora_scale": (32, 1), "alpha": ()},
    "full": {"diff": (32, 32)},
    "OFT": {"oft_blocks": (4, 8, 8), "alpha": ()},
    "GLoRA": {"a1.weight": (32, 2), "a2.weight": (2, 32), "b1.weight": (32, 2), "b2.weight": (2, 32), "alpha": ()},
    "IA3": {"weight": (32,), "on_input": ()},
}


@pytest.mark.parametrize("kind", KINDS_IN_FILES)
def test_files_of_other_kinds_change_what_they_name_and_nothing_else(
    kind: str, pipe: StableDiffusionImg2ImgPipeline
) -> None:
    """The change is that of `deltas`, which has tests of its own; strengths are linear; the base comes back."""
    from sdedit_cli.adapters.deltas import weight_delta
    from sdedit_cli.adapters.dialects import LEAVES

    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    generator = torch.Generator().manual_seed(5)
    leaves = {leaf: torch.randn(shape, generator=generator).abs() for leaf, shape in KINDS_IN_FILES[kind].items()}
    leaves |= {"on_input": torch.tensor(True)} if kind == "IA3" else {}
    base, before = weights(pipe), digest(pipe)
    pipe.load_lora_weights({f"lycoris_{name.replace('.', '_')}.{leaf}": value for leaf, value in leaves.items()})
    named = {("ia3_weight" if leaf == "weight" else LEAVES[f".{leaf}"]): value for leaf, value in leaves.items()}
    weight = base[f"unet.{name}.weight"]
    delta = weight_delta(named, weight)
    assert delta is not None
    assert delta.abs().max() > 1e-3
    assert_same(weights(pipe), {**base, f"unet.{name}.weight": weight + delta})
    pipe.set_adapters("default_0", -0.5)
    assert_same(weights(pipe), {**base, f"unet.{name}.weight": weight - 0.5 * delta})
    pipe.delete_adapters("default_0")
    assert digest(pipe) == before


@pytest.mark.parametrize("alpha", ["1" + "0" * 400, "1e400", "NaN"])
def test_an_alpha_that_is_no_number_is_refused_in_words(
    pipe: StableDiffusionImg2ImgPipeline, tmp_path: Path, alpha: str
) -> None:
    """JSON has numbers of any length, infinities and NaN, in a header as in a config beside the file."""
    key = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    layer = pipe.unet.get_submodule(key.removeprefix("unet."))
    state = {
        f"{key}.lora_A.weight": torch.ones(2, layer.in_features),
        f"{key}.lora_B.weight": torch.ones(layer.out_features, 2),
    }
    header = {"lora_adapter_metadata": f'{{"unet.r": 2, "unet.lora_alpha": {alpha}}}'}
    save_file(state, tmp_path / "lora.safetensors", metadata=header)
    with pytest.raises(ModelError, match="expected a finite number"):
        pipe.load_lora_weights(tmp_path / "lora.safetensors")
