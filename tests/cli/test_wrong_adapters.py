"""Files that are not what they were taken for, on the command line: each is named for what it is, before anything runs.

Every message says what the file is and where it belongs, whichever command or option was given it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.cli import QUICK, one_line, photo
from helpers.embeddings import a1111, vectors
from helpers.ip_adapters import adapter, save_adapter
from helpers.pipelines import oracle_pipeline, picture, write_checkpoint
from safetensors.torch import save_file

from sdedit_cli.cli.main import run

UP, DOWN = (f"lora_unet_mid_block_attentions_0_proj_in.lora_{x}.weight" for x in ("up", "down"))
HALF = "down is missing beside up"
PAGE = "is a web page saved in place of the weights"


NETWORKS = {
    "checkpoint.safetensors": "model.diffusion_model.input_blocks.0.0.weight",
    "control.safetensors": "control_model.input_hint_block.0.weight",
    "vae.safetensors": "decoder.conv_in.weight",
    "motion.safetensors": "down_blocks.0.motion_modules.0.proj_in.weight",
    "t2i.safetensors": "adapter.body.0.in_conv.weight",
}
TOLD = {
    "checkpoint.safetensors": "is a checkpoint; give it to -m",
    "control.safetensors": "is a ControlNet, which is not run",
    "vae.safetensors": "is a VAE; give it to --vae",
    "motion.safetensors": "is a motion module of AnimateDiff, which is not run",
    "t2i.safetensors": "is a T2I-Adapter, which is not run",
    "loha.safetensors": "is made for Stable Diffusion 1.x, and this model is for text of width 32",
    "lora.safetensors:1:0.5:2": "lora.safetensors:1: no such path",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("place")
    write_checkpoint(place / "model", "sd15")
    save_file({UP: torch.ones(64, 2, 1, 1), DOWN: torch.ones(2, 64, 1, 1)}, place / "lora.safetensors")
    save_file({UP: torch.ones(64, 2, 1, 1)}, place / "half.safetensors")
    save_file({UP: torch.ones(64, 3, 1, 1), DOWN: torch.ones(2, 64, 1, 1)}, place / "ranks.safetensors")
    whole = {UP: torch.ones(64, 2, 1, 1).to(torch.int8), DOWN: torch.ones(2, 64, 1, 1)}
    save_file(whole, place / "quantised.safetensors")
    save_file({UP: torch.ones(9, 2, 1, 1), DOWN: torch.ones(2, 9, 1, 1)}, place / "small.safetensors")
    flux = {f"transformer.single_transformer_blocks.0.attn.to_q.lora_{x}.weight": torch.ones(4, 4) for x in "AB"}
    save_file(flux, place / "flux.safetensors")
    save_file({"prompt_embeds": torch.ones(1, 7, 32)}, place / "prompts.safetensors")
    a1111(place / "word.pt", vectors())
    a1111(place / "wide.pt", vectors(2, 768))
    save_adapter(place / "ip.bin", adapter("base", oracle_pipeline("sd15").unet))
    faces = adapter("base", oracle_pipeline("sd15").unet)
    faces["ip_adapter"]["1.to_q_lora.down.weight"] = torch.ones(2, 2)
    save_adapter(place / "face.bin", faces)
    oldest = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora"
    pair = {f"{oldest}.up.weight": torch.ones(64, 2), f"{oldest}.down.weight": torch.ones(2, 64)}
    save_file(pair, place / "oldest.safetensors")
    motion = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor"
    pair = {f"{motion}.to_q_lora.{x}.weight": torch.ones(4, 4) for x in ("up", "down")}
    save_file(pair, place / "motion_lora.safetensors")
    save_file({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, place / "xl.safetensors")
    for name, key in NETWORKS.items():
        save_file({key: torch.ones(4, 4, 3, 3)}, place / name)
    narrow = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.hada_w{}_{}"
    loha = {narrow.format(n, x): torch.ones(4, 768) if x == "b" else torch.ones(320, 4) for n in (1, 2) for x in "ab"}
    save_file(loha, place / "loha.safetensors")
    (place / "loud").mkdir()
    save_file({UP: torch.ones(64, 2, 1, 1), DOWN: torch.ones(2, 64, 1, 1)}, place / "loud" / "STYLE.SAFETENSORS")
    (place / "page.safetensors").write_text("<!DOCTYPE html><html>Sign in</html>")
    (place / "refused.safetensors").write_text('{"error":"Unauthorized","message":"log in to download this"}')
    photo(place / "in.png", (32, 32))
    picture(40, 48, seed=4).save(place / "look.png")
    return place


IS = {
    "lora.safetensors": "is a LoRA or one of its relatives; give it to --lora",
    "word.pt": "is an embedding; give it to --embedding",
    "ip.bin": "is an IP-Adapter; give it to --ip-adapter",
    "prompts.safetensors": "is a file of encoded prompts; give it to --prompt-embeds",
}
# What no option takes says so at once.
UNUSED = {
    "face.bin": "is an IP-Adapter: it needs a face recogniser, and is not run",
    "xl.safetensors": "is an embedding: it is for Stable Diffusion XL",
}
EDIT = ("run", "in.png", "-m", "model", "-p", "a cat", "-o", "x.png")
ASKED = {
    "lora.safetensors": [(*EDIT, "--lora"), ("lora", "inspect"), ("lora", "merge", "model", "x", "--lora")],
    "word.pt": [(*EDIT, "--embedding"), ("embed", "inspect"), ("embed", "convert")],
    "ip.bin": [(*EDIT, "--ip-image", "look.png", "--ip-adapter")],
}


@pytest.mark.parametrize("right", ASKED)
@pytest.mark.parametrize("given", IS)
def test_a_file_of_another_kind_is_called_what_it_is(
    right: str, given: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    for words in ASKED[right]:
        if given == right or (given == "prompts.safetensors" and words == ("embed", "inspect")):
            continue  # which describes those too
        more = ("y.safetensors",) if words == ("embed", "convert") else ()
        assert run([*words, given, *more]) == 3, words
        assert f"{given}: " in (said := one_line(capsys.readouterr().err))
        assert IS[given] in said
    assert not (place / "x.png").exists()


@pytest.mark.parametrize("given", ["oldest.safetensors", "motion_lora.safetensors"])
def test_a_lora_is_not_taken_for_an_adapter_of_faces(
    given: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both have names such as `to_q_lora`."""
    monkeypatch.chdir(place)
    assert run([*EDIT, "--ip-image", "look.png", "--ip-adapter", given]) == 3
    said = one_line(capsys.readouterr().err)
    assert f"{given}: is no IP-Adapter; it is a" in said
    assert "face" not in said


@pytest.mark.parametrize("given", UNUSED)
def test_a_file_that_nothing_takes_is_not_sent_to_another_option(
    given: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    for words in ASKED["lora.safetensors"]:
        assert run([*words, given]) == 3, words
        assert UNUSED[given] in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("--lora", "page.safetensors", PAGE),
        ("--lora", "refused.safetensors", "such as a server's error message, and no weights"),
        ("--lora", "half.safetensors", HALF),
        ("--lora", "ranks.safetensors", "of different ranks: up 3, down 2"),
        ("--lora", "small.safetensors", "does not fit unet.mid_block.attentions.0.proj_in"),
        ("--lora", "flux.safetensors", "is made for FLUX: 2 of 2 keys fit no module"),
        ("--embedding", "page.safetensors", PAGE),
        ("--embedding", "wide.pt", "its vectors have 768 numbers"),
    ],
)
def test_a_dry_run_says_what_the_run_would(
    option: str,
    given: str,
    said: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the same words and the same exit code; --partial is no advice where nothing fits."""
    monkeypatch.chdir(place)
    messages: list[str] = []
    for more in ((), ("--dry-run",)):
        assert run([*EDIT, option, given, *more]) == 3
        messages.append(capsys.readouterr().err.partition("sdedit: ")[2])
    assert said in messages[0]
    assert messages[1] == messages[0]
    assert "--partial" not in messages[0]


def test_a_dry_run_takes_what_fits(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    asked = ("--lora", "lora.safetensors", "--embedding", "word.pt", "--dry-run")
    assert run([*EDIT, *asked]) == 0
    assert run([*EDIT, "--lora", "lora.safetensors", "--dry-run", "--clip-skip", "1"]) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("half.safetensors", HALF),
        ("ranks.safetensors", "up 3, down 2"),
        ("quantised.safetensors", "up holds int8 numbers; expected floating point"),
    ],
)
def test_a_file_of_which_no_module_is_whole_is_described(
    given: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run(["lora", "inspect", given]) == 0
    shown = capsys.readouterr().out
    assert "none is whole" in shown
    assert said in " ".join(shown.split())


def test_info_says_what_is_wrong_with_half_a_lora(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run(["info", "half.safetensors"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"half of LoRA: {HALF} (1 module)" in shown
    assert "give it to --lora" not in shown


def test_a_word_that_stands_in_no_prompt_is_warned_of(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file's inner name is not its word: `embed inspect` says which is, and a run says that one does nothing."""
    monkeypatch.chdir(place)
    for prompt, warned in (("a cat, WORD", False), ("a (word:1.2)", False), ("a cat, inner", True)):
        assert run(["run", "in.png", "-m", "model", "-p", prompt, "--embedding", "word.pt", "--dry-run"]) == 0
        assert ("the word 'word' stands in no prompt" in " ".join(capsys.readouterr().err.split())) is warned
    assert run(["embed", "inspect", "word.pt"]) == 0
    assert "in prompts  'word', as the file is called" in capsys.readouterr().out


def test_adapters_are_found_by_their_names_in_every_command(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Those that ship, and those of the folders that are set; a pair of one name and a wrong one are refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDEDIT_LORAS", str(place))
    for words in (
        ["lora", "inspect", "blueprint"],
        ["lora", "merge", "both.safetensors", "--lora", "blueprint:0.5", "--lora", "blueprint"],
        ["lora", "resize", "blueprint", "small.safetensors", "--rank", "2"],
        ["lora", "convert", "blueprint", "blue", "--to", "peft"],
        ["lora", "merge", "built-in", "merged", "--lora", "blueprint"],
        ["lora", "extract", "merged", "built-in", "back.safetensors", "--rank", "1"],
        ["lora", "inspect", "flux"],
        ["embed", "inspect", "emoji-gold"],
        ["embed", "convert", "emoji-gold", "gold.pt"],
        ["info", "blueprint", "emoji-gold"],
    ):
        assert run(words) == 0, words
    capsys.readouterr()
    assert run(["lora", "inspect", "blueprin"]) == 3
    assert "blueprin: no such file or folder" in capsys.readouterr().err


def test_info_lists_the_adapters_of_a_picture(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(place)
    out = str(tmp_path / "made.png")
    edit = ["run", "in.png", "-m", "model", "-p", "a word", *QUICK, "-q", "-o", out]
    assert run([*edit, "--lora", "lora.safetensors:0.5", "--embedding", "word.pt"]) == 0
    assert run(["info", out]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["lora", "lora, strength 0.5"] in rows
    assert ["embedding", "word"] in rows


@pytest.mark.parametrize("given", TOLD)
def test_other_files_than_adapters_and_other_families_are_named(
    given: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever kind of relative of LoRA a file is, its width tells the family; a third strength is called one."""
    monkeypatch.chdir(place)
    assert run([*EDIT, "--dry-run", "--lora", given]) == 3
    told = capsys.readouterr().err
    assert TOLD[given] in told
    assert ("one strength too many" in told) == given.endswith(":2")


def test_endings_in_capitals_are_endings_in_folders_too(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run([*EDIT, "--dry-run", "--lora", "loud"]) == 0


def test_an_embedding_needs_a_word(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert run(["embed", "init", " ", "--from", "a cat", "-o", "empty.pt"]) == 2
    assert "the word is empty" in one_line(capsys.readouterr().err)
    assert not (place / "empty.pt").exists()


# What is wrong -> a command, its exit code, and what it says.
WRONG = {
    "a model for an adapter": ("lora convert model x.safetensors --to kohya", 3, "model: is the folder of a model"),
    "a model for a word": ("embed convert model x.pt", 3, "model: is the folder of a model; expected a file or folder"),
    "a folder with nothing": ("lora inspect bare", 3, "bare: is a folder without an adapter; name the file"),
    "an adapter for a base": (
        "lora extract lora.safetensors model x.safetensors --rank 2",
        3,
        "looks like a LoRA, not like a Stable Diffusion checkpoint; give it to --lora, and a checkpoint here",
    ),
    "a picture for a base": ("lora extract model look.png x.safetensors --rank 2", 3, "look.png: is a picture"),
    "a picture to write": (
        "lora merge model x.png --lora lora.safetensors",
        2,
        "x.png: a model is a .safetensors file",
    ),
    "a slip of the ending": (
        "convert model x.safetensor",
        2,
        "x.safetensor: a model is a .safetensors file or a folder",
    ),
    "the same files": ("lora extract model model x.safetensors --rank 2", 3, "there is nothing to extract"),
    "no bytes": ("lora resize none.safetensors x.safetensors --rank 2", 3, "none.safetensors: is empty (0 bytes)"),
    "itself": ("lora convert lora.safetensors lora.safetensors --to kohya", 3, "exists and is not overwritten"),
}


@pytest.mark.parametrize("case", WRONG)
def test_commands_that_are_given_wrong_files_say_which_and_write_nothing(
    case: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    (place / "bare").mkdir(exist_ok=True)
    (place / "none.safetensors").touch()
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    words, code, said = WRONG[case]
    assert run(words.split()) == code
    assert said in one_line(capsys.readouterr().err)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
