"""Files of encoded prompts: `sdedit embed encode` writes them, `--prompt-embeds` reads them.

A safetensors file with `prompt_embeds` and `negative_prompt_embeds` (1, T, C), as the library's call takes them, and
a header that says what made them: no paths and no times, so that equal prompts give equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ..adapters.recognise import taken_for
from ..configs.base import as_object, in_measure
from ..errors import ModelError, shown
from ..options import MAX_ITEMS, Edit, layer_of

if TYPE_CHECKING:
    from ..weights.formats.source import WeightSource

SCHEMA = "sdedit.prompt-embeds/1"
HEADER = "sdedit"
POSITIVE, NEGATIVE = "prompt_embeds", "negative_prompt_embeds"
# What of an edit is settled when its prompts are encoded.
SETTLED = ("prompt", "negative_prompt", "weighting", "long_prompts", "clip_skip")
_MOST_TOKENS = 64 * 77
_MOST_WIDE = 1 << 14


@dataclass(frozen=True)
class PromptFile:
    """Encoded prompts (1, T, C), of which a step without guidance reads the first `own` tokens, and what made them.

    `negative_1TC` is None in a file of others that has none. `said` are options of an edit, `model` its name and hash,
    `loras` the hashes of those whose text side is in it.
    """

    path: Path
    prompt_1TC: Tensor
    negative_1TC: Tensor | None
    own: int
    said: Mapping[str, Any] = field(default_factory=dict[str, Any])
    model: tuple[str, str] = ("", "")
    loras: tuple[str, ...] = ()

    def check(self, width: object) -> None:
        """Raises ModelError when a UNet whose text is `width` wide cannot read them."""
        found = self.prompt_1TC.shape[-1]
        if isinstance(width, int) and found != width:
            made = f", made with the model '{shown(self.model[0])}'" if self.model[0] else ""
            raise ModelError(
                f"{self.path}: its embeddings have {found} numbers a token{made}, and this model's UNet takes {width} "
                "(768: Stable Diffusion 1.x, 1024: 2.x); encode the prompts with a model of this family"
            )

    def embeds(self, guided: bool, like: Tensor) -> Tensor:
        """What the steps read (B, T, C), negative first, where and as precise as `like`. Raises ModelError."""
        if not guided:
            return self.prompt_1TC[:, : self.own].to(like)
        if self.negative_1TC is None:
            raise ModelError(
                f"{self.path}: has no '{NEGATIVE}', which guidance needs; turn that off with a cfg-scale of 1"
            )
        return torch.cat([self.negative_1TC, self.prompt_1TC]).to(like)

    def recorded(self, edit: Edit) -> dict[str, Any]:
        """What a picture records of the edit: the texts, where the file says them, and what else is settled in it."""
        return {**{name: value for name, value in edit.saved().items() if name not in SETTLED}, **self.said}


def read_prompts(path: Path) -> PromptFile:
    """The prompts in a file. Raises ModelError for what is none, and for numbers that are not finite."""
    from ..weights.formats.open import open_weights

    source = open_weights(path)
    names = source.names()
    if POSITIVE not in names or set(names) - {POSITIVE, NEGATIVE}:
        if other := taken_for(source, "prompts"):
            raise ModelError(f"{path}: {other}")
        raise ModelError(
            f"{path}: holds no encoded prompts ('{POSITIVE}' and '{NEGATIVE}' alone); make them with 'sdedit embed "
            "encode'"
        )
    prompt_1TC, *more = (_tensor(source, name) for name in (POSITIVE, NEGATIVE) if name in names)
    for negative_1TC in more:
        if negative_1TC.shape != prompt_1TC.shape:
            found = f"{list(prompt_1TC.shape)} and {list(negative_1TC.shape)}"
            raise ModelError(f"{path}: its two prompts differ in shape, {found}; encode them together")
    said = _header(source)
    own, tokens = said.get("tokens"), prompt_1TC.shape[1]
    if not isinstance(own, int) or not 0 < own <= tokens:
        own = tokens
    edit = as_object(said.get("edit"))
    settled = layer_of({key: edit[key] for key in SETTLED if key in edit}, str(path), ModelError).values
    made = as_object(said.get("model"))
    model = (str(made.get("name", "")), str(made.get("sha256", "")))
    return PromptFile(path, prompt_1TC, more[0] if more else None, own, settled, model, _loras(said.get("ingredients")))


def _loras(made_of: object) -> tuple[str, ...]:
    listed = cast("list[object]", made_of)[:MAX_ITEMS] if isinstance(made_of, list) else []
    loras = (one for one in map(as_object, listed) if one.get("kind") == "lora" and one.get("scale") != 0)
    return tuple(sha256 for one in loras if isinstance(sha256 := one.get("sha256"), str))


def _tensor(source: WeightSource, name: str) -> Tensor:
    shape, dtype = source.shape(name), source.dtype(name)
    rows, tokens, width = shape if len(shape) == 3 else (0, 0, 0)
    if not dtype.is_floating_point:
        kind = str(dtype).removeprefix("torch.")
        raise ModelError(f"{source.path}: '{name}' is {kind}; expected floats. Encode the prompts again")
    if rows != 1 or not 0 < tokens <= _MOST_TOKENS or not 0 < width <= _MOST_WIDE:
        raise ModelError(f"{source.path}: '{name}' has the shape {list(shape)}; expected (1, tokens, width) of numbers")
    tensor = source.get(name)
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(f"{source.path}: '{name}' has numbers that are not finite; encode the prompts again")
    return tensor


def _header(source: WeightSource) -> Mapping[str, Any]:
    """What our own header says; nothing for a file of others. Raises ModelError for one of a later version."""
    try:
        told = as_object(json.loads(in_measure(source.metadata.get(HEADER, "{}"))))
    except (ValueError, RecursionError):
        raise ModelError(f"{source.path}: its header is damaged; encode the prompts again") from None
    if told and told.get("schema") != SCHEMA:
        raise ModelError(
            f"{source.path}: is of the schema '{shown(told.get('schema'))}', and this version reads {SCHEMA}"
        )
    return told


def write_prompts(
    target: Path, prompts: PromptFile, facts: Mapping[str, Any], *, placed: Callable[[], None] | None = None
) -> None:
    """Writes a file of prompts; `facts` are further parts of the header, and `placed` is called when it is in place.
    Raises OutputError."""
    from ..weights.formats.source import MemorySource
    from ..weights.write.files import OutputFile, write_files
    from ..weights.write.safetensors import items_of

    assert prompts.negative_1TC is not None
    tensors = {POSITIVE: prompts.prompt_1TC, NEGATIVE: prompts.negative_1TC}
    source = MemorySource({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    name, sha256 = prompts.model
    header = {
        "schema": SCHEMA,
        "edit": dict(prompts.said),
        "tokens": prompts.own,
        "model": {"name": name, "sha256": sha256},
        **facts,
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    file = OutputFile("", items_of(source), {HEADER: text})
    write_files(target, [file], placed=placed)
