"""`sdedit embed` and --prompt-embeds: encoded prompts give the picture of their texts with no text encoder at hand."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.cli import BUILT_IN, QUICK, photo
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sdedit_cli.cli.main import run
from sdedit_cli.engine.prompt_file import read_prompts
from sdedit_cli.errors import ModelError

PROMPTS = ("-p", "a (red:1.3) apple", "-n", "ugly, blurry")
WIDTH = json.loads((BUILT_IN / "text_encoder" / "config.json").read_text())["hidden_size"]


def encode(name: str, *options: str) -> Path:
    assert run(["embed", "encode", *options, "--dtype", "fp32", "--device", "cpu", "-o", name]) == 0
    return Path(name)


def made(name: str, *options: str) -> Image.Image:
    assert run(["run", str(photo(Path("a.png"))), *QUICK, "-q", "-o", name, *options]) == 0
    image = Image.open(name)
    image.load()
    return image


@pytest.fixture
def bare(folder: Path) -> Path:
    """The built-in model without its text encoder and tokenizer."""
    ignored = shutil.ignore_patterns("text_encoder", "tokenizer")
    return Path(shutil.copytree(BUILT_IN, folder / "bare", ignore=ignored))


LONG = ("-p", "apple, " * 40, "-n", "pear, " * 60, "--long-prompts", "chunk")


@pytest.mark.parametrize(
    "options",
    [PROMPTS, (*PROMPTS, "--clip-skip", "1"), (*PROMPTS, "--no-weighting"), ("-p", "a BREAK b"), LONG],
    ids=["weights", "clip skip", "no weights", "break", "long"],
)
@pytest.mark.parametrize("scale", ["1", "5"])
def test_encoded_prompts_give_the_picture_of_their_texts(options: tuple[str, ...], scale: str, bare: Path) -> None:
    """Byte for byte, with and without guidance, by a model that has no text encoder; the record says the texts."""
    guided = ("--cfg-scale", scale)
    texts = made("texts.png", *options, *guided)
    file = encode("prompts.safetensors", *options)
    encoded = made("encoded.png", "-m", str(bare), "--prompt-embeds", str(file), *guided)
    assert encoded.tobytes() == texts.tobytes()
    said, wanted = (json.loads(image.text["sdedit"]) for image in (encoded, texts))
    assert said["edit"] == wanted["edit"]
    (one,) = said["ingredients"]
    assert (one["kind"], one["name"], len(one["sha256"])) == ("prompt_embeds", "prompts", 64)
    assert made("again.png", "--like", "encoded.png", "-m", "built-in").tobytes() == texts.tobytes()


def test_the_text_encoder_is_not_looked_at(folder: Path) -> None:
    model = Path(shutil.copytree(BUILT_IN, folder / "model"))
    for broken in [*(model / "text_encoder").iterdir(), *(model / "tokenizer").iterdir()]:
        broken.write_bytes(b"\0")
    file = encode("prompts.safetensors", *PROMPTS)
    assert made("x.png", "-m", str(model), "--prompt-embeds", str(file)).tobytes() == made("y.png", *PROMPTS).tobytes()
    assert run(["run", "a.png", *QUICK, "-m", str(model), "--prompt-embeds", str(file), "--dry-run"]) == 0
    assert run(["run", "a.png", *QUICK, "-m", str(model), *PROMPTS, "-o", "z.png"]) == 3


def test_equal_prompts_give_equal_bytes_that_say_what_made_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = encode("one.safetensors", *PROMPTS, "--clip-skip", "1").read_bytes()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert encode("two.safetensors", *PROMPTS, "--clip-skip", "1").read_bytes() == first
    with safe_open("two.safetensors", "pt") as file:
        header = json.loads(file.metadata()["sdedit"])
    assert header["edit"] == {
        "prompt": "a (red:1.3) apple",
        "negative_prompt": "ugly, blurry",
        "weighting": True,
        "long_prompts": "truncate",
        "clip_skip": 1,
    }
    assert header["model"]["name"] == "built-in"
    assert len(header["text_encoder_sha256"]) == len(header["model"]["sha256"]) == 64
    assert str(folder) not in json.dumps(header)
    tensors = load_file("two.safetensors")
    assert {name: tuple(t.shape) for name, t in tensors.items()} == dict.fromkeys(
        ("prompt_embeds", "negative_prompt_embeds"), (1, 32, WIDTH)
    )


def test_the_library_takes_them_as_they_are(folder: Path) -> None:
    from sdedit_cli import StableDiffusionImg2ImgPipeline

    tensors = load_file(encode("p.safetensors", "-p", "an apple", "-n", "ugly"))
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained("built-in")
    options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "pt"}

    def images(**prompts: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return pipe(image=Image.new("RGB", (64, 64), "red"), generator=generator, **options, **prompts).images

    assert torch.allclose(images(**tensors), images(prompt="an apple", negative_prompt="ugly"), atol=1e-5)


def test_adapters_are_in_what_is_encoded(folder: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    save_file({"emb_params": torch.randn(2, WIDTH, generator=draw)}, "mine.safetensors")
    module = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    config = json.loads((BUILT_IN / "text_encoder" / "config.json").read_text())
    lora = {
        f"{module}.lora_down.weight": torch.randn(2, WIDTH, generator=draw),
        f"{module}.lora_up.weight": torch.randn(config["intermediate_size"], 2, generator=draw),
    }
    save_file(lora, "style.safetensors")
    adapters = ("--embedding", "mine.safetensors", "--lora", "style.safetensors:0:0.5")
    texts = made("texts.png", "-p", "a mine", *adapters)
    file = encode("prompts.safetensors", "-p", "a mine", *adapters)
    assert made("encoded.png", "--prompt-embeds", str(file)).tobytes() == texts.tobytes()
    assert made("plain.png", "-p", "a mine").tobytes() != texts.tobytes()
    with safe_open(file, "pt") as opened:
        made_of = json.loads(opened.metadata()["sdedit"])["ingredients"]
    assert [(one["kind"], one.get("scale")) for one in made_of] == [("lora", 0.5), ("embedding", None)]
    # The text side of a LoRA has done its work when the prompts were encoded.
    again = made("again.png", "--prompt-embeds", str(file), "--lora", "style.safetensors")
    assert again.tobytes() == texts.tobytes()


@pytest.fixture
def tagged(folder: Path) -> Path:
    """Prompts that were encoded with the LoRA of a tag."""
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    config = json.loads((BUILT_IN / "unet" / "config.json").read_text())
    draw = torch.Generator().manual_seed(0)
    widths = {module: config["block_out_channels"][-1], text: WIDTH}
    lora = {
        f"{name}.lora_{leaf}.weight": torch.randn(*shape, generator=draw)
        for name, width in widths.items()
        for leaf, shape in (("down", (2, width)), ("up", (width, 2)))
    }
    (folder / "loras").mkdir()
    save_file(lora, "loras/style.safetensors")
    return encode("tagged.safetensors", "-p", "a cat <lora:style:0.75>", "--lora-dir", "loras")


def test_a_lora_that_the_prompts_alone_were_made_with_is_told(tagged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--prompt-embeds", str(tagged), "--lora-dir", "loras")
    capfd.readouterr()
    command = ["run", str(photo(Path("a.png"))), *QUICK, *options, "-o"]
    assert run([*command, "half.png", "--no-metadata"]) == 0
    said = " ".join(capfd.readouterr().err.split())
    sha256 = hashlib.sha256(Path("loras/style.safetensors").read_bytes()).hexdigest()
    assert f"tagged.safetensors: its prompts were encoded with a LoRA (SHA-256 {sha256})" in said
    assert run([*command, "whole.png", "--lora", "style:0.75"]) == 0
    assert "encoded with" not in capfd.readouterr().err
    texts = made("texts.png", "-p", "a cat <lora:style:0.75>", "--lora-dir", "loras")
    with Image.open("whole.png") as whole, Image.open("half.png") as half:
        assert whole.tobytes() == texts.tobytes() != half.tobytes()


def test_prompts_of_another_model_are_told_of(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = encode("prompts.safetensors", *PROMPTS)
    other = Path(shutil.copytree(BUILT_IN, folder / "other"))
    (other / "unet" / "config.json").write_text((other / "unet" / "config.json").read_text() + "\n")
    capfd.readouterr()
    command = ["run", str(photo(Path("a.png"))), *QUICK, "-m", str(other), "--prompt-embeds", str(file), "-o"]
    assert run([*command, "x.png", "--no-metadata"]) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("encoded with the model 'built-in', and this is 'other'") == 1


def test_a_picture_of_encoded_prompts_is_made_again_with_the_lora_beside_them(tagged: Path) -> None:
    """The text has a tag of it, which nobody reads there."""
    options = ("--prompt-embeds", str(tagged), "--lora-dir", "loras")
    first = made("first.png", *options, "--lora", "style:0.75")
    assert made("again.png", *options, "--like", "first.png").tobytes() == first.tobytes()
    assert made("text.png", "--like", "first.png", "--lora-dir", "loras").tobytes() == first.tobytes()


REFUSED: list[tuple[list[str], int, str]] = [
    (["-p", "a [red:blue:0.5] apple"], 2, "changes over the steps"),
    (["-p", "x", "-n", "[a|b]"], 2, "changes over the steps"),
    ([], 2, "nothing to encode"),
    (["-p", "x", "-o", "x.pt"], 2, "are a .safetensors file"),
    (["-p", "x", "-o", "there.safetensors"], 3, "exists and is not overwritten"),
    (["-p", "x", "-m", "nowhere"], 3, "no such path"),
    (["-p", "x", "-m", "nowhere", "-o", "x.SAFETENSORS"], 3, "no such path"),
    (["-p", "x", "--clip-skip", "99"], 2, "layers to skip"),
    (["-p", "x", "--embedding", "nope"], 3, "no embedding of that name"),
]


@pytest.mark.parametrize(("options", "code", "said"), REFUSED)
def test_what_cannot_be_encoded_is_refused(
    options: list[str], code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "there.safetensors").touch()
    output = [] if "-o" in options else ["-o", "new.safetensors"]
    assert run(["embed", "encode", *options, *output]) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert {path.name for path in folder.iterdir()} == {"there.safetensors"}


def prompts_of(**tensors: torch.Tensor) -> Path:
    save_file(tensors, "made.safetensors")
    return Path("made.safetensors")


POSITIVE = torch.ones(1, 32, WIDTH)
WRONG: list[tuple[dict[str, torch.Tensor], str]] = [
    ({"prompt_embeds": POSITIVE[..., :64], "negative_prompt_embeds": POSITIVE[..., :64]}, "this model's UNet takes"),
    (
        {"prompt_embeds": POSITIVE},
        "has no 'negative_prompt_embeds', which guidance needs; turn that off with a cfg-scale of 1",
    ),
    ({"prompt_embeds": POSITIVE, "negative_prompt_embeds": POSITIVE[:, :8]}, "differ in shape"),
    ({"prompt_embeds": POSITIVE * float("nan")}, "not finite"),
    ({"prompt_embeds": POSITIVE[0]}, "expected (1, tokens, width)"),
    ({"prompt_embeds": POSITIVE.int()}, "'prompt_embeds' is int32; expected floats"),
    ({"prompt_embeds": POSITIVE, "more": POSITIVE}, "holds no encoded prompts"),
    ({"emb_params": POSITIVE[0]}, "is an embedding; give it to --embedding"),
]


@pytest.mark.parametrize(("tensors", "said"), WRONG)
def test_files_that_do_not_fit_are_refused(
    tensors: dict[str, torch.Tensor], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = prompts_of(**{name: tensor.clone().contiguous() for name, tensor in tensors.items()})
    command = ["run", str(photo(folder / "a.png")), *QUICK, "--prompt-embeds", str(file), "-o", "x.png"]
    assert run(command) == 3
    assert said in " ".join(capsys.readouterr().err.split())
    assert not Path("x.png").exists()


@pytest.mark.parametrize("beside", [["-p", "x"], ["-n", "x"], ["--clip-skip", "1"], ["--embedding", "x.pt"]])
def test_what_the_file_settles_is_not_given_beside_it(
    beside: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "x.pt").touch()
    assert run(["run", str(photo(folder / "a.png")), "--prompt-embeds", "p.safetensors", *beside]) == 2
    assert "prompt-embeds exclude each other" in capsys.readouterr().err


def test_a_later_layer_takes_the_place_of_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = encode("prompts.safetensors", "-p", "an apple")
    Path("words.toml").write_text('prompt = "a house"\nclip-skip = 1\n')
    Path("file.toml").write_text('prompt-embeds = "prompts.safetensors"\n')
    apple = made("apple.png", "-p", "an apple").tobytes()
    assert made("1.png", "--preset", "words.toml", "--prompt-embeds", str(file)).tobytes() == apple
    assert made("2.png", "--preset", "words.toml", "--preset", "file.toml").tobytes() == apple
    monkeypatch.setenv("SDEDIT_PROMPT_EMBEDS", str(file))
    assert made("3.png").tobytes() == apple
    house = made("4.png", "-p", "a house").tobytes()
    assert house != apple
    assert made("5.png", "--preset", "file.toml", "-p", "a house").tobytes() == house


def test_damaged_files_are_refused_or_read_rightly(folder: Path) -> None:
    data = encode("whole.safetensors", *PROMPTS).read_bytes()
    draw = random.Random(1)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            damaged[draw.randrange(min(len(damaged), 900))] = draw.randrange(256)
        Path("damaged.safetensors").write_bytes(damaged[: draw.choice([len(data), draw.randrange(len(data))])])
        try:
            found = read_prompts(Path("damaged.safetensors"))
        except ModelError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert bool(torch.isfinite(found.prompt_1TC).all())
    assert outcomes["read"] + outcomes["refused"] == 400
    assert outcomes["refused"] > 100


def test_a_new_embedding_begins_as_the_words_it_is_made_from(folder: Path) -> None:
    """As many vectors as the text has tokens: the picture is that of the text itself."""
    assert run(["embed", "init", "mine", "--from", "a red apple", "-o", "mine.pt"]) == 0
    words = made("words.png", "-p", "a red apple")
    assert made("mine.png", "-p", "mine", "--embedding", "mine.pt").tobytes() == words.tobytes()
    assert run(["embed", "init", "wide", "--from", "a red apple", "--vectors", "5", "-o", "wide.safetensors"]) == 0
    (three,), (five,) = (
        torch.load("mine.pt", weights_only=True)["string_to_param"].values(),
        load_file("wide.safetensors").values(),
    )
    assert torch.equal(five, three[[0, 0, 1, 1, 2]])
    assert run(["embed", "init", "one", "--from", "a red apple", "--vectors", "1", "-o", "one.safetensors"]) == 0
    assert torch.equal(load_file("one.safetensors")["one"], three[:1])
    assert run(["embed", "init", "none", "--from", " ", "-o", "none.pt"]) == 2
    assert not Path("none.pt").exists()
