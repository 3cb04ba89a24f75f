"""The settings in a graph of ComfyUI: the sampler that the picture comes from, and what its inputs lead to.

A graph is a table of nodes by their ids; an input is a value, or [id, number] for an output of another node.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .foreign import Said, file, number, read_json, table, text
from .record import Ingredient

_MOST_NODES = 5_000
_SAVING = ("SaveImage", "PreviewImage", "Image Save", "SaveAnimatedWEBP", "SaveAnimatedPNG")
_TEXTS = (
    *("text", "text_g", "text_l", "t5xxl", "clip_l", "positive", "negative", "string", "value", "prompt"),
    *("string_a", "string_b", "populated_text"),
)
_OTHER = {"positive": "negative", "negative": "positive"}
# Words of its prompts that name files of embeddings: `embedding:NAME`, with or without folder and ending.
_EMBEDDING = re.compile(r"(?<![^\s()])embedding:([^\s,():]+)")
# What it gives is made of no text, though it is linked to one.
_SILENT = "ConditioningZeroOut"
# Links that lead from a conditioning to none of its texts.
_ASIDE = ("clip", "model", "vae", "control_net", "image", "pixels", "latent", "samples")
_VALUES = ("value", "int", "float", "number", "string", "text")
_NO_LORA = "None"
_MODELS = ("ckpt_name", "unet_name", "model_name")
# What a sampler of parts is linked to.
_SPREAD = ("noise", "guider", "sampler", "sigmas")
# Nodes whose settings are carried over, or which have none.
_KNOWN = (
    *("KSampler", "KSamplerAdvanced", "CheckpointLoader", "CheckpointLoaderSimple", "UNETLoader", "LoraLoader"),
    *("LoraLoaderModelOnly", "CLIPTextEncode", "CLIPSetLastLayer", "VAEDecode", "VAEDecodeTiled", "VAEEncode"),
    *("SamplerCustom", "SamplerCustomAdvanced", "CFGGuider", "KSamplerSelect", "BasicScheduler", "RandomNoise"),
    *("VAELoader", "EmptyLatentImage", "LoadImage", "ConditioningCombine", "ConditioningConcat", "PrimitiveNode"),
    *("PrimitiveString", "PrimitiveStringMultiline", "PrimitiveInt", "PrimitiveFloat"),
    *_SAVING,
)

Node = dict[str, Any]


def said_by_graph(texts: Mapping[str, str]) -> Said | None:
    """What the graph among the texts of a picture says; None where there is none with a sampler."""
    graph = {key: table(node) for key, node in table(read_json(texts.get("prompt"))).items()}
    if not graph or len(graph) > _MOST_NODES or not any("class_type" in node for node in graph.values()):
        return None
    samplers = dict.fromkeys(key for key in graph if _says(graph, key, "steps") and _says(graph, key, "cfg"))
    outputs = [key for key, node in graph.items() if text(node.get("class_type")).startswith(_SAVING)]
    used = dict.fromkeys(_behind(graph, outputs)) if outputs else graph
    ours = next((key for key in used if key in samplers), next(reversed(samplers), None))
    if ours is None:
        return None
    inputs = {name: value for held in _tables(graph, ours) for name, value in held.items()}
    values: dict[str, object] = {
        "prompt": _prompt(graph, inputs, "positive"),
        "negative_prompt": _prompt(graph, inputs, "negative"),
        "steps": _value(graph, inputs.get("steps")),
        "cfg_scale": _value(graph, inputs.get("cfg")),
        "seed": _value(graph, inputs.get("seed", inputs.get("noise_seed"))),
        "sampler": _value(graph, inputs.get("sampler_name")),
        "schedule": _value(graph, inputs.get("scheduler")),
        "strength": _strength(graph, inputs),
    }
    reached = list(_behind(graph, [ours]))
    values["clip_skip"] = next(filter(None, map(_clip_skip, (graph[key] for key in reached))), None)
    return Said("ComfyUI", values, tuple(_files(graph, inputs)), _left(graph, ours, used, samplers))


def _inputs(node: Node) -> Node:
    return table(node.get("inputs"))


def _tables(graph: Mapping[str, Node], key: str) -> list[Node]:
    """The inputs of a sampler: of the nodes that it has some from, and its own, which go before those."""
    own = _inputs(graph[key])
    links = (_link(own.get(name)) for name in _SPREAD)
    return [*(_inputs(graph[link]) for link in links if link is not None and link in graph), own]


def _says(graph: Mapping[str, Node], key: str, name: str) -> bool:
    """Whether a sampler has an input of that name. Asked of all nodes, which may share one that has very many."""
    return any(name in held for held in _tables(graph, key))


def _strength(graph: Mapping[str, Node], inputs: Node) -> object:
    """How strong an edit is: as it says, or by the step at which it begins."""
    denoise, start, steps = (_value(graph, inputs.get(name)) for name in ("denoise", "start_at_step", "steps"))
    first, total = number(start), number(steps)
    if denoise is not None or not first or not total or not 0 < first < total:
        return denoise
    return (total - first) / total


def _link(value: object) -> str | None:
    """The node that an input is linked to."""
    match value:
        case [str() | int() as key, int()]:
            return str(key)
        case _:
            return None


def _behind(graph: Mapping[str, Node], starts: Collection[str], without: Collection[str] = ()) -> Iterator[str]:
    """The nodes that these come from, themselves first, the nearest first; never by inputs of the names `without`."""
    seen = set(starts)
    waiting = deque(starts)
    while waiting:
        key = waiting.popleft()
        if key not in graph:
            continue
        yield key
        links = (_link(value) for name, value in _inputs(graph[key]).items() if name not in without)
        for link in links:
            if link is not None and link not in seen:
                seen.add(link)
                waiting.append(link)


def _value(graph: Mapping[str, Node], value: object) -> object:
    """A value, or that of the node which an input is linked to, where it has one."""
    link = _link(value)
    if link is None:
        return value if isinstance(value, (str, int, float)) else None
    for key in _behind(graph, [link]):
        inputs = _inputs(graph[key])
        plain = [inputs[name] for name in (*_VALUES, "seed", "noise_seed", "steps", "cfg", "denoise") if name in inputs]
        found = next((one for one in plain if isinstance(one, (str, int, float))), None)
        if found is not None:
            return found
    return None


def _prompt(graph: Mapping[str, Node], inputs: Node, side: str) -> str:
    """The texts that the conditioning of this side, 'positive' or 'negative', is made of, the nearest first.

    Nodes that both sides pass through name their inputs, or texts, as a sampler does.
    """
    link, other = _link(inputs.get(side)), _OTHER[side]
    if link is None:
        return _bare(text(inputs.get(side)))
    telling = {key: node for key, node in graph.items() if node.get("class_type") != _SILENT}
    names = [name for name in _TEXTS if name != other]
    parts: dict[str, None] = {}
    for key in _behind(telling, [link], (*_ASIDE, other)):
        held = _inputs(graph[key])
        parts |= {said.strip(): None for name in names if (said := text(held.get(name))).strip()}
    return _bare(", ".join(parts))


def _bare(prompt: str) -> str:
    """The prompt with the words of embeddings as they are here: the bare names of their files."""
    return _EMBEDDING.sub(lambda match: file("embedding", match[1]).name, prompt)


def _clip_skip(node: Node) -> int | None:
    layer = number(_inputs(node).get("stop_at_clip_layer"))
    return int(-layer) - 1 if layer is not None and -100 < layer < -1 else None


def _files(graph: Mapping[str, Node], inputs: Node) -> Iterator[Ingredient]:
    """The checkpoint, and the LoRAs in the order in which they were loaded."""
    link = _link(inputs.get("model"))
    loras: list[Ingredient] = []
    model: Ingredient | None = None
    for key in _behind(graph, [link] if link else []):
        held = _inputs(graph[key])
        name = next((text(held[one]) for one in _MODELS if text(held.get(one))), "")
        if name and model is None:
            model = file("model", name)
        if text(held.get("lora_name")) not in ("", _NO_LORA):
            scale = held.get("strength_model", held.get("lora_model_strength", 1.0))
            te_scale = held.get("strength_clip", held.get("lora_clip_strength", scale))
            loras.append(file("lora", held["lora_name"], scale=scale, te_scale=te_scale))
    yield from ([model] if model else [])
    yield from reversed(loras)


def _left(
    graph: Mapping[str, Node], ours: str, used: Collection[str], samplers: Collection[str]
) -> Mapping[str, object]:
    kinds = Counter(text(graph[key].get("class_type")) for key in used if key != ours and key not in samplers)
    others = [kind for kind in kinds if kind and kind not in _KNOWN]
    vae = next((_inputs(graph[key]).get("vae_name") for key in used if _inputs(graph[key]).get("vae_name")), None)
    more = len([key for key in samplers if key in used]) - 1
    return {
        "nodes": ", ".join(others),
        "other samplers of the graph": more if more > 0 else None,
        "vae": vae,
    }
