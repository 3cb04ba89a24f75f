"""Where the components of a model lie in a single file, and what a file without any of them looks like."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

from ...errors import shown
from ...names import ldm
from ...names.hypernetwork import OF_HYPERNETWORK
from ...names.older import NAME_WRAPPERS

Shapes = Mapping[str, tuple[int, ...]]
Layout = Literal["ldm", "diffusers", "clip", "openclip"]
KindName = Literal["unet", "vae", "tiny_vae", "text_encoder", "text_encoder_2"]
Slot = Literal["unet", "vae", "text_encoder", "text_encoder_2"]
"""Where a component belongs in a model: its folder in the diffusers layout, and the pipeline's argument."""


@dataclass(frozen=True, slots=True)
class Place:
    """A component's place in a file: the names that start with `prefix`, in one of the layouts."""

    kind: KindName
    prefix: str
    layout: Layout

    @property
    def is_bare(self) -> bool:
        """Whether the prefix names no component: the file may then hold anything beside it."""
        return self.prefix in _BARE

    @property
    def slot(self) -> Slot:
        return "vae" if self.kind == "tiny_vae" else self.kind

    def inside(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """The shapes of what lies here, by names without the prefix."""
        cut = len(self.prefix)
        return {name[cut:]: shape for name, shape in shapes.items() if name.startswith(self.prefix)}


# What training scripts put before all names of a file: nothing, or one or two wrappers.
_WRAPPED = ("", *("".join(some) for count in (1, 2) for some in permutations(NAME_WRAPPERS, count)))
_BARE = {wrapper + name for wrapper in _WRAPPED for name in ("", "model.")}

_UNET = ("input_blocks.0.0.weight", "time_embed.0.weight", "out.2.weight")
_UNET_OURS = ("conv_in.weight", "time_embedding.linear_1.weight", "conv_out.weight")
_VAE = ("encoder.conv_in.weight", "encoder.down.0.block.0.conv1.weight", "decoder.conv_out.weight")
_VAE_OURS = ("encoder.conv_in.weight", "encoder.down_blocks.0.resnets.0.conv1.weight", "decoder.conv_out.weight")
_TINY_VAE = ("encoder.layers.0.weight", "decoder.layers.0.weight")
_CLIP = ("text_model.embeddings.token_embedding.weight",)
_BARE_CLIP = ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight")
_OPENCLIP = ("token_embedding.weight", "positional_embedding", "ln_final.weight")

# component, layout, prefixes that files put before its names, names that must be there; the first that fits is taken
_MARKS: tuple[tuple[KindName, Layout, tuple[str, ...], tuple[str, ...]], ...] = (
    ("unet", "ldm", (ldm.UNET, "", "diffusion_model."), _UNET),
    ("unet", "diffusers", ("", "unet."), _UNET_OURS),
    ("vae", "ldm", (ldm.VAE, "", "vae.", "model."), _VAE),
    ("vae", "diffusers", ("", "vae.", "model."), _VAE_OURS),
    ("tiny_vae", "diffusers", ("", "vae."), _TINY_VAE),
    ("text_encoder", "clip", (ldm.CLIP, ldm.SDXL_CLIP, "", "text_encoder."), _CLIP),
    ("text_encoder", "clip", (ldm.CLIP, ldm.SDXL_CLIP, "", "text_encoder."), _BARE_CLIP),
    ("text_encoder", "openclip", (ldm.OPENCLIP, ""), _OPENCLIP),
    ("text_encoder_2", "openclip", (ldm.SDXL_OPENCLIP, ldm.REFINER_OPENCLIP), _OPENCLIP),
)


def find_places(names: Collection[str]) -> dict[Slot, Place]:
    """The components whose marks are among the names of a file."""
    found: dict[Slot, Place] = {}
    for kind, layout, prefixes, marks in _MARKS:
        for prefix in (wrapper + name for wrapper in _WRAPPED for name in prefixes):
            place = Place(kind, prefix, layout)
            if place.slot not in found and all(prefix + mark in names for mark in marks):
                found[place.slot] = place
    return _told_apart(found, names)


# Where a UNet of XL keeps what it reads besides the text, in its two layouts.
ADDED = {"ldm": "label_emb.0.0.weight", "diffusers": "add_embedding.linear_1.weight"}


def _told_apart(found: dict[Slot, Place], names: Collection[str]) -> dict[Slot, Place]:
    """The components, where 2.x in the names of XL's code has its text encoder where XL's refiner has its second."""
    unet, second = found.get("unet"), found.get("text_encoder_2")
    if unet is None or second is None or not second.prefix.endswith(ldm.REFINER_OPENCLIP):
        return found
    if "text_encoder" in found or any(unet.prefix + name in names for name in ADDED.values()):
        return found
    del found["text_encoder_2"]
    found["text_encoder"] = replace(second, kind="text_encoder")
    return found


# The words of LDM's names for the UNet. The second index of a block has one digit, the first may have two.
_WORDS = re.compile(
    r"(?<=put_blocks)\d+(?=\d)|(?<=transformer_blocks)\d+|\d|input_blocks|middle_block|output_blocks|time_embed|label_emb"
    r"|in_layers|emb_layers|out_layers|skip_connection|transformer_blocks|attn[12]|to_[qkv]|to_out|ff|net|norm[123]?"
    r"|proj_in|proj_out|proj|conv|op|out|weight|bias"
)


def restored(names: Collection[str]) -> dict[str, str]:
    """LDM's names of the UNet's parameters -> those of their EMA copies, which lost the dots, among `names`."""
    start = f"{ldm.EMA}diffusion_model"
    copies = {ldm.UNET + ".".join(_WORDS.findall(name[len(start) :])): name for name in names if name.startswith(start)}
    return {name: copy for name, copy in copies.items() if ldm.ema_name(name) == copy}


_LORA = ("lora_unet_", "lora_te_", "lora_A.weight", "lora_embedding_A", "lora.down.weight", "lora_down.weight")
_ELSEWHERE = "give it to {}, and a checkpoint here"
_EMBEDDING = ("a textual inversion embedding", _ELSEWHERE.format("--embedding"))
_NOT_OURS = "give a Stable Diffusion 1.x or 2.x checkpoint"
# parts of names (^ before them, $ behind them), what a file that has one of them is, what to do with it
_OTHER_MODELS = (
    (("double_blocks.",), "a FLUX model", _NOT_OURS),
    (("joint_blocks.",), "a Stable Diffusion 3 model", _NOT_OURS),
    (("clip_txt_mapper.",), "a Stable Cascade model", _NOT_OURS),
    ((".time_stack.", ".time_mixer."), "a Stable Video Diffusion model", _NOT_OURS),
)
_OTHERS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("ip_adapter.", "image_proj."), "an IP-Adapter", _ELSEWHERE.format("--ip-adapter")),  # FaceID has a LoRA within
    (_LORA, "a LoRA", _ELSEWHERE.format("--lora")),
    (("hada_w1_a", "lokr_w1", ".oft_blocks$", ".oft_diag$"), "a LyCORIS adapter", _ELSEWHERE.format("--lora")),
    ((".diff$", ".diff_b$"), "an adapter of whole differences", _ELSEWHERE.format("--lora")),
    (("string_to_param", "emb_params", "emp_params", "^clip_l$", "^clip_g$"), *_EMBEDDING),
    (("^prompt_embeds$",), "a file of encoded prompts", _ELSEWHERE.format("--prompt-embeds")),
    (("^lora_controlnet$",), "a Control-LoRA", _NOT_OURS),
    (("^lllite_",), "a ControlNet-LLLite", _NOT_OURS),
    (("control_model.", "controlnet_cond_embedding.", "input_hint_block."), "a ControlNet", _NOT_OURS),
    (("adapter.body.", "body.0.block1."), "a T2I-Adapter", _NOT_OURS),
    (("rdb1.", "RDB1."), "an upscaler", _ELSEWHERE.format("--upscaler")),
    *_OTHER_MODELS,
    (("motion_modules.",), "an AnimateDiff module", _NOT_OURS),
    (("concept_embeds",), "a safety checker", "give the folder of the whole model to -m"),
    (("vision_model.",), "an image encoder", "give its folder to --ip-encoder, and a checkpoint here"),
    ((".kernel",), "Flax weights", "name their folder, with its config.json, and not the file"),
    ((ldm.EMA + "diffusion_model",), "an EMA copy without its model", "give the checkpoint that it was taken from"),
)


def is_another_model(names: Collection[str], places: Mapping[Slot, Place]) -> bool:
    """Whether what is beside a VAE or a text encoder is no UNet of Stable Diffusion."""
    marks = [mark for marks, _, _ in _OTHER_MODELS for mark in marks]
    if any(mark in name for mark in marks for name in names):
        return True
    return "unet" not in places and any(name.startswith(ldm.UNET) for name in names)


def _is_word(names: Sequence[str]) -> bool:
    """Whether a file has one tensor, called as diffusers calls that of an embedding: by its word."""
    return len(names) == 1 and "." not in names[0] and names[0] not in ("weight", "bias")


def looks_like(names: Sequence[str]) -> str:
    """What a file that holds no component of Stable Diffusion seems to be, and what to try, for an error."""
    if names and all(map(OF_HYPERNETWORK.match, names)):
        return f"looks like a hypernetwork of web UIs, not like a Stable Diffusion checkpoint; {_NOT_OURS}"
    whole = [f"^{name}$" for name in names]
    for marks, kind, advice in (*_OTHERS, (("",), *_EMBEDDING)) if _is_word(names) else _OTHERS:
        if any(mark in name for mark in marks for name in whole):
            return f"looks like {kind}, not like a Stable Diffusion checkpoint; {advice}"
    if {"1.conv.0.weight", "1.weight"} & set(names):
        return "looks like one half of a TAESD in its first layout; give the AutoencoderTiny file in diffusers layout"
    if not names:
        return "holds no tensors; expected a Stable Diffusion checkpoint"
    told = ", ".join(f"'{shown(name)}'" for name in names[:3])
    return f"is no Stable Diffusion checkpoint that is known here: its {len(names)} tensors are named like {told}"
