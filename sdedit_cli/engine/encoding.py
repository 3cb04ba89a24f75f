"""Prompts encoded apart from an edit: by the text encoder and the tokenizer of a checkpoint, and nothing else of it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..configs.unet import UNetConfig
from ..errors import ModelError, NotFiniteError, UsageError, shown
from ..options import Edit
from ..runtime import threads
from ..runtime.device import pick
from ..runtime.dtype import choose
from ..runtime.equip import widen
from ..text.grammar import parse
from ..text.prompt_schedule import is_scheduled
from .components import NAMES, TextEncoding
from .embeddings import with_words
from .events import OnEvent
from .families.sd import SD
from .merging import Merging, merge_files
from .prompt_file import SETTLED, PromptFile
from .prompts import PromptEncoder

if TYPE_CHECKING:
    from ..adapters.embedding import TextualInversion
    from ..weights import Checkpoint


def check_constant(edit: Edit) -> None:
    """Raises UsageError for a prompt that changes over the steps: it depends on how many there are."""
    for text in (edit.prompt, edit.negative_prompt) if edit.weighting else ():
        if is_scheduled(parse(text)):
            raise UsageError(
                f"'{text}' changes over the steps of an edit, and a file holds prompts that stay; encode its parts "
                "each to a file, or take the square brackets and bars out (without weighting they are text)"
            )


@torch.no_grad()
def encode_prompts(edit: Edit, checkpoint: Checkpoint, tell: OnEvent) -> PromptFile:
    """The prompts of `edit` as embeddings, as its own steps would read them.

    Raises ModelError for a checkpoint without a text encoder, UsageError for a prompt that changes over the steps.
    """
    check_constant(edit)
    threads.use(edit.threads)
    device = pick(edit.device)
    side = text_side(checkpoint, device, choose(edit.dtype, device), partial=edit.partial)
    tokenizer = side.tokenizer
    bundled: list[TextualInversion] = []
    if edit.lora:
        merging = Merging({"text_encoder": side.text_encoder})
        for adapter in merge_files(edit.lora, merging, unet_of(checkpoint), partial=edit.partial):
            tell("adapter", adapter.facts())
            bundled += adapter.words
    if edit.embedding or bundled:
        tokenizer = with_words(side, edit.embedding, bundled, lambda word: tell("adapter", {"summary": word}))
    encoder = PromptEncoder(SD, replace(side, tokenizer=tokenizer), tokenizer)
    text, alone = (encoder.encode(edit, guided) for guided in (True, False))
    for cut in dict.fromkeys((*text.truncated, *alone.truncated)):
        tell("truncated", {"text": cut, "limit": tokenizer.model_max_length})
    if not bool(torch.isfinite(text.embeds_BTC).all()):
        raise NotFiniteError("the embeddings are not finite, so nothing was written; try --dtype fp32")
    negative_1TC, prompt_1TC = text.embeds_BTC[:1], text.embeds_BTC[1:]
    said = {name: value for name, value in edit.saved().items() if name in SETTLED}
    return PromptFile(Path(), prompt_1TC, negative_1TC, alone.embeds_BTC.shape[1], said)


def text_side(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype | None, *, partial: bool
) -> TextEncoding:
    """The text encoder and the tokenizer of a checkpoint, as an edit would load them. Raises ModelError."""
    from ..weights import load_networks
    from ..weights.checkpoint.checkpoint import check_runnable

    check_runnable(checkpoint)
    if "text_encoder" not in checkpoint.components:
        raise ModelError(f"{checkpoint.path}: has no text encoder to read prompts with; give a complete checkpoint")
    others = [name for name in NAMES if name not in ("text_encoder", "tokenizer")]
    loaded = load_networks(checkpoint, dtype=dtype, partial=partial, skip=others)
    assert loaded.text_encoder is not None
    if loaded.tokenizer is None:
        raise ModelError(f"{checkpoint.path}: has no tokenizer to read prompts with; give a complete checkpoint")
    widen(loaded.text_encoder.to(device), device)
    return TextEncoding(loaded.text_encoder, loaded.tokenizer)


def unet_of(checkpoint: Checkpoint) -> UNetConfig:
    """The config of the checkpoint's UNet, by which modules of adapters are told. Raises ModelError without one."""
    unet = checkpoint.components.get("unet")
    if unet is None or not isinstance(unet.config, UNetConfig):
        raise ModelError(f"{checkpoint.path}: has no UNet, whose names tell what a LoRA is for; leave --lora out")
    return unet.config


def encoder_hash(checkpoint: Checkpoint) -> str:
    """The SHA-256 of the text encoder's tensors, by name and in the precision of the file; '' without one."""
    component = checkpoint.components.get("text_encoder")
    if component is None:
        return ""
    digest = hashlib.sha256()
    for name in sorted(component.tensors.names()):
        tensor = component.tensors.get(name)
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        component.tensors.release(name)
    return digest.hexdigest()


def vectors_of(checkpoint: Checkpoint, text: str, count: int | None) -> Tensor:
    """The rows (N, C) of a checkpoint's table of tokens for a text: `count` spread over them, or one for each token.

    Raises ModelError for a checkpoint without a text encoder, UsageError for a text without a token.
    """
    component, tokenizer = checkpoint.components.get("text_encoder"), checkpoint.tokenizer()
    if component is None or tokenizer is None:
        raise ModelError(f"{checkpoint.path}: has no text encoder to take words from; give a complete checkpoint")
    ids = tokenizer.ids(text)
    if not ids:
        raise UsageError("the text has no word; say what the embedding shall begin as, such as 'a tabby cat'")
    table_VC = component.tensors.get("text_model.embeddings.token_embedding.weight")
    if max(ids) >= len(table_VC):
        raise ModelError(f"{checkpoint.path}: its tokenizer knows more words than its text encoder has vectors")
    if count is not None:
        ids = [ids[number * len(ids) // count] for number in range(count)]
    found_NC = table_VC[ids].float()
    if not bool(torch.isfinite(found_NC).all()):
        raise ModelError(f"{checkpoint.path}: its vectors for '{shown(text)}' are not finite; download the model again")
    return found_NC
