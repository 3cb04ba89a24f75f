"""Which texts of a graph of ComfyUI are the prompt and which the negative one, whatever nodes they pass through."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from sdedit_cli.pictures.foreign import found_of
from sdedit_cli.pictures.foreign_graph import said_by_graph
from sdedit_cli.pictures.record import Found, Ingredient


def node(kind: str, **inputs: object) -> dict[str, object]:
    return {"class_type": kind, "inputs": inputs}


ENCODED = {
    "1": node("CheckpointLoaderSimple", ckpt_name="ponds.safetensors"),
    "5": node("CLIPTextEncode", text="good cat", clip=["1", 1]),
    "6": node("CLIPTextEncode", text="bad dog", clip=["1", 1]),
}
BOTH = {"positive": ["5", 0], "negative": ["6", 0]}


def found_in(nodes: Mapping[str, object], positive: object, negative: object) -> Found:
    shared = {"seed": 1, "steps": 20, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5}
    sampler = node("KSampler", **shared, model=["1", 0], positive=positive, negative=negative)
    said = said_by_graph({"prompt": json.dumps({**nodes, "9": sampler})})
    assert said
    return found_of(said, "x.png")


def prompts(found: Found) -> tuple[str, str]:
    values = found.layer.values
    return values.get("prompt", ""), values.get("negative_prompt", "")


@pytest.mark.parametrize(
    "between",
    [
        [node("ControlNetApplyAdvanced", **BOTH, strength=1.0, control_net=["1", 0], image=["1", 0])],
        [node("InpaintModelConditioning", **BOTH, vae=["1", 2], pixels=["1", 0], mask=["1", 1])],
        [
            node("ControlNetApplyAdvanced", **BOTH),
            node("ACN_AdvancedControlNetApply_v2", positive=["20", 0], negative=["20", 1]),
        ],
    ],
    ids=["a ControlNet", "a model for inpainting", "two in a row"],
)
def test_a_node_that_both_pass_through_mixes_none_of_them(between: list[dict[str, object]]) -> None:
    passed = {str(20 + n): one for n, one in enumerate(between)}
    last = str(19 + len(between))
    assert prompts(found_in({**ENCODED, **passed}, [last, 0], [last, 1])) == ("good cat", "bad dog")


def test_a_node_that_has_both_texts_gives_each_its_own() -> None:
    facts = {"ckpt_name": "ponds.ckpt", "lora_name": "None", "lora_model_strength": 1, "lora_clip_strength": 1}
    found = found_in(
        {"1": node("Efficient Loader", **facts, positive="good cat", negative="bad dog")}, ["1", 1], ["1", 2]
    )
    assert prompts(found) == ("good cat", "bad dog")
    assert found.ingredients == (Ingredient("model", "ponds"),)
    facts |= {"lora_name": "a.safetensors", "lora_model_strength": 0.5, "lora_clip_strength": 0.25}
    found = found_in(
        {"1": node("Efficient Loader", **facts, positive=["5", 0], negative="bad dog")}, ["1", 1], ["1", 2]
    )
    assert found.ingredients == (Ingredient("model", "ponds"), Ingredient("lora", "a", "", 0.5, 0.25))


def test_a_conditioning_of_zeros_says_nothing() -> None:
    nodes = {**ENCODED, "20": node("ConditioningZeroOut", conditioning=["5", 0])}
    assert prompts(found_in(nodes, ["5", 0], ["20", 0])) == ("good cat", "")


@pytest.mark.parametrize(
    "source",
    [
        node("StringConcatenate", string_a="good", string_b="cat", delimiter=", "),
        node(
            "ImpactWildcardProcessor", wildcard_text="{good|bad}, __pet__", populated_text="good, cat", mode="populate"
        ),
    ],
    ids=["joined", "drawn"],
)
def test_a_text_of_another_node_is_the_prompt(source: dict[str, object]) -> None:
    nodes = {**ENCODED, "20": source, "5": node("CLIPTextEncode", text=["20", 0], clip=["1", 1])}
    assert prompts(found_in(nodes, ["5", 0], ["6", 0])) == ("good, cat", "bad dog")


@pytest.mark.parametrize("kind", ["PrimitiveNode", "PrimitiveString", "PrimitiveStringMultiline"])
def test_a_node_that_holds_a_value_is_not_told_as_left_out(kind: str) -> None:
    nodes = {**ENCODED, "20": node(kind, value="good"), "5": node("CLIPTextEncode", text=["20", 0], clip=["1", 1])}
    found = found_in(nodes, ["5", 0], ["6", 0])
    assert prompts(found) == ("good", "bad dog")
    assert found.ignored == ()


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("blurry, embedding:onet", "blurry, onet"),
        ("embedding:easy.safetensors, ugly", "easy, ugly"),
        ("(embedding:bad.pt:1.2), ((embedding:sub/worse.v2.pt))", "(bad:1.2), ((worse.v2))"),
        ("blurry\nembedding:sub\\onet:", "blurry\nonet:"),
        ("my embedding: a word, re-embedding:x, Embedding:x", "my embedding: a word, re-embedding:x, Embedding:x"),
    ],
)
def test_an_embedding_becomes_the_word_that_it_is_here(said: str, read: str) -> None:
    nodes = {**ENCODED, "6": node("CLIPTextEncode", text=said, clip=["1", 1])}
    assert prompts(found_in(nodes, ["5", 0], ["6", 0])) == ("good cat", read)
    assert prompts(found_in({"1": node("Loader", positive=said, negative="")}, ["1", 1], ["1", 2])) == (read, "")
