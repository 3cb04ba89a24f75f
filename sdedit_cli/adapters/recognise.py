"""What a file of an adapter is, told by the names and shapes in it: no tensor is read but for norms.

LoRA and its relatives, textual inversions, IP-Adapters, hypernetworks, and prompts that are encoded already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..configs.base import as_object, object_in
from ..errors import ModelError, shown
from ..names.hypernetwork import OF_HYPERNETWORK
from ..weights.formats.source import WeightSource
from .bundled import bundled_names
from .deltas import Misfit, kinds_of
from .dialects import FAMILIES_BY_WIDTH, family_of, split_key
from .embedding_files import MOST_VECTORS, NAMELESS, find_embedding, is_bookkeeping, open_embedding
from .open import adapter_keys, find_adapter

_MOST_WORDS = 1000
_FOLDERS = ("adapter_model.", "pytorch_lora_weights.")  # what begins the names of weights in a folder of a LoRA
_XL = "Stable Diffusion XL"
# Names of single tensors of networks: an embedding is called by its word.
_NO_WORDS = {"weight", "bias"}
_PROMPTS = ("prompt_embeds", "negative_prompt_embeds")
_HEADER = "sdedit"
_FIRST = ("prompt", "negative_prompt")
_OF_CLONEOFSIMO = re.compile(r"(unet|text_encoder):\d+:(up|down)$")


@dataclass(frozen=True)
class Word:
    """A word of an embedding: its name, the tensor of its vectors, how many they are and how wide."""

    name: str
    key: str
    vectors: int
    width: int

    def norms(self, source: WeightSource) -> list[float]:
        """The norm of each vector; this reads them. Raises ModelError where they are not finite."""
        vectors_NC = source.get(self.key).detach().double().reshape(-1, self.width)
        found = (vectors_NC * vectors_NC).sum(dim=1).sqrt()
        if not bool(found.isfinite().all()):
            raise ModelError(f"{source.path}: '{shown(self.name)}' has numbers that are not finite")
        return [float(norm) for norm in found]


@dataclass(frozen=True)
class Recognised:
    """What a file is: its `type` for programs, `kind` for people, the `family` it is for ('' where nothing tells it),
    `note` why it is not used by this program, `made` what it says of its making, `header` where in the metadata."""

    type: str
    kind: str
    family: str = ""
    note: str = ""
    words: tuple[Word, ...] = ()
    made: Mapping[str, str] = field(default_factory=dict[str, str])
    header: str = ""


def adapter_in(folder: Path) -> Path | None:
    """The weights file of a folder that is an adapter's, as trainers write them; None for any other folder."""
    names = {entry.name for entry in folder.iterdir()}
    if any(name.startswith(_FOLDERS) for name in names):
        return find_adapter(folder)
    return find_embedding(folder) if any(name.startswith("learned_embeds.") for name in names) else None


def in_picture(path: Path) -> Recognised | None:
    """The embedding that is kept in a picture; None for any other picture."""
    try:
        return recognised(open_embedding(path))
    except ModelError:
        return None


def recognised(source: WeightSource) -> Recognised | None:
    """What adapter a file is, None for what is none."""
    names = source.names()
    return next((found for tell in _TELLING if (found := tell(source, names)) is not None), None)


# type -> what such a file is called, and where it is to be given
_USED: Mapping[str, tuple[str, str]] = {
    "lora": ("a LoRA or one of its relatives", "--lora"),
    "embedding": ("an embedding", "--embedding"),
    "ip_adapter": ("an IP-Adapter", "--ip-adapter"),
    "prompts": ("a file of encoded prompts", "--prompt-embeds"),
    "hypernetwork": ("a hypernetwork", ""),  # which has a note, and no option
}


_CLONEOFSIMO = "is a LoRA of cloneofsimo's trainer, whose factors have numbers for names; convert it with that trainer"

# Parts of names in files that are no adapters, a dot before them, -> what they are.
_NETWORKS: Mapping[str, str] = {
    **dict.fromkeys(
        (".control_model.", ".controlnet_cond_embedding.", ".controlnet_down_blocks.", ".input_hint_block."),
        "is a ControlNet, which is not run",
    ),
    **dict.fromkeys(
        (".adapter.body.", ".adapter.channel_in.", ".body.0.block1."), "is a T2I-Adapter, which is not run"
    ),
    ".lora_controlnet": "is a Control-LoRA, which is not run",
    ".lllite_unet_": "is a ControlNet-LLLite, which is not run",
    ".motion_modules.": "is a motion module of AnimateDiff, which is not run",
    ".model.diffusion_model.": "is a checkpoint; give it to -m",
    **dict.fromkeys((".first_stage_model.", ".decoder.conv_in.", ".decoder.mid_block."), "is a VAE; give it to --vae"),
    ".text_model.": "is a text encoder of a model",
    "_custom_diffusion.": "is of Custom Diffusion, which is not run",
    ".unet:0:": _CLONEOFSIMO,
    ".text_encoder:0:": _CLONEOFSIMO,
    ".down_blocks.0.resnets.0.conv1.": "is a UNet of a model; give the model to -m",
}


def taken_for(source: WeightSource, wanted: str) -> str:
    """For an error: what a file is that was taken for one of the type `wanted`, and where to give it.

    '' for one that is not known, or is of that type after all.
    """
    found = recognised(source)
    if found is None:
        names = source.names()
        told = ((mark in f".{name}", words) for mark, words in _NETWORKS.items() for name in names)
        return next((words for is_one, words in told if is_one), "")
    if found.type == wanted:
        return ""
    called, option = _USED[found.type]
    # Of a LoRA the note says what is wrong with modules, which its own option tells in full.
    return f"is {called}: {found.note}" if found.note and found.type != "lora" else f"is {called}; give it to {option}"


def _prompts(source: WeightSource, names: Collection[str]) -> Recognised | None:
    if _PROMPTS[0] not in names or set(names) - {*_PROMPTS} or len(source.shape(_PROMPTS[0])) != 3:
        return None
    _, tokens, width = source.shape(_PROMPTS[0])
    made = {"vectors": f"{tokens} tokens of {width} numbers"}
    told = object_in(source.metadata.get(_HEADER, "{}")) or {}
    edit = as_object(told.get("edit"))
    made |= {key.replace("_", " "): str(edit[key]) for key in dict.fromkeys([*_FIRST, *edit]) if key in edit}
    made |= {f"model {key}": str(value) for key, value in as_object(told.get("model")).items()}
    return Recognised("prompts", "encoded prompts", FAMILIES_BY_WIDTH.get(width, ""), made=made, header=_HEADER)


def _hypernetwork(source: WeightSource, names: Collection[str]) -> Recognised | None:
    if not names or not all(map(OF_HYPERNETWORK.match, names)):
        return None
    widths = sorted({int(name.split(".")[0]) for name in names})
    family = next((FAMILIES_BY_WIDTH[width] for width in widths if width in FAMILIES_BY_WIDTH), "")
    told = {key.replace("_", " "): str(source.extras[key]) for key in _SAID if source.extras.get(key)}
    made = {"widths": ", ".join(map(str, widths)), **told}
    return Recognised(
        "hypernetwork", "hypernetwork", family, "only web UIs run those, and this program does not", made=made
    )


_SAID = ("name", "step", "activation_func", "sd_checkpoint_name")


def _ip_adapter(source: WeightSource, names: Collection[str]) -> Recognised | None:
    if any(name.startswith("image_proj_model.") for name in names) or any("processor.to_k_ip." in n for n in names):
        note = "its parts have to be named image_proj.* and ip_adapter.*, as the scripts of its trainer do"
        return Recognised("ip_adapter", "a training dump of an IP-Adapter", note=note)
    inner = {name.removeprefix("image_proj.") for name in names if name.startswith("image_proj.")}
    if not inner or not any(name.startswith("ip_adapter.") for name in names):
        return None
    key = next((name for name in names if name.endswith("to_k_ip.weight")), "")
    shape = source.shape(key) if key else ()
    family = FAMILIES_BY_WIDTH.get(shape[1], "") if len(shape) == 2 else ""
    of_faces = any(".to_q_lora." in name for name in names) or any(n.startswith("perceiver_resampler.") for n in inner)
    if of_faces or ("proj.2.weight" in inner and "proj.3.weight" not in inner):
        plus = " plus" if any(n.startswith("perceiver_resampler.") for n in inner) else ""
        return Recognised(
            "ip_adapter", f"IP-Adapter FaceID{plus}", family, "it needs a face recogniser, and is not run"
        )
    kind = next((words for mark, words in _PROJECTIONS.items() if mark in inner), "of a form that is not known")
    return Recognised("ip_adapter", f"IP-Adapter, {kind}", family, f"it is for {_XL}" if family == _XL else "")


_PROJECTIONS = {"latents": "plus", "proj.3.weight": "full-face", "proj.weight": "base"}


def _embedding(source: WeightSource, names: Collection[str]) -> Recognised | None:
    held = [name for name in names if not is_bookkeeping(name)]
    if any(map(_OF_CLONEOFSIMO.match, held)):
        return None
    if not 0 < len(held) <= _MOST_WORDS or not all(_fits(source, name) for name in held):
        return None
    keys, extras = set(held), source.extras
    inner = extras.get("name")
    named = inner if isinstance(inner, str) else source.path.stem
    words = tuple(
        Word(named if _is_nameless(key) else key, key, _rows(shape := source.shape(key)), shape[-1]) for key in held
    )
    layout, note = _layout(keys), ""
    family = _XL if "clip_g" in keys else FAMILIES_BY_WIDTH.get(words[0].width, "")
    if "clip_g" in keys:
        note = f"it is for {_XL}"
    elif "emp_params_out" in keys:
        note = "it has vectors that are added after the text encoder, which are not read"
    elif len(held) > 1:
        note = f"it holds {len(held)} words where an embedding has one"
    told = {key: str(extras[key]) for key in ("step", "sd_checkpoint", "sd_checkpoint_name") if extras.get(key)}
    return Recognised("embedding", layout, family, note, words, told)


def _layout(keys: Collection[str]) -> str:
    if any(key.startswith("string_to_param.") for key in keys):
        return "embedding, A1111"
    known = {
        "emb_params": "kohya",
        "emp_params": "OneTrainer",
        "clip_l": "by encoder",
        "clip_g": "by encoder",
        "": "a bare tensor, as aesthetic gradients of web UIs are too",
    }
    return f"embedding, {next((words for key, words in known.items() if key in keys), 'diffusers')}"


def _is_nameless(key: str) -> bool:
    return key in NAMELESS or key.startswith("string_to_param.") or key in ("clip_g", "emp_params_out")


def _fits(source: WeightSource, name: str) -> bool:
    shape = source.shape(name)
    # Dots are of networks, and of a word where it is alone, with vectors of a width that text encoders take.
    alone = len(source.names()) == 1 and shape[-1:] and shape[-1] in (768, 1024, 1280)
    of_network = name.rpartition(".")[2] in _NO_WORDS or ("." in name.strip(".") and not alone)
    is_word = _is_nameless(name) or not of_network
    is_shaped = len(shape) in (1, 2) and 0 < _rows(shape) <= MOST_VECTORS and shape[-1] > 1
    return is_word and is_shaped and source.dtype(name).is_floating_point


def _rows(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1


def _lora(source: WeightSource, names: Collection[str]) -> Recognised | None:
    present = set(names)
    keys = adapter_keys(names)
    leaves: dict[str, dict[str, str]] = {}
    count = 0
    for key in keys:
        split = split_key(key, present)
        if split is not None:
            count += 1
            leaves.setdefault(split[0], {})[split[1]] = key
    kinds: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    for own in leaves.values():
        try:
            kinds.update(kind.words for kind in kinds_of(own))
        except Misfit as problem:
            problems[str(problem)] += 1
    if not leaves or count * 2 < len(keys):
        return None
    parts = kinds or {"none is whole": len(leaves)}
    made = {"modules": ", ".join(f"{words} ({number})" for words, number in Counter(parts).most_common())}
    if len(keys) > count:
        made["other keys"] = str(len(keys) - count)
    if words := bundled_names(names):
        made["bundled words"] = ", ".join(shown(word) for word in words[:20])
    family = family_of({key: source.shape(key) for key in keys})
    first = "LoRA" if "LoRA" in kinds else next(iter(kinds), "LoRA")
    return Recognised("lora", first, family, "; ".join(told_of(problems)), made=made)


def told_of(problems: Mapping[str, int]) -> list[str]:
    """What is wrong with modules, each reason with how many it is true of."""
    return [f"{shown(why, 160)} ({count} {'module' if count == 1 else 'modules'})" for why, count in problems.items()]


_TELLING: tuple[Callable[[WeightSource, Collection[str]], Recognised | None], ...] = (
    _prompts,
    _hypernetwork,
    _ip_adapter,
    _embedding,
    _lora,
)
