"""`sdedit lora`: merging is what loading is, extraction undoes it, and what it says of files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import BUILT_IN, sdedit
from helpers.tiny.single_files import shared
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.weights.checkpoint import open_checkpoint

RANK = 3
Factors = dict[tuple[str, str], tuple[Tensor, Tensor]]


def layers(checkpoint: Path) -> dict[tuple[str, str], tuple[int, ...]]:
    """The linear layers and convolutions of a checkpoint, with their shapes."""
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for slot in ("unet", "text_encoder"):
        tensors = open_checkpoint(checkpoint).components[slot].tensors
        for name in tensors.names():
            is_table = "token_emb" in name or "position_emb" in name
            if name.endswith(".weight") and len(tensors.shape(name)) > 1 and not is_table:
                found[slot, name.removesuffix(".weight")] = tensors.shape(name)
    return found


def lora_file(path: Path, checkpoint: Path, *, seed: int = 0, rank: int = RANK, every: int = 1, **metadata: str) -> str:
    """A LoRA in kohya's names of every layer, or of every second, third ... one; alphas of rank / 2."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for (slot, name), (out, inputs, *kernel) in list(layers(checkpoint).items())[::every]:
        module = ("lora_unet_" if slot == "unet" else "lora_te_") + name.replace(".", "_")
        tensors[f"{module}.lora_down.weight"] = torch.randn(rank, inputs, *kernel, generator=generator) * 0.1
        tensors[f"{module}.lora_up.weight"] = torch.randn(out, rank, *[1] * len(kernel), generator=generator) * 0.1
        tensors[f"{module}.alpha"] = torch.tensor(rank / 2)
    save_file(tensors, path, metadata or None)
    return str(path)


def loaded(checkpoint: Path, *loras: tuple[str, float | dict[str, float]]) -> dict[str, Tensor]:
    """The weights of a checkpoint with adapters at work."""
    open_it = StableDiffusionImg2ImgPipeline
    pipe = open_it.from_pretrained(checkpoint) if checkpoint.is_dir() else open_it.from_single_file(str(checkpoint))
    for number, (path, _) in enumerate(loras):
        pipe.load_lora_weights(path, adapter_name=str(number))
    if loras:
        pipe.set_adapters([str(number) for number in range(len(loras))], [weight for _, weight in loras])
    networks = {"unet": pipe.unet, "text_encoder": pipe.text_encoder, "vae": pipe.vae}
    return {
        f"{slot}.{name}": tensor.clone()
        for slot, network in networks.items()
        if network is not None
        for name, tensor in network.state_dict().items()
    }


def assert_near(found: dict[str, Tensor], wanted: dict[str, Tensor], within: float) -> None:
    assert found.keys() == wanted.keys()
    assert len(found) > 200
    far = {name: float((found[name] - wanted[name]).abs().max()) for name in wanted}
    assert max(far.values()) <= within, max(far, key=lambda name: far[name])


@pytest.fixture(params=["sd15", "sd21"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(("kind", "target"), [(0, "new"), (1, "new.safetensors"), (0, "new.safetensors")])
def test_a_merged_checkpoint_is_the_base_with_the_adapters(family: str, kind: int, target: str, folder: Path) -> None:
    """From folders and single files, into both; OpenCLIP's stacked projections are merged too."""
    base = shared(family)[kind]
    one, two = (lora_file(folder / f"{n}.safetensors", base, seed=n, every=n) for n in (1, 2))
    assert run(["lora", "merge", str(base), target, "--lora", f"{one}:0.8", "--lora", f"{two}:-0.5:0.25"]) == 0
    wanted = loaded(base, (one, 0.8), (two, {"unet": -0.5, "text_encoder": 0.25}))
    assert_near(loaded(folder / target), wanted, 1e-6)
    assert any(not torch.equal(tensor, wanted[name]) for name, tensor in loaded(base).items())


def test_merging_rounds_once_and_drops_the_copy_that_it_would_not_change(folder: Path) -> None:
    base = shared("sd15")[1]
    lora = lora_file(folder / "l.safetensors", base)
    half, full = folder / "half.safetensors", folder / "full.safetensors"
    for target, more in ((half, ["--dtype", "fp16"]), (full, [])):
        assert run(["lora", "merge", str(base), str(target), "--lora", lora, *more]) == 0
    floats, halves = load_file(full), load_file(half)
    assert not [name for name in floats if name.startswith("model_ema.")]
    assert all(torch.equal(halves[n], t.half()) for n, t in floats.items() if t.is_floating_point() and n in halves)
    assert halves["model.diffusion_model.out.2.weight"].dtype == torch.float16


@pytest.mark.parametrize("how", ["--rank", "--energy"])
def test_extraction_gives_back_what_was_merged(family: str, how: str, folder: Path, capsys: Any) -> None:
    """At the rank of the LoRA, of modules of both encoders and of any layout; what did not change is left out."""
    single, base = shared(family)[1], shared(family)[0]
    lora = lora_file(folder / "l.safetensors", base, every=2)
    assert run(["lora", "merge", str(single), "tuned.safetensors", "--lora", lora]) == 0
    capsys.readouterr()
    number = str(RANK) if how == "--rank" else "0.9999999"
    words = ["lora", "extract", "tuned.safetensors", str(base), "back.safetensors", how, number, "--json"]
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)
    modules = layers(base)
    assert len(told["modules"]) == len(list(modules)[::2])
    assert told["unchanged"] == len(modules) - len(told["modules"])
    assert told["not_held"] == []
    assert {row["rank"] for row in told["modules"]} == {RANK}
    assert all(row["error"] < 1e-3 for row in told["modules"])
    assert_near(loaded(base, ("back.safetensors", 1.0)), loaded(base, (lora, 1.0)), 1e-4)


def test_extraction_refuses_what_has_no_difference(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = shared("sd15")[1], shared("sd21")[1]
    for words, said in (
        ([str(one), str(two)], "give the model that it was tuned from"),
        ([str(one), str(shared("sd15")[0])], "there is nothing to extract"),
    ):
        assert run(["lora", "extract", *words, "x.safetensors", "--rank", "4"]) == 3
        assert said in capsys.readouterr().err
        assert not (folder / "x.safetensors").exists()


def test_a_lower_rank_says_what_it_loses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = shared("sd15")[0]
    lora = lora_file(folder / "l.safetensors", base, rank=8, ss_network_dim="8", ss_output_name="x")
    words = ["lora", "resize", lora, "small.safetensors", "-m", str(base)]
    assert run([*words, "--rank", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["rank"] for row in told["modules"]} == {2}
    before, after, plain = loaded(base, (lora, 1.0)), loaded(base, ("small.safetensors", 1.0)), loaded(base)
    for row in told["modules"]:
        name = f"{row['component']}.{row['module']}.weight"
        lost = float((after[name] - before[name]).norm() / (before[name] - plain[name]).norm())
        assert lost == pytest.approx(row["error"], abs=1e-3)
    with safe_open(folder / "small.safetensors", "pt") as file:
        assert file.metadata()["ss_network_dim"] == "Dynamic"
        assert file.metadata()["ss_output_name"] == "x"
    assert run([*words[:3], "all.safetensors", *words[4:], "--energy", "1"]) == 0
    assert_near(loaded(base, ("all.safetensors", 1.0)), before, 1e-5)


@pytest.mark.parametrize("rank", [None, 5])
def test_several_loras_are_one(rank: int | None, folder: Path) -> None:
    """Side by side in the sum of their ranks; of LoRAs of rank 2 and 3 the rank 5 loses nothing either."""
    base = shared("sd15")[0]
    one = lora_file(folder / "1.safetensors", base, seed=1, rank=2)
    two = lora_file(folder / "2.safetensors", base, seed=2, rank=3, every=3)
    words = ["lora", "merge", "both.safetensors", "--lora", f"{one}:0.5", "--lora", f"{two}:-2:0.5", "-m", str(base)]
    assert run([*words, *(["--rank", str(rank)] if rank else [])]) == 0
    wanted = loaded(base, (one, 0.5), (two, {"unet": -2.0, "text_encoder": 0.5}))
    assert_near(loaded(base, ("both.safetensors", 1.0)), wanted, 2e-5)
    ranks = {tensor.shape[0] for key, tensor in load_file("both.safetensors").items() if "lora_down" in key}
    assert ranks == {2, 5}


ODD: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "DoRA": ({"lora_down.weight": (2, 32), "lora_up.weight": (32, 2), "dora_scale": (32, 1)}, "merge it into a checkp"),
    "IA3": ({"weight": (32,), "on_input": ()}, "merge it into a checkpoint"),
    "GLoRA": ({f"{n}.weight": (32, 2) if n in ("a1", "b1") else (2, 32) for n in ("a1", "a2", "b1", "b2")}, "merge it"),
    "LoHa": ({f"hada_{n}": (32, 2) if n[-1] == "a" else (2, 32) for n in ("w1_a", "w1_b", "w2_a", "w2_b")}, "--rank N"),
}


@pytest.mark.parametrize("kind", ODD)
def test_kinds_that_cannot_be_summed_are_refused_with_what_to_do(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = shared("sd15")[0]
    name, shape = next((m, s) for (slot, m), s in layers(base).items() if s == (32, 32) and slot == "unet")
    leaves, said = ODD[kind]
    module = f"lora_unet_{name.replace('.', '_')}"
    tensors = {f"{module}.{leaf}": torch.rand(own) for leaf, own in leaves.items()}
    save_file(tensors, folder / "odd.safetensors")
    words = ["lora", "merge", "new.safetensors", "--lora", "odd.safetensors", "-m", str(base)]
    assert run(words) == 3
    told = capsys.readouterr().err
    assert said in told
    assert name in told
    assert not (folder / "new.safetensors").exists()
    if kind == "LoHa":
        assert run([*words, "--rank", "4"]) == 0
        assert_near(loaded(base, ("new.safetensors", 1.0)), loaded(base, ("odd.safetensors", 1.0)), 1e-5)
    assert run(["lora", "merge", str(base), "merged", "--lora", "odd.safetensors"]) == 0
    assert_near(loaded(folder / "merged"), loaded(base, ("odd.safetensors", 1.0)), 1e-6)
    assert shape == (32, 32)


def test_names_of_other_programs_and_back(folder: Path) -> None:
    base = shared("sd15")[0]
    lora = lora_file(folder / "l.safetensors", base, ss_output_name="x", modelspec_title="y")
    steps = [("diffusers", "d.safetensors"), ("peft", "p"), ("kohya", "k.safetensors")]
    source = lora
    for to, target in steps:
        assert run(["lora", "convert", source, target, "--to", to, "-m", str(base)]) == 0
        assert_near(loaded(base, (target, 1.0)), loaded(base, (lora, 1.0)), 0)
        source = target
    before, after = load_file(lora), load_file(folder / "k.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert sorted(path.relative_to(folder / "p").as_posix() for path in (folder / "p").rglob("*.*")) == [
        f"{half}/{name}"
        for half in ("text_encoder", "unet")
        for name in ("adapter_config.json", "adapter_model.safetensors")
    ]


def test_equal_inputs_give_equal_bytes(folder: Path) -> None:
    base = shared("sd15")[0]
    lora = lora_file(folder / "l.safetensors", base)
    for name in ("a", "b"):
        assert run(["lora", "resize", lora, f"{name}.safetensors", "--rank", "2", "-m", str(base)]) == 0
    assert (folder / "a.safetensors").read_bytes() == (folder / "b.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["convert", "{lora}", "x", "--to", "kohya", "-m", "{base}"], 2, "ends in .safetensors"),
        (["convert", "{lora}", "x.safetensors", "--to", "peft", "-m", "{base}"], 2, "is a folder"),
        (["convert", "none.safetensors", "x.safetensors", "--to", "kohya"], 3, "no such file"),
        (["convert", "{lora}", "{lora}", "--to", "kohya", "-m", "{base}"], 3, "exists and is not overwritten"),
        (["resize", "{lora}", "x.safetensors"], 2, "give one of --rank N and --energy F"),
        (["resize", "{lora}", "x.safetensors", "--rank", "2", "--energy", "0.5"], 2, "give one of"),
        (["resize", "{lora}", "x.safetensors", "--energy", "1.5"], 2, "1.5"),
        (["resize", "{lora}", "x.safetensors", "--energy", "nan"], 2, "not in the range"),
        (["merge", "x.safetensors", "--lora", "{lora}:1e39"], 2, "the strength 1e+39 is too large"),
        (["merge", "x.safetensors"], 2, "--lora"),
        (["merge", "a", "b", "c", "--lora", "{lora}"], 2, "3 paths are given"),
        (["merge", "{base}", "x", "--lora", "{lora}", "--rank", "2"], 2, "leave BASE out"),
        (["merge", "{base}", "x", "--lora", "{lora}", "--to", "peft"], 2, "expected one of diffusers, ldm"),
        (["merge", "x.safetensors", "--lora", "{lora}:0", "-m", "{base}"], 2, "all strengths are 0"),
        (["merge", "{other}", "x", "--lora", "{lora}"], 3, "does not fit"),
        (["merge", "{other}", "x", "--lora", "{lora}"], 3, "Give an adapter of the model's family"),
        (["convert", "{lora}", "x.safetensors", "--to", "kohya"], 3, "name an unusual one of these with --model"),
        (["resize", "{lora}", "x.safetensors", "--rank", "1"], 3, "name an unusual one of these with --model"),
        (["merge", "x.safetensors", "--lora", "{lora}"], 3, "name an unusual one of these with --model"),
        (["merge", "x.safetensors", "--lora", "{lora}", "-m", "{other}"], 3, "Give an adapter of the model's family"),
        (
            ["merge", "{base}", "x", "--lora", "{base}/unet/diffusion_pytorch_model.safetensors"],
            3,
            "is a UNet of a model",
        ),
        (["inspect", "{base}/unet/diffusion_pytorch_model.safetensors"], 3, "is a UNet"),
        (["inspect"], 2, "FILE"),
    ],
)
def test_wrong_requests_are_one_or_two_lines_and_leave_nothing(
    words: list[str], code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, other = shared("sd15")[0], BUILT_IN
    lora = lora_file(folder / "lora.safetensors", base)
    capsys.readouterr()
    assert run(["lora", *(word.format(lora=lora, base=base, other=other) for word in words)]) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert len(told.splitlines()) <= 4
    assert [path.name for path in folder.iterdir()] == ["lora.safetensors"]


def test_a_file_with_some_keys_that_nothing_knows_can_be_taken_without_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody named the model here, and another one would not help: the likeliest is it."""
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    leaves = {"lora_down.weight": torch.ones(2, 768), "lora_up.weight": torch.ones(320, 2)}
    stray = {f"{name}.{leaf}": tensor.clone() for name in (module, "lora_unet_odd") for leaf, tensor in leaves.items()}
    save_file(stray, folder / "a.safetensors")
    command = ["lora", "convert", "a.safetensors", "b.safetensors", "--to", "kohya"]
    assert run(command) == 3
    assert "name the model that it is for with --model, or take what fits with --partial.\n" in capsys.readouterr().err
    assert run([*command, "--partial"]) == 0
    assert {name.partition(".")[0] for name in load_file(folder / "b.safetensors")} == {module}


def facts(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["lora", "inspect", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_inspect_tells_a_file_without_its_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names and shapes of the real 1.x model; of two blocks, with norms that the factors have."""
    module = "lora_unet_{}_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {
        f"{module.format(block)}.{leaf}": torch.full(shape, 0.5)
        for block, out in (("down_blocks_0", 320), ("up_blocks_3", 320))
        for leaf, shape in (("lora_down.weight", (2, 768)), ("lora_up.weight", (out, 2)), ("alpha", ()))
    }
    tags = {"10_cat": {"cat": 3, "dog": 1}, "5_x": {"dog": 9}}
    metadata = {"ss_tag_frequency": json.dumps(tags), "modelspec.trigger_phrase": "mycat", "ss_epoch": "4"}
    save_file({**tensors, "odd.key": torch.ones(1)}, folder / "a.safetensors", metadata)
    found = facts(capsys, "a.safetensors")
    assert (found["family"], found["dialect"]) == ("Stable Diffusion 1.x", "kohya")
    assert found["matched"] == {"unet": {"modules": 2, "of": 282}}
    assert (found["kinds"], found["ranks"], found["alphas"]) == ({"LoRA": 2}, {"2": 2}, {"0.5": 2})
    assert [block["name"] for block in found["blocks"]] == ["down 0", "up 3"]
    norm = float(torch.full((320, 768), 0.5 * 0.5 * 2 * 0.25).norm())
    assert [block["norm"] for block in found["blocks"]] == [pytest.approx(norm, rel=1e-5)] * 2
    assert found["unmatched"] == ["odd.key"]
    assert (found["trigger"], found["tags"], found["training"]["ss_epoch"]) == ("mycat", {"dog": 10, "cat": 3}, "4")
    data = (folder / "a.safetensors").read_bytes()
    payload = data[8 + int.from_bytes(data[:8], "little") :]
    assert found["lora_hash"] == hashlib.sha256(payload).hexdigest()[:12]
    assert found["autov2"] == hashlib.sha256(data).hexdigest()[:10]


FOREIGN = {
    "Stable Diffusion XL": ("lora_te2_text_model_encoder_layers_3_mlp_fc1", "text_encoder_2", "layer 3"),
    "FLUX": ("lora_unet_double_blocks_7_img_attn_qkv", "transformer", "double 7"),
    "Stable Diffusion 3": ("lora_unet_joint_blocks_2_x_block_attn_qkv", "transformer", "joint 2"),
}


@pytest.mark.parametrize("family_name", FOREIGN)
def test_files_of_other_families_are_described_and_not_worked_on(
    family_name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, component, block = FOREIGN[family_name]
    factors = {"lora_down.weight": torch.ones(2, 64), "lora_up.weight": torch.ones(64, 2)}
    save_file({f"{module}.{leaf}": tensor for leaf, tensor in factors.items()}, folder / "a.safetensors")
    found = facts(capsys, "a.safetensors")
    assert (found["family"], found["works"]) == (family_name, False)
    assert [(one["component"], one["name"]) for one in found["blocks"]] == [(component, block)]
    assert found["blocks"][0]["norm"] == pytest.approx(128.0)
    assert run(["lora", "convert", "a.safetensors", "b.safetensors", "--to", "diffusers"]) == 3
    assert f"is made for {family_name}" in capsys.readouterr().err


def test_hostile_files_are_shown_safely_and_in_bounds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters, tag lists without end, deep JSON, names of a megabyte, numbers that are none, half kinds."""
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    good = {f"{module}.lora_down.weight": torch.ones(2, 768), f"{module}.lora_up.weight": torch.ones(320, 2)}
    many = json.dumps({"a": {f"\x1b[2Jtag {n}": n for n in range(50_000)}})
    for metadata in (
        {"ss_tag_frequency": many, "modelspec.title": "\x1b[2J" * 9999, "ss_output_name": "a\nb\x07"},
        {"ss_tag_frequency": "[" * 100_000},
        {"ss_tag_frequency": json.dumps({"a": {"b": 10**400, "c": "d", "e": -1, "f": 1.5, "g": True}})},
        {"lora_adapter_metadata": "{" * 10_000},
    ):
        save_file({**good, "x" * 1_000_000: torch.ones(1)}, folder / "a.safetensors", metadata)
        assert run(["lora", "inspect", "a.safetensors"]) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert len(shown) < 8_000
        assert len(json.dumps(facts(capsys, "a.safetensors"))) < 20_000
    for change in (
        {f"{module}.lora_up.weight": torch.full((320, 2), float("nan"))},
        {f"{module}.alpha": torch.tensor(float("inf"))},
        {f"{module}.alpha": torch.ones(3)},
        {f"{module}.dora_scale": torch.ones(7, 5)},
        {f"{module}.hada_w1_a": torch.ones(2, 2)},
    ):
        save_file({**good, **change}, folder / "b.safetensors")
        told = facts(capsys, "b.safetensors")
        assert told["problems"] or told["blocks"][0]["norm"] is None


@pytest.mark.parametrize("columns", [30, 50, 80, 200])
def test_the_chart_fits_the_terminal(
    columns: int, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdedit_cli.cli.lora.inspect import chart

    base = shared("sd15")[0]
    lora_file(folder / "a.safetensors", base)
    found = facts(capsys, "a.safetensors", "-m", str(base))
    lines = chart(found["blocks"], columns)
    assert max(map(len, lines)) <= columns
    assert len(lines) == len(found["blocks"]) > 5
    assert all("\u2588" in line for line in lines)


def test_help_of_every_command_is_light(folder: Path) -> None:
    code = (
        "import sys\nfrom sdedit_cli.cli.main import run\n"
        "for name in ('inspect', 'merge', 'convert', 'extract', 'resize'): assert run(['lora', name, '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'transformers', 'safetensors'} & set(sys.modules)"
    )
    import subprocess
    import sys

    from helpers.cli import environment

    assert subprocess.run([sys.executable, "-c", code], env=environment(), cwd=folder, check=False).returncode == 0
    assert sdedit("lora", "nothing", cwd=folder).returncode == 2
