"""`info` and `embed inspect` say what adapter files are, by names and shapes; conversions keep the vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.embeddings import LAYOUTS, vectors
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdedit_cli.adapters.embedding import read_embedding
from sdedit_cli.cli.embed.inspect import facts_of
from sdedit_cli.cli.info import file_facts
from sdedit_cli.cli.main import run

KIND_OF = {
    "A1111": "embedding, A1111",
    "first trainer": "embedding, A1111",
    "diffusers, pickle": "embedding, diffusers",
    "diffusers": "embedding, diffusers",
    "kohya": "embedding, kohya",
    "OneTrainer": "embedding, OneTrainer",
    "PNG, text": "embedding, A1111",
    "PNG, pixels": "embedding, A1111",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [768, 1024])
def test_embeddings_of_every_layout_are_known(layout: str, width: int, tmp_path: Path) -> None:
    name, write = LAYOUTS[layout]
    write(tmp_path / name, vectors(2, width))
    facts = file_facts(tmp_path / name)
    family = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}[width]
    assert (facts["type"], facts["kind"], facts["family"]) == ("embedding", KIND_OF[layout], family)
    said = facts_of(tmp_path / name)
    (word,) = said["words"]
    assert (said["layout"], word["vectors"], word["width"]) == (KIND_OF[layout], 2, width)
    assert word["norms"] == pytest.approx(vectors(2, width).norm(dim=1).tolist(), rel=1e-2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("to", "name"),
    [("a1111", "out.pt"), ("diffusers", "out.safetensors"), ("diffusers", "out.bin"), ("kohya", "out.safetensors")],
)
def test_every_layout_becomes_every_other(layout: str, to: str, name: str, tmp_path: Path) -> None:
    source, write = LAYOUTS[layout]
    write(tmp_path / source, vectors())
    before = read_embedding(tmp_path / source, 32, token="me")
    assert run(["embed", "convert", str(tmp_path / source), str(tmp_path / name), "--to", to, "--token", "me"]) == 0
    after = read_embedding(tmp_path / name, 32)
    assert torch.equal(after.vectors_NC, before.vectors_NC)
    assert after.vectors_NC.dtype == before.vectors_NC.dtype
    assert after.token == ("out" if to == "kohya" else "me")
    if name.endswith(".safetensors"):
        (tensor,) = load_file(tmp_path / name).values()
    else:
        held: dict[str, Any] = torch.load(tmp_path / name, weights_only=True)
        tensor = held["string_to_param"]["*"] if to == "a1111" else held["me"]
    assert torch.equal(tensor, before.vectors_NC)


def test_the_reference_reads_what_is_written(folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline as Oracle

    save_file({"emb_params": vectors(2)}, tmp_path / "in.safetensors")
    pipe: Any = Oracle.from_pretrained(folder, safety_checker=None)
    for number, (to, name) in enumerate((("a1111", "x.pt"), ("diffusers", "x.bin"), ("diffusers", "x.safetensors"))):
        word = f"<word{number}>"
        source, target = str(tmp_path / "in.safetensors"), str(tmp_path / name)
        assert run(["embed", "convert", source, target, "--to", to, "--token", word]) == 0
        pipe.load_textual_inversion(target, token=word)
        ids = pipe.tokenizer.convert_tokens_to_ids([word, f"{word}_1"])
        assert torch.equal(pipe.text_encoder.get_input_embeddings().weight[ids], vectors(2))


@pytest.mark.parametrize(
    ("options", "said"),
    [(["x.png"], "pictures are not written"), (["x.pt", "--to", "diffusers"], "end in .safetensors or .bin")],
)
def test_endings_that_do_not_fit_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"emb_params": vectors(2)}, "in.safetensors")
    assert run(["embed", "convert", "in.safetensors", *options]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def tensors(*named: tuple[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.ones(shape) for name, shape in named}


LORA = (
    ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", (4, 8)),
    ("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight", (8, 4)),
)
SIDES = ((4, 8), (8, 4))
KEYS_1X = ("ip_adapter.1.to_k_ip.weight", (320, 768))
KEYS_XL = ("ip_adapter.1.to_k_ip.weight", (640, 2048))
OTHERS: dict[str, tuple[dict[str, Tensor], str, str, str]] = {
    "LoRA": (tensors(*LORA), "lora", "LoRA", ""),
    "LoRA with a word": (tensors(*LORA, ("bundle_emb.me.emb_params", (2, 768))), "lora", "LoRA", ""),
    "PEFT": (
        tensors(("base_model.model.a.to_q.lora_A.weight", (4, 8)), ("base_model.model.a.to_q.lora_B.weight", (8, 4))),
        "lora",
        "LoRA",
        "",
    ),
    "LoHa": (tensors(*((f"lycoris_a_to_q.hada_w{n}_{x}", (4, 4)) for n in "12" for x in "ab")), "lora", "LoHa", ""),
    "IP base": (
        tensors(("image_proj.proj.weight", (8, 8)), ("image_proj.norm.weight", (8,)), KEYS_1X),
        "ip_adapter",
        "IP-Adapter, base",
        "",
    ),
    "IP plus": (tensors(("image_proj.latents", (1, 16, 8)), KEYS_1X), "ip_adapter", "IP-Adapter, plus", ""),
    "IP full-face": (
        tensors(("image_proj.proj.0.weight", (8, 8)), ("image_proj.proj.3.weight", (8,)), KEYS_1X),
        "ip_adapter",
        "IP-Adapter, full-face",
        "",
    ),
    "FaceID": (
        tensors(("image_proj.proj.0.weight", (8, 8)), ("ip_adapter.0.to_q_lora.down.weight", (8, 8)), KEYS_1X),
        "ip_adapter",
        "IP-Adapter FaceID",
        "face recogniser",
    ),
    "IP XL": (
        tensors(("image_proj.proj.weight", (8, 8)), KEYS_XL),
        "ip_adapter",
        "IP-Adapter, base",
        "for Stable Diffusion XL",
    ),
    "IP dump": (
        tensors(("image_proj_model.proj.weight", (8, 8))),
        "ip_adapter",
        "a training dump of an IP-Adapter",
        "have to be named",
    ),
    "embedding XL": (
        tensors(("clip_l", (2, 768)), ("clip_g", (2, 1280))),
        "embedding",
        "embedding, by encoder",
        "for Stable Diffusion XL",
    ),
    "several words": (
        tensors(("<a>", (2, 768)), ("<b>", (1, 768))),
        "embedding",
        "embedding, diffusers",
        "holds 2 words",
    ),
    "PEFT, words": (
        tensors(
            *((f"base_model.model.text_model.embeddings.token_embedding.lora_embedding_{x}", (4, 4)) for x in "AB")
        ),
        "lora",
        "LoRA",
        "PEFT's LoRA of a table of words, which is not read",
    ),
    "PEFT, AdaLoRA": (
        tensors(*((f"base_model.model.mid_block.attentions.0.proj_in.lora_{x}", (4, 4)) for x in "ABE")),
        "lora",
        "LoRA",
        "AdaLoRA",
    ),
    "a word with a dot": (tensors(("my.style", (2, 768))), "embedding", "embedding, diffusers", ""),
    "a layer with a dot": (tensors(("to_k.weight", (2, 768))), "weights", "not known", ""),
    "Wan": (
        tensors(
            *((f"diffusion_model.blocks.0.cross_attn.k.lora_{x}.weight", s) for x, s in zip("AB", SIDES, strict=True))
        ),
        "lora",
        "LoRA",
        "",
    ),
    "ControlNet": (tensors(("input_hint_block.0.weight", (4, 4))), "weights", "a ControlNet", ""),
    "Control-LoRA": (
        tensors(("lora_controlnet", (1,)), ("input_hint_block.0.weight", (4, 4))),
        "weights",
        "a Control-LoRA",
        "",
    ),
    "LLLite": (tensors(("lllite_unet_mid.down.0.weight", (4, 4))), "weights", "a ControlNet-LLLite", ""),
    "T2I-Adapter": (tensors(("body.0.block1.weight", (4, 4))), "weights", "a T2I-Adapter", ""),
    "upscaler": (tensors(("body.0.rdb1.conv1.weight", (4, 4))), "weights", "an upscaler", ""),
    "cloneofsimo": (tensors(("unet:0:up", (8, 4)), ("unet:0:down", (4, 8))), "weights", "not known", ""),
    "something": (tensors(("a.weight", (4, 4)), ("a.bias", (4,))), "weights", "not known", ""),
    "one layer": (tensors(("weight", (4, 4))), "weights", "not known", ""),
}


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("case", OTHERS)
def test_adapters_are_told_by_their_keys(case: str, pickled: bool, tmp_path: Path) -> None:
    held, kind, words, note = OTHERS[case]
    path = tmp_path / ("x.bin" if pickled else "x.safetensors")
    if pickled:
        torch.save(held, path)
    else:
        save_file(held, path)
    facts = file_facts(path)
    assert (facts["type"], facts["kind"]) == (kind, words)
    assert note in facts["note"]


def test_a_bare_tensor_is_called_as_its_file_is(tmp_path: Path) -> None:
    """Which is the word that it is loaded under; web UIs keep aesthetic gradients so, which are no words."""
    torch.save(torch.ones(1, 768), tmp_path / "fantasy.pt")
    facts = file_facts(tmp_path / "fantasy.pt")
    assert facts["words"] == ["'fantasy' (1 x 768)"]
    assert "aesthetic gradients" in facts["kind"]
    assert read_embedding(tmp_path / "fantasy.pt", 768).token == "fantasy"


def test_nested_pickles_and_folders_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = {"image_proj": {"latents": torch.ones(1, 16, 8)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(8, 768)}}
    torch.save(parts, tmp_path / "ip-adapter-plus.bin")
    assert file_facts(tmp_path / "ip-adapter-plus.bin")["kind"] == "IP-Adapter, plus"
    peft = tmp_path / "peft"
    peft.mkdir()
    (peft / "adapter_config.json").write_text("{}")
    save_file(OTHERS["PEFT"][0], peft / "adapter_model.safetensors")
    concept = tmp_path / "cat-toy"
    concept.mkdir()
    torch.save({"<cat-toy>": torch.ones(768)}, concept / "learned_embeds.bin")
    assert file_facts(peft)["kind"] == "LoRA"
    assert run(["info", "--json", str(concept)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["kind"], facts["words"]) == ("embedding, diffusers", ["'<cat-toy>' (1 x 768)"])


def test_a_number_without_end_in_a_name_is_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"9" * 5000 + ".0.linear.weight": torch.ones(2, 2)}, tmp_path / "digits.safetensors")
    for words, code in ((["lora", "inspect"], 3), (["info"], 0)):
        assert run([*words, str(tmp_path / "digits.safetensors")]) == code
        assert "internal" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["layers.0.linear1.weight", "single_blocks.0.linear1.weight"])
def test_layers_of_other_networks_make_no_hypernetwork(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file({name: torch.ones(2, 2)}, tmp_path / "other.safetensors")
    assert run(["convert", str(tmp_path / "other.safetensors"), str(tmp_path / "x")]) == 3
    assert "hypernetwork" not in capsys.readouterr().err


def hypernetwork(*widths: int, kind: type = list) -> dict[Any, Any]:
    """As web UIs save one: for each width two networks, for keys and for values, beside what was trained."""
    layers = {f"linear.{n}.{leaf}": torch.ones(2, 2) for n in (0, 1) for leaf in ("weight", "bias")}
    return {
        **{width: kind((layers, layers)) for width in widths},
        "step": 900,
        "name": "anime",
        "activation_func": "relu",
    }


@pytest.mark.parametrize(
    ("widths", "family"),
    [((768, 320, 640, 1280), "Stable Diffusion 1.x"), ((320, 1024), "Stable Diffusion 2.x"), ((32,), "")],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [list, tuple])
def test_hypernetworks_are_refused_for_what_they_are(
    widths: tuple[int, ...],
    family: str,
    zipped: bool,
    kind: type,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their tensors lie in lists under numbers, where no other file has weights."""
    monkeypatch.chdir(tmp_path)
    torch.save(hypernetwork(*widths, kind=kind), "anime.pt", _use_new_zipfile_serialization=zipped)
    facts = file_facts(Path("anime.pt"))
    assert (facts["type"], facts["kind"]) == ("hypernetwork", "hypernetwork")
    assert (facts["family"], facts["made"]["name"]) == (family, "anime")
    for words in ("lora inspect anime.pt", "embed inspect anime.pt", "lora merge built-in x --lora anime.pt"):
        assert run(words.split()) == 3
        assert "anime.pt: is a hypernetwork: only web UIs run those" in " ".join(capsys.readouterr().err.split())
    assert run(["convert", "anime.pt", "x"]) == 3
    assert "looks like a hypernetwork of web UIs" in " ".join(capsys.readouterr().err.split())
    assert [one.name for one in tmp_path.iterdir()] == ["anime.pt"]
