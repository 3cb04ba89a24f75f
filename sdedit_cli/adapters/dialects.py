"""How files of adapters name things: a key is the name of a module in some dialect, and a leaf.

A module is looked up in one table that is made from the model's own names (`module_names`): each of them in every
naming that trainers use, with dots as underscores. Nothing is ever turned back from underscores by rule.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from ..configs.clip import CLIPTextConfig
from ..configs.unet import UNetConfig
from ..names.table import kohya, modules
from ..names.text import clip_table
from ..names.unet import unet_table

Module = tuple[str, str]
"""A component's slot, and the name of one of its modules in our naming."""

# What dialects put before the names of a component's modules, dots as underscores. '' stands for bare names.
_UNET = (
    "lora_unet_",
    "lycoris_",
    "lycoris_unet_",
    "oft_unet_",
    "unet_",
    "unet_base_model_model_",
    "base_model_model_",
    "base_model_model_unet_",
    "diffusion_model_",
    "model_diffusion_model_",
    "",
)
_TEXT = (
    "lora_te_",
    "lora_te1_",
    "lycoris_",
    "lycoris_te_",
    "oft_te_",
    "te_",
    "text_encoder_",
    "text_encoder_base_model_model_",
    "base_model_model_",
    "base_model_model_text_encoder_",
    "text_encoders_clip_l_transformer_",
    "text_encoders_clip_h_transformer_",
    "clip_l_",  # OneTrainer's OMI names
    "cond_stage_model_transformer_",
    "",
)

# A suffix of keys -> the leaf that it stands for. The longest that fits is taken.
LEAVES: Mapping[str, str] = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A": "down",
    ".lora_B": "up",
    ".lora_B.bias": "up_bias",
    ".lora_up.bias": "up_bias",
    ".down.weight": "down",
    ".up.weight": "up",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector": "magnitude",
    ".dora_scale": "dora_scale",
    ".alpha": "alpha",
    ".scale": "scale",
    ".on_input": "ia3_on_input",
    ".oft_R.weight": "oft_R",
    ".oft_R.scaled_oft": "oft_R_scaled",
    **{f".{name}.weight": name for name in ("a1", "a2", "b1", "b2", "q_layer", "p_layer")},
    **{
        f".{name}": name
        for name in (
            *("diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "oft_diag", "rescale"),
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
            *("bias_indices", "bias_values", "bias_size"),
            # Known so that they are refused by their names.
            *("lambda_layer", "set_weight", "reshape_weight", "oft_r", "oft_s", "lora_embedding_A", "lora_embedding_B"),
            "lora_E",
        )
    },
}
_IA3 = ".weight"  # beside `.on_input` alone, as everything ends so
_BY_LENGTH = sorted(LEAVES, key=len, reverse=True)
# PEFT puts the adapter's name between the leaf and its end: lora_A.default.weight
_NAMED = re.compile(
    r"\.(lora_[AB]|lora_E|lora_embedding_[AB]|lora_magnitude_vector|oft_R)\.(?!weight$|bias$|scaled_oft$)[^.]+(?=\.(?:weight|bias|scaled_oft)$|$)"
)
# The names of the first attention processors.
_PROCESSOR = re.compile(r"\.(attn[12])\.to_(q|k|v|out\.0)$")
# OneTrainer's OMI names have every upsampler behind an attention, which those of levels without one do not have.
_LONE_UPSAMPLER = re.compile(r"(output_blocks_\d+)_1_conv")
_TEXT_ATTENTION = re.compile(r"\.self_attn\.(q|k|v|out)_proj$")


def module_names(unet: UNetConfig | None, text: CLIPTextConfig | None) -> dict[str, Module]:
    """Every name, dots as underscores, by which a file may mean a module of these components."""
    found: dict[str, Module] = {}
    for slot, prefixes, names in (
        ("unet", _UNET, dict(_unet_names(unet)) if unet else {}),
        ("text_encoder", _TEXT, dict(_text_names(text)) if text else {}),
    ):
        for prefix in prefixes:
            for name, module in names.items():
                found.setdefault(prefix + name, (slot, module))
    return found


def _unet_names(config: UNetConfig) -> Iterator[tuple[str, str]]:
    table = unet_table(config)
    names = kohya(table)
    yield from names.items()
    yield from (
        (f"{match[1]}_2_conv", name) for key, name in names.items() if (match := _LONE_UPSAMPLER.fullmatch(key))
    )
    for name in modules(table):
        if match := _PROCESSOR.search(name):
            leaf = match[2].removesuffix(".0")
            yield _flat(f"{name[: match.start()]}.{match[1]}.processor.to_{leaf}"), name


def _text_names(config: CLIPTextConfig) -> Iterator[tuple[str, str]]:
    for name in modules(clip_table(config)):
        for spelled in (name, name.removeprefix("text_model.")):
            yield _flat(spelled), name
            if match := _TEXT_ATTENTION.search(spelled):
                yield _flat(f"{spelled[: match.start()]}.self_attn.to_{match[1]}"), name


def _flat(name: str) -> str:
    return name.replace(".", "_")


def split_key(key: str, present: Collection[str]) -> tuple[str, str] | None:
    """The module's name, dots as underscores, and the leaf; None for a key that ends in no leaf.

    `present` are all keys of the file: what some of them mean, others tell.
    """
    key = _NAMED.sub(r".\1", key)
    for suffix in _BY_LENGTH:
        if key.endswith(suffix):
            return _flat(key.removesuffix(suffix)), LEAVES[suffix]
    if key.endswith(_IA3) and key.removesuffix(_IA3) + ".on_input" in present:
        return _flat(key.removesuffix(_IA3)), "ia3_weight"
    return None


# ComfyUI holds text encoders whole: their projection, and after the 23 layers of 2.x the last one, which nothing uses.
_UNUSED = re.compile(
    r"text_encoders\.(clip_[lh]\.transformer\.text_projection|clip_h\.transformer\.text_model\.encoder\.layers\.23)\."
)


def is_unused(key: str) -> bool:
    """Whether a key that fits no module is of a part that Stable Diffusion 1 and 2 do not use."""
    return _UNUSED.match(key) is not None


# How files of each dialect are told, by the beginning and the leaf of a key; the first row that fits is taken.
_TELLING: tuple[tuple[str, str], ...] = (
    (r"lora_unet_(input_blocks|middle_block|output_blocks)_", "kohya, original block names"),
    (r"lora_(unet|te1?|te2)_.*lora_magnitude_vector", "kohya, as diffusers converts to it"),
    (r"lora_(unet|te|te1|te2|prior|transformer)_", "kohya"),
    (r"lycoris_", "LyCORIS"),
    (r"oft_(unet|te)_", "kohya OFT"),
    (r".*\.processor\.to_\w+_lora\.", "diffusers, oldest"),
    (r".*\.to_\w+_lora\.(down|up)\.", "diffusers, oldest"),
    (r"(.*\.)?base_model\.model\.", "PEFT"),
    (r"(diffusion_model|text_encoders)\.", "ComfyUI"),
    (r"diffusion_model_", "slider"),
    (r".*\.lora_[AB]\b", "diffusers, PEFT form"),
    (r".*\.(lora|lora_linear_layer)\.(down|up)\.", "diffusers"),
    (r"(unet|text_encoder|te|clip_l)[._].*\.(lora_down|lora_up|alpha|dora_scale|oft_R)\b", "OneTrainer"),
)


_LONGEST = 500  # more is no name of a module, and costs time


def dialect_of(keys: Collection[str]) -> str:
    """The dialect that most keys are in, for people; 'unknown' for none that is known."""
    short = [key for key in keys if len(key) < _LONGEST]
    counts = Counter(next((words for mark, words in _TELLING if re.match(mark, key)), "unknown") for key in short)
    return counts.most_common(1)[0][0] if counts else "unknown"


_FAMILIES: tuple[tuple[str, str], ...] = (
    ("lora_te2_", "Stable Diffusion XL"),
    ("text_encoder_2.", "Stable Diffusion XL"),
    ("clip_g.", "Stable Diffusion XL"),
    ("label_emb", "Stable Diffusion XL"),
    ("input_blocks_7_1_transformer_blocks_9", "Stable Diffusion XL"),
    ("motion_modules", "AnimateDiff"),
    ("lora_te3_", "Stable Diffusion 3"),
    ("double_blocks.0.img_attn_qkv", "HunyuanVideo"),
    ("double_blocks", "FLUX"),
    ("single_blocks", "FLUX"),
    ("single_transformer_blocks", "FLUX"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("lora_prior_", "Stable Cascade"),
    ("lora_transformer_", "a transformer model"),
    ("lora_unet_transformer_blocks_", "a transformer model"),
    ("diffusion_model.transformer_blocks.", "a transformer model"),
    ("^transformer_blocks.", "a transformer model"),
    ("cross_attn", "Wan, or a like transformer model"),
    ("feed_forward.w", "Z-Image, or a like transformer model"),
    ("feed_forward_w", "Z-Image, or a like transformer model"),
    ("^transformer.", "a transformer model"),  # text encoders have it further inside
    # An attention of 1.x and 2.x has one block.
    ("attentions.0.transformer_blocks.1.", "Stable Diffusion XL"),
    ("attentions_0_transformer_blocks_1_", "Stable Diffusion XL"),
    (".1.transformer_blocks.1.", "Stable Diffusion XL"),
    ("_1_transformer_blocks_1_", "Stable Diffusion XL"),
)
FAMILIES_BY_WIDTH = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
# Leaves of linear layers whose second axis is the layer's inputs.
_OF_INPUTS = ("down", "hada_w1_b", "diff")
_CONTEXT = re.compile(r"attn2[._](?:processor[._])?to_[kv]")
_OF_TEXT = re.compile(
    r"(lora_te1?_|text_encoder[._]|text_encoders\.clip_[lh]\.|text_model[._]).*(self_attn[._](to_)?[qkv]|mlp[._]fc1)"
)


def family_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The family that the adapter with these keys is for, in words; '' where they do not tell."""
    for mark, family in _FAMILIES:
        start = mark.removeprefix("^")
        if any(key.startswith(start) if start != mark else mark in key for key in shapes):
            return family
    for inputs in (_CONTEXT, _OF_TEXT):
        for key, shape in shapes.items():
            leaf = split_key(key, shapes)
            if leaf and leaf[1] in _OF_INPUTS and len(shape) >= 2 and inputs.search(key):
                return FAMILIES_BY_WIDTH.get(shape[1], "")
    return ""
