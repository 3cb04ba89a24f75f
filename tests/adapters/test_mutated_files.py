"""50,000 files of LoRAs, of embeddings and of IP-Adapters with bytes changed: refused in words, or loaded rightly.

A right load is finite, changes what the file names and nothing else, by the numbers that are in the file, and leaves no
trace.
"""

from __future__ import annotations

import functools
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import ip_adapters
from helpers.adapters import drawn, example, forms
from helpers.embeddings import LAYOUTS, WIDTH, as_json, in_pixels, in_text, vectors
from helpers.loras import DIALECTS, factors, kohya
from helpers.mutations import as_json as as_text
from helpers.mutations import changed, changed_bytes, changed_tree
from helpers.tiny.networks import oracle_of, tiny_clip, tiny_unet
from safetensors.torch import load, save_file

from sdedit_cli.adapters.dialects import LEAVES
from sdedit_cli.adapters.embedding import read_embedding
from sdedit_cli.adapters.ip_adapter import examine
from sdedit_cli.adapters.lora import Adapter, read_adapter
from sdedit_cli.adapters.set import AdapterSet
from sdedit_cli.engine.embeddings import places_of
from sdedit_cli.engine.merging import Merging
from sdedit_cli.errors import SdeditError
from sdedit_cli.text import Tokenizer
from sdedit_cli.weights import open_weights

pytest.importorskip("resource", reason="bounds memory and time as Unix does")

CASES, PARTS = 50_000, 4  # of each family, shared by its types
MEMORY = 1_000_000_000
HEAD, TAIL = 3000, 600  # bytes at the ends of a file, where most of what is not numbers stands

torch.set_num_threads(1)


@functools.cache
def model() -> SimpleNamespace:
    blocks = {"block_out_channels": [16], "down_block_types": ["CrossAttnDownBlock2D"], "norm_num_groups": 4}
    unet = tiny_unet(**blocks, up_block_types=["CrossAttnUpBlock2D"], layers_per_block=1)
    return SimpleNamespace(unet=unet, text_encoder=tiny_clip(num_hidden_layers=1, vocab_size=64))


@dataclass(frozen=True)
class Weights:
    """The model's weights, all of them in one tensor, with a copy of it, and where each parameter lies in it."""

    merging: Merging
    now: torch.Tensor
    before: torch.Tensor
    places: Mapping[tuple[str, str], slice]


@functools.cache
def weights() -> Weights:
    networks = {"unet": model().unet, "text_encoder": model().text_encoder}
    named = {(slot, name): p for slot, net in networks.items() for name, p in net.named_parameters()}
    before = torch.cat([p.detach().flatten() for p in named.values()])
    now, places, at = before.clone(), {}, 0
    for key, parameter in named.items():
        places[key] = slice(at, at + parameter.numel())
        parameter.data = now[places[key]].view_as(parameter)
        at += parameter.numel()
    return Weights(Merging(networks), now, before, places)


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.packaged()


def write_lora(path: Path, variant: int) -> None:
    write = list(DIALECTS.values())[variant % len(DIALECTS)]
    save_file(write(model(), few()), path)


def few() -> Any:
    own = list(factors(model(), everything=False, differing=True).items())
    return dict(own[:3] + own[-1:])


def pickle_lora(path: Path, variant: int) -> None:
    write = list(DIALECTS.values())[variant % len(DIALECTS)]
    torch.save(write(model(), few()), path, _use_new_zipfile_serialization=variant % 3 > 0)


def write_kinds(path: Path, variant: int) -> None:
    """A file of two modules, each of a kind of its own."""
    spelled = {leaf: suffix for suffix, leaf in reversed(LEAVES.items())} | {"ia3_weight": ".weight"}
    tensors: dict[str, torch.Tensor] = {}
    modules = {name: module for name, module in model().unet.named_modules() if name.endswith(("to_q", "conv1"))}
    block = "down_blocks.0."
    for at, name in enumerate((f"{block}resnets.0.conv1", f"{block}attentions.0.transformer_blocks.0.attn1.to_q")):
        shape = tuple(modules[name].weight.shape)
        fitting = [form for form in forms(shape) if fits(form, shape)]
        leaves = example_of(fitting[(variant + at) % len(fitting)], shape)
        tensors |= {kohya("unet", name) + spelled[leaf]: tensor.contiguous() for leaf, tensor in leaves.items()}
    save_file(tensors, path)


def example_of(form: str, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return example(form, shape, drawn())


def fits(form: str, shape: tuple[int, ...]) -> bool:
    """Whether a form, whose examples are for weights of 8 x 12, can be one of this weight."""
    from sdedit_cli.adapters.deltas import Misfit, check

    try:
        check(example_of(form, shape), torch.Size(shape), None)
    except (Misfit, RuntimeError):
        return False
    return True


def write_peft(path: Path, variant: int) -> None:
    names = {f"base_model.model.{slot}.{name}": own for (slot, name), own in few().items() if slot == "unet"}
    tensors = {}
    for name, (down, up, _) in names.items():
        short = name.replace(".unet.", ".")
        tensors |= {f"{short}.lora_A.weight": down, f"{short}.lora_B.weight": up}
    save_file(tensors, path.parent / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 2 + variant,
        "use_rslora": bool(variant % 2),
        "alpha_pattern": {"attn1.to_q": 3.5},
        "rank_pattern": {},
        "target_modules": ["to_q", "to_k"],
        "use_dora": False,
        "bias": "none",
    }
    path.write_text(json.dumps(config))


def take_lora(path: Path, draw: random.Random) -> None:
    adapter = read_adapter(path, model().unet.config, model().text_encoder.config, partial=draw.random() < 0.1)
    _check_numbers(path, adapter)
    _check_merged(adapter)


def take_peft(path: Path, draw: random.Random) -> None:
    _check_merged(read_adapter(path.parent, model().unet.config, model().text_encoder.config))


def _check_numbers(path: Path, adapter: Adapter) -> None:
    """What was read of safetensors are the numbers that their own library reads, each once."""
    content = path.read_bytes()
    if content[8:9] == b"{":
        held = Counter(bytes(t.contiguous().view(-1).view(torch.uint8).numpy()) for t in load(content).values())
        ours = (leaf for patch in adapter.patches.values() for leaf in patch.leaves.values())
        read = Counter(bytes(t.contiguous().view(-1).view(torch.uint8).numpy()) for t in ours)
        assert read <= held
        assert read.total() == adapter.keys <= held.total() <= adapter.keys + len(adapter.passed_over) + 8


def _check_merged(adapter: Adapter) -> None:
    own = weights()
    own.merging.check(adapter)
    try:
        own.merging.apply(AdapterSet({"a": adapter}, {"a": {}}).patched())
        assert bool(torch.isfinite(own.now).all())
        rest = own.now.clone()
        for key in ((slot, f"{name}.{leaf}") for slot, name in adapter.patches for leaf in ("weight", "bias")):
            if key in own.places:
                rest[own.places[key]] = own.before[own.places[key]]
        assert torch.equal(rest, own.before)
    finally:
        own.merging.apply({})
        assert torch.equal(own.now, own.before)


def embedding(*layouts: str) -> Callable[[Path, int], None]:
    def write(path: Path, variant: int) -> None:
        LAYOUTS[layouts[variant % len(layouts)]][1](path, vectors(1 + variant % 3))

    return write


def take_embedding(path: Path, draw: random.Random) -> None:
    found = read_embedding(path, WIDTH)
    assert bool(torch.isfinite(found.vectors_NC).all())
    assert found.vectors_NC.shape[1:] == (WIDTH,)
    if found.token not in ("<word>", "inner", "w"):
        tokenizer().with_added_tokens(places_of(found))


@functools.cache
def ip_state(variant: str) -> Any:
    return ip_adapters.adapter(variant, oracle_of(model().unet))


def write_ip(path: Path, variant: int) -> None:
    ip_adapters.save_adapter(path, ip_state(ip_adapters.VARIANTS[variant % len(ip_adapters.VARIANTS)]))


def take_ip(path: Path, draw: random.Random) -> None:
    found = examine(path, model().unet.config).read(draw.choice((torch.float32, torch.float16)))
    state = found.network.state_dict()
    assert len(state) == len(open_weights(path).names())
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


def some_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes changed: of the head, of the tail, or anywhere."""
    where = draw.random()
    if where < 0.6 and len(content) > HEAD:
        return changed_bytes(content[:HEAD], draw) + content[HEAD:]
    if where < 0.75 and len(content) > TAIL:
        return content[:-TAIL] + changed_bytes(content[-TAIL:], draw)
    return changed_bytes(content, draw)


def some_json(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.5:
        return changed(content, draw)
    names = ("r", "lora_alpha", "alpha_pattern", "use_rslora", "peft_type", "use_cayley_neumann", "attn1.to_q")
    return as_text(changed_tree(json.loads(content), draw, names))


def some_png(content: bytes, draw: random.Random) -> bytes:
    """The file, or what is kept in its text or its pixels."""
    if draw.random() < 0.2:
        return some_bytes(content, draw)
    names = ("string_to_param", "string_to_token", "name", "*", "TORCHTENSOR", "step")
    held = as_json(vectors(1))
    told = (
        changed(held, draw) if draw.random() < 0.5 else json.dumps(changed_tree(json.loads(held), draw, names)).encode()
    )
    file = io.BytesIO()
    draw.choice((in_text, in_text, in_pixels))(file, told)
    return file.getvalue()


@dataclass(frozen=True)
class Type:
    """A type of files of a family: how a sound one is written (in some variants), taken in, and changed."""

    family: str
    name: str
    write: Callable[[Path, int], None]
    take: Callable[[Path, random.Random], None]
    change: Callable[[bytes, random.Random], bytes] = some_bytes


TYPES: Mapping[str, Type] = {
    "LoRA": Type("LoRA", "w.safetensors", write_lora, take_lora),
    "LoRA, pickle": Type("LoRA", "w.pt", pickle_lora, take_lora),
    "LyCORIS": Type("LoRA", "w.safetensors", write_kinds, take_lora),
    "PEFT folder": Type("LoRA", "adapter_config.json", write_peft, take_peft, some_json),
    "embedding, .pt": Type("embedding", "w.pt", embedding("A1111", "first trainer"), take_embedding),
    "embedding, .bin": Type("embedding", "w.bin", embedding("diffusers, pickle"), take_embedding),
    "embedding, safetensors": Type(
        "embedding", "w.safetensors", embedding("diffusers", "kohya", "OneTrainer"), take_embedding
    ),
    "embedding, PNG": Type("embedding", "w.png", embedding("PNG, text", "PNG, pixels"), take_embedding, some_png),
    "IP-Adapter": Type("IP-Adapter", "w.safetensors", write_ip, take_ip),
    "IP-Adapter, pickle": Type("IP-Adapter", "w.bin", write_ip, take_ip),
}
VARIANTS = 12


def sound_files(of: Type, folder: Path) -> list[bytes]:
    made: list[bytes] = []
    for variant in range(VARIANTS):
        of.write(folder / of.name, variant)
        of.take(folder / of.name, random.Random(0))
        made.append((folder / of.name).read_bytes())
    return made


def ends_of(of: Type, folder: Path, numbers: range) -> Counter[str]:
    """How many of the files of these numbers are loaded, and refused in words."""
    from helpers.bounded import in_memory, in_time

    ends: Counter[str] = Counter()
    refusals: dict[int, str] = {}
    sound = sound_files(of, folder)
    with in_memory(MEMORY):
        for number in numbers:
            draw = random.Random(number)
            (folder / of.name).write_bytes(of.change(draw.choice(sound), draw))
            try:
                with in_time():
                    of.take(folder / of.name, draw)
                ends["loaded"] += 1
            except SdeditError as error:
                refusals[number] = str(error).replace(str(folder), "")
                ends["refused"] += 1
            except BaseException:
                print(f"case {number}")
                raise
    for number, words in refusals.items():
        assert len(words) < 600, number
        assert all(c.isprintable() or c == "\n" for c in words), (number, words)
        assert "memory" not in words, number
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("part", range(PARTS))
def test_changed_files_are_loaded_rightly_or_refused(name: str, part: int, tmp_path: Path) -> None:
    cases = CASES // [of.family for of in TYPES.values()].count(TYPES[name].family) // PARTS
    ends = ends_of(TYPES[name], tmp_path, range(part * cases, (part + 1) * cases))
    assert ends.total() == cases
    assert min(ends["loaded"], ends["refused"]) > cases // 50, ends


@pytest.mark.parametrize("name", TYPES)
def test_a_few_of_them(name: str, tmp_path: Path) -> None:
    """What every run of the tests sees of the above."""
    ends = ends_of(TYPES[name], tmp_path, range(200))
    assert ends.total() == 200
    assert min(ends["loaded"], ends["refused"]) > 0, ends
