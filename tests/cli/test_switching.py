"""Jobs of one checkpoint share one loaded model; each picture is, byte for byte, that of a run of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import QUICK, events, photo
from helpers.embeddings import a1111, vectors
from helpers.ip_adapters import adapter, image_encoder, save_adapter
from helpers.pipelines import picture, write_checkpoint
from safetensors.torch import save_file

from sdedit_cli.cli.main import run
from sdedit_cli.engine import ip_files
from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.towers import load_image_encoder
from sdedit_cli.errors import ModelError, UsageError
from sdedit_cli.nn import ImageSource
from sdedit_cli.options import Edit
from sdedit_cli.options.adapters import EmbeddingFile, IPAdapterFile, LoraFile

MODULE = "lora_unet_mid_block_attentions_0_proj_in"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and adapters of every kind for it, two of them unusable once the model is looked at."""
    place = tmp_path_factory.mktemp("place")
    theirs = write_checkpoint(place / "model", "sd15")
    draw = torch.Generator().manual_seed(0)
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    width = theirs.text_encoder.config.hidden_size
    up, down = torch.randn(64, 2, 1, 1, generator=draw), torch.randn(2, 64, 1, 1, generator=draw)
    for name, strength in (("one", 1.0), ("two", -2.0), ("huge", 1e30)):
        tensors = {f"{MODULE}.lora_up.weight": up * strength, f"{MODULE}.lora_down.weight": down * strength}
        tensors[f"{text}.lora_up.weight"] = torch.randn(width, 2, generator=draw)
        tensors[f"{text}.lora_down.weight"] = torch.randn(2, width, generator=draw)
        save_file(tensors, place / f"{name}.safetensors")
    wrong = {f"{MODULE}.lora_up.weight": torch.ones(9, 2, 1, 1), f"{MODULE}.lora_down.weight": torch.ones(2, 9, 1, 1)}
    save_file(wrong, place / "wrong.safetensors")
    for name, seed in (("word", 0), ("other", 1)):
        a1111(place / f"{name}.pt", vectors(seed=seed))
    save_adapter(place / "ip" / "base.bin", adapter("base", theirs.unet))
    image_encoder().save_pretrained(place / "ip" / "image_encoder")
    for k in range(2):
        picture(40, 48, seed=41 + k).save(place / f"look{k}.png")
    photo(place / "in.png", (32, 32))
    return place


IP = {"ip-adapter": ["ip/base.bin"]}
WAYS: list[dict[str, Any]] = [
    {},
    {"lora": ["one.safetensors"]},
    {"lora": ["one.safetensors:0.5"]},
    {"embedding": ["word.pt:face"]},
    {"lora": ["two.safetensors", "one.safetensors"], "embedding": ["other.pt:face"]},
    {**IP, "ip-image": ["look0.png"]},
    {"lora": ["one.safetensors"], **IP, "ip-image": ["look1.png"]},
    {"lora": ["one.safetensors:0"], "sampler": "euler_a"},
]


def test_each_is_as_on_a_model_of_its_own_and_the_model_is_loaded_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also in the other order, and after adapters that cannot be had."""
    monkeypatch.chdir(place)
    rows = [{"input": "in.png", "output": f"{n}.png", **way} for n, way in enumerate(WAYS)]
    bad = [
        {"input": "in.png", "output": f"bad-{n}.png", **way}
        for n, way in enumerate(({"lora": ["one.safetensors", "wrong.safetensors"]}, {"lora": ["huge.safetensors"]}))
    ]
    settings = ("-m", "model", "-p", "a face", *QUICK)
    compared = 0
    for order, name in ((1, "there"), (-1, "back")):
        listed = (rows[:3] + bad[:1] + rows[3:6] + bad[1:] + rows[6:])[::order]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, listed)), encoding="utf-8")
        assert run(["batch", f"{name}.jsonl", name, "--json", "--batch-size", "1", *settings]) == 4
        told = events(capfd.readouterr().out)
        assert [one["event"] for one in told].count("load") == 1
        assert [one["event"] for one in told].count("switch") == len(WAYS) - 1
        assert [one["word"] for one in told if one["event"] == "failed"] == ["model-unusable"] * 2
        for number, way in enumerate(WAYS):
            options = [
                word
                for key, value in way.items()
                for item in (value if isinstance(value, list) else [value])
                for word in (f"--{key}", item)
            ]
            assert run(["run", "in.png", "-o", f"{number}.png", "--on-exists", "overwrite", *options, *settings]) == 0
            assert Path(name, f"{number}.png").read_bytes() == Path(f"{number}.png").read_bytes(), way
            compared += 1
    assert compared == 2 * len(WAYS)
    assert len({Path(f"{number}.png").read_bytes() for number in range(len(WAYS))}) == len(WAYS)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_after_adapters_that_cannot_be_had_the_weights_are_their_base(
    place: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.chdir(place)
    plain = Edit(prompt="a face", seed=1, steps=2, model="model", dtype=dtype, device="cpu")
    editor = Editor.open(plain)

    def state() -> dict[str, torch.Tensor]:
        networks = {"unet": editor.engine.components.unet, "text": editor.engine.components.text_encoder}
        return {
            f"{slot}.{name}": tensor.clone()
            for slot, network in networks.items()
            if network is not None
            for name, tensor in network.state_dict().items()
        }

    base, words = state(), editor.engine.components.tokenizer
    good = LoraFile("one.safetensors", 1.0)
    editor.adapt(plain.varied({"lora": (good,), "embedding": (EmbeddingFile("word.pt", "face"),)}))
    assert not all(torch.equal(a, b) for a, b in zip(base.values(), state().values(), strict=True))
    failures = (
        {"lora": (good, LoraFile("wrong.safetensors", 1.0))},
        {"lora": (good, LoraFile("huge.safetensors", 1.0))},
        {"lora": (good, LoraFile("gone.safetensors", 1.0))},
        {"lora": (good,), "embedding": (EmbeddingFile("word.pt", "face"), EmbeddingFile("other.pt", "face"))},
    )
    for changes in failures:
        with pytest.raises((ModelError, UsageError)):
            editor.adapt(plain.varied(changes))
        now = state()
        assert base.keys() == now.keys()
        assert all(torch.equal(base[name], now[name]) for name in base), changes
        assert editor.engine.components.tokenizer is words


def same(left: tuple[ImageSource, ...], right: tuple[ImageSource, ...]) -> bool:
    one, other = ([tensor for source in sources for pair in source.kv for tensor in pair] for sources in (left, right))
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_an_image_encoder_is_read_once_for_pictures_that_follow_each_other(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again where its files are others, or where an edit without image prompts came between."""
    monkeypatch.chdir(place)
    read: list[Path] = []

    def counted(folder: Path, dtype: torch.dtype) -> Any:
        read.append(folder)
        return load_image_encoder(folder, dtype)

    monkeypatch.setattr(ip_files, "load_image_encoder", counted)
    looks = [picture(40, 48, seed=41 + k) for k in range(2)]

    def edit(number: int) -> Edit:
        file = IPAdapterFile("ip/base.bin")
        return Edit(
            prompt="a face", seed=1, model="model", device="cpu", ip_adapter=(file,), ip_image=(f"look{number}.png",)
        )

    editor = Editor.open(edit(0), pictures=looks[:1])
    first = editor.images
    editor.adapt(edit(1), looks[1:])
    other = editor.images
    editor.adapt(edit(0), looks[:1])
    assert len(read) == 1
    assert not same(first, other)
    assert same(first, editor.images)
    config = place / "ip" / "image_encoder" / "config.json"
    config.write_bytes(config.read_bytes() + b" ")
    editor.adapt(edit(1), looks[1:])
    assert len(read) == 2
    assert same(other, editor.images)
    editor.adapt(Edit(prompt="a face", seed=1, model="model", device="cpu"), ())
    editor.adapt(edit(1), looks[1:])
    assert len(read) == 3
