"""Whatever comes in between, adapters leave no trace: Ctrl-C anywhere, errors of callbacks, strengths too large."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.interruptions import Interruption
from helpers.loras import DIALECTS, factors
from helpers.pipelines import picture
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import ModelError, SdeditError

TABLE = "text_model.embeddings.token_embedding"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Call = Callable[[Any], object]


@pytest.fixture(scope="module")
def state(folder: Path) -> dict[str, Tensor]:
    """A LoRA that changes embeddings too, and brings a word."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    made = DIALECTS["kohya"](pipe, factors(pipe, everything=False))
    generator = torch.Generator().manual_seed(1)
    like: Any = pipe.components["text_encoder"].get_submodule(TABLE).weight
    made[f"lora_te_{TABLE.replace('.', '_')}.diff"] = torch.randn(like.shape, generator=generator)
    return {**made, "bundle_emb.zwx.emb_params": torch.randn(2, like.shape[1], generator=generator)}


def digests(pipe: Any) -> dict[str, str]:
    parts = {(s, k): v for s in ("unet", "text_encoder") for k, v in getattr(pipe, s).state_dict().items()}
    return {
        f"{slot}.{name}": hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        for (slot, name), tensor in parts.items()
    }


def asked(pipe: Any, **more: Any) -> Any:
    call = {"image": picture(), "num_inference_steps": 2, "strength": 0.5, "output_type": "latent"}
    return pipe("a zwx <e> cat", **call, cross_attention_kwargs={"scale": 0.4}, **more)


def raises(*_: Any) -> Any:
    raise ZeroDivisionError


def calls(state: Mapping[str, Tensor], draw: random.Random) -> dict[str, tuple[Call, int]]:
    """Calls by name, and about how many lines of ours they run."""
    name = draw.choice("ab")
    word = {"<e>": torch.ones(2, 32)}
    return {
        "load": (lambda pipe: pipe.load_lora_weights(dict(state), name), 9000),
        "swap": (lambda pipe: pipe.load_lora_weights(dict(state), name, hotswap=True), 9000),
        "set": (lambda pipe: pipe.set_adapters(pipe.get_active_adapters(), draw.choice([0.5, 0.0])), 3000),
        "delete": (lambda pipe: pipe.delete_adapters(name), 2500),
        "fuse": (lambda pipe: pipe.fuse_lora(lora_scale=0.5), 2500),
        "unfuse": (lambda pipe: pipe.unfuse_lora(), 2500),
        "disable": (lambda pipe: pipe.disable_lora(), 2500),
        "enable": (lambda pipe: pipe.enable_lora(), 2500),
        "learn": (lambda pipe: pipe.load_textual_inversion(word), 200),
        "forget": (lambda pipe: pipe.unload_textual_inversion(), 60),
        "call": (asked, 6000),
        "a callback that raises": (lambda pipe: asked(pipe, callback_on_step_end=raises), 6000),
        "encode": (lambda pipe: pipe.encode_prompt("a cat", lora_scale=0.3), 5000),
    }


@pytest.mark.filterwarnings("ignore:.* is (loaded, and adapters are disabled|fused already):UserWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nothing_is_left_after_calls_that_were_interrupted(
    dtype: torch.dtype, folder: Path, state: dict[str, Tensor]
) -> None:
    """Once, or again while the first is dealt with. All is let go of in any order then: the base is there by hash."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    base, interrupted, finished = digests(pipe), 0, 0
    length = len(pipe.tokenizer or ())
    for seed in range(40):
        draw = random.Random(seed)
        if seed % 2:
            pipe.load_lora_weights(dict(state), "a")
        for _ in range(4):
            call, lines = draw.choice(list(calls(state, draw).values()))
            at = draw.randint(1, draw.choice([60, 400, lines, lines * 20]))
            watched = Interruption(at, again=draw.choice([0, draw.randint(1, 60)]))
            try:
                with watched.watching():
                    call(pipe)
            except (KeyboardInterrupt, SdeditError, ZeroDivisionError):
                pass
            interrupted += watched.hits
            finished += not watched.hits
        ends: list[Call] = [lambda p: p.unload_lora_weights(), lambda p: p.unfuse_lora()]
        ends.append(lambda p: p.unload_textual_inversion())
        draw.shuffle(ends)
        for end in ends:
            end(pipe)
        assert digests(pipe) == base, seed
        assert len(pipe.tokenizer or ()) == length
    assert interrupted > 55
    assert finished > 60


def test_a_strength_that_is_too_large_leaves_all_as_it_was(folder: Path, state: dict[str, Tensor]) -> None:
    """Also what is said to be fused: another call would fail of it."""
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=torch.float16)
    base = digests(pipe)
    pipe.load_lora_weights(state, "a")
    at_work = digests(pipe)
    for too_much in (
        lambda: pipe.fuse_lora(lora_scale=1e9),
        lambda: pipe.set_adapters("a", 1e9),
        lambda: pipe.encode_prompt("a cat", lora_scale=1e9),
        lambda: asked(pipe, guidance_scale=1e9, callback_on_step_end=raises),
    ):
        with pytest.raises((ModelError, ZeroDivisionError)):
            too_much()
        assert digests(pipe) == at_work
        assert pipe.fused_loras == set()
    pipe.set_adapters("a", 0.5)
    assert base != digests(pipe) != at_work
    pipe.unload_lora_weights()
    assert digests(pipe) == base


@pytest.mark.parametrize("inference", [False, True])
def test_words_and_changes_of_the_table_of_words_go_together(
    inference: bool, folder: Path, state: dict[str, Tensor]
) -> None:
    """In either order: rows of words are as their file has them, and others as the adapter makes them. What is loaded
    in torch's inference mode can be changed outside of it."""
    key = f"{TABLE}.weight"
    delta = state[f"lora_te_{TABLE.replace('.', '_')}.diff"]
    only = {f"lora_te_{TABLE.replace('.', '_')}.diff": delta}
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
    encoder: Any = pipe.text_encoder
    base = encoder.state_dict()[key].clone()
    vectors = torch.full((2, 32), 0.25)
    for order in (0, 1):
        for step in (order, 1 - order):
            with torch.inference_mode(inference):
                if step:
                    pipe.load_textual_inversion({"<e>": vectors})
                else:
                    pipe.load_lora_weights(only, "a")
        for strength in (1.0, -0.5, 0.0):
            pipe.set_adapters("a", strength)
            found = encoder.state_dict()[key]
            assert torch.allclose(found[: len(base)], base + strength * delta, atol=1e-6)
            assert torch.equal(found[len(base) :], vectors)
        pipe.unload_lora_weights()
        assert torch.equal(encoder.state_dict()[key], torch.cat([base, vectors]))
        pipe.unload_textual_inversion()
        assert torch.equal(encoder.state_dict()[key], base)
