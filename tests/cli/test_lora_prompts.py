"""LoRAs that prompts and pictures name: `<lora:name:te:unet>`, LoRA folders, hashes, `--like`."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.cli import QUICK, events, one_line, photo, sdedit
from helpers.loras import DIALECTS, factors
from helpers.pipelines import write_checkpoint
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.cli.main import run
from sdedit_cli.presets import load_preset


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and beside it two LoRAs for it."""
    place = tmp_path_factory.mktemp("model")
    write_checkpoint(place / "m", "sd15")
    pipe: Any = StableDiffusionImg2ImgPipeline.from_pretrained(place / "m")
    for seed, name in enumerate(("style", "other"), 1):
        state = {k: v.contiguous() for k, v in DIALECTS["kohya"](pipe, factors(pipe, seed=seed)).items()}
        save_file(state, place / f"{name}.safetensors", {"ss_output_name": f"{name} of mine"})
    return place


@pytest.fixture
def loras(folder: Path, model: Path) -> Path:
    """The folder of LoRAs of a user, and an input beside it."""
    photo(folder / "a.png")
    (folder / "loras" / "sub").mkdir(parents=True)
    shutil.copy(model / "style.safetensors", folder / "loras")
    shutil.copy(model / "other.safetensors", folder / "loras" / "sub" / "other.v1.safetensors")
    return folder / "loras"


@pytest.fixture
def made(model: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    def make(*words: str, code: int = 0, name: str = "out.png", quick: bool = True) -> Any:
        """The picture of a run; or what a run said that ended with another code."""
        capfd.readouterr()
        command = ["run", "a.png", "-m", str(model / "m"), "-o", name, "--on-exists", "overwrite", *words]
        assert run([*command, *(QUICK if quick else ())]) == code, capfd.readouterr().err
        if code:
            return one_line(capfd.readouterr().err)
        with Image.open(name) as picture:
            picture.load()
        return picture

    return make


FOLDER = ("--lora-dir", "loras")


def test_a_tag_is_the_option_with_the_numbers_the_other_way_round(loras: Path, made: Any) -> None:
    plain = made("-p", "a cat").tobytes()
    option = made("-p", "a cat", "--lora", f"{loras / 'style.safetensors'}:0.8:0.3").tobytes()
    tag = made("-p", "a cat<lora:style:0.3:0.8>", *FOLDER).tobytes()
    swapped = made("-p", "a cat<lora:style:0.8:0.3>", *FOLDER).tobytes()
    assert tag == option != plain
    assert swapped not in (option, plain)
    assert made("-p", "a cat<lora:style:0>", *FOLDER).tobytes() == plain
    both = made("-p", "a cat<lora:other.v1:0.5>", "--lora", f"{loras / 'style.safetensors'}:0.8:0.3", *FOLDER)
    assert both.tobytes() not in (option, plain)


@pytest.mark.parametrize(
    ("tagged", "plain"),
    [
        (["-p", "a (cat<lora:style:0.5>:1.3)"], ["-p", "a (cat:1.3)"]),
        (["-p", "[a:<lora:style:0.5>b:0.5] (c)"], ["-p", "[a:b:0.5] (c)"]),
        (["-p", "<lyco:style:0.5>a [b|c] BREAK d"], ["-p", "a [b|c] BREAK d"]),
        (["-p", "a <lora:style:0.5>(cat)", "--no-weighting"], ["-p", "a (cat)", "--no-weighting"]),
        (["-p", "<lora:style:0.5>"], ["-p", ""]),
    ],
)
def test_a_tag_may_stand_anywhere_and_leaves_the_rest_alone(
    tagged: list[str], plain: list[str], loras: Path, made: Any
) -> None:
    assert made(*tagged, *FOLDER).tobytes() == made(*plain, "--lora", "style:0.5", *FOLDER).tobytes()


def test_the_picture_says_what_web_uis_say_and_replays(loras: Path, made: Any) -> None:
    prompt = "a cat <lora:style:0.3:0.8:dyn=2> <lora:sub/other.v1:0.5:lbw=INALL>"
    first = made("-p", prompt, "--lora", "style of mine:0.2", *FOLDER, name="first.png")
    data = Path("first.png").read_bytes()
    payload = {}
    for name in ("style.safetensors", "sub/other.v1.safetensors"):
        raw = (loras / name).read_bytes()
        payload[name] = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()
    style, other = (payload[name][:12] for name in payload)
    text = first.text["parameters"]
    assert text.startswith(f"{prompt}\n")
    assert f'Lora hashes: "style: {style}, style: {style}, sub/other.v1: {other}"' in text
    one, two, three = json.loads(first.text["sdedit"])["ingredients"]
    assert (one["name"], one["scale"], one.get("te_scale")) == ("style", 0.2, None)
    assert (two["name"], two["scale"], two["te_scale"], two["dyn"]) == ("style", 0.8, 0.3, 2)
    assert (three["name"], three["blocks"], three["payload"]) == (
        "sub/other.v1",
        "INALL",
        payload["sub/other.v1.safetensors"],
    )
    assert str(loras) not in data.decode("latin-1")
    # The same files under other names are found by their hashes.
    (loras / "style.safetensors").rename(loras / "renamed.safetensors")
    (loras / "sub" / "other.v1.safetensors").rename(loras / "sub" / "newer.safetensors")
    again = made("--like", "first.png", *FOLDER, quick=False)
    assert again.tobytes() == first.tobytes()
    assert again.text["parameters"].startswith(f"{prompt}\n")
    # Another prompt has no tags, and what was given beside it stays.
    bare = made("--like", "first.png", "-p", "a cat", *FOLDER, name="bare.png", quick=False)
    assert bare.tobytes() == made("-p", "a cat", "--lora", "renamed:0.2", *FOLDER).tobytes()
    assert made("--like", "bare.png", *FOLDER, quick=False).tobytes() == bare.tobytes()
    # One's own LoRA takes the place of those beside the prompt.
    own = made("--like", "bare.png", "--lora", "newer", *FOLDER, quick=False)
    assert own.tobytes() == made("-p", "a cat", "--lora", "newer", *FOLDER).tobytes()


def test_more_pictures_like_one_with_loras_do_not_begin_with_itself(
    loras: Path, made: Any, model: Path, folder: Path
) -> None:
    made("-p", "a cat <lora:style:0.3>", "--lora", "other.v1:0.2", *FOLDER, name="x.png")

    def seeds(*words: str) -> list[int]:
        command = ("run", "a.png", "-m", str(model / "m"), "--like", "x.png", "--count", "2", "--json", "--dry-run")
        done = sdedit(*command, "-o", "new/", *FOLDER, *words, cwd=folder)
        assert done.returncode == 0, done.stderr
        return [event["seed"] for event in events(done.stdout) if event["event"] == "plan"]

    assert seeds() == [2, 3]
    assert seeds("--lora", "other.v1:0.25") == [1, 2]
    assert seeds("--lora", "style:0.2") == [1, 2]
    assert seeds("--lora", "other.v1:0.2") == [2, 3]


def test_a_picture_without_a_lora_replays_without_one(loras: Path, made: Any) -> None:
    plain = made("-p", "a cat", name="plain.png")
    Path("p.toml").write_text('lora = ["loras/style.safetensors"]\n')
    assert made("--preset", "./p.toml", "-p", "a cat").tobytes() != plain.tobytes()
    assert made("--preset", "./p.toml", "--like", "plain.png", quick=False).tobytes() == plain.tobytes()


def test_a_lora_that_is_gone_is_said_by_name(loras: Path, made: Any) -> None:
    made("-p", "a cat", "--lora", "style:0.2", *FOLDER, name="option.png")
    made("-p", "a cat <lora:style:0.2>", *FOLDER, name="tag.png")
    said = made("--like", "tag.png", code=3)
    assert "tag.png: its prompt has <lora:style:0.2>: no LoRA is called so" in said
    assert "name its folder with --lora-dir, or give another prompt with -p" in said
    plain = made("-p", "a cat")
    assert made("--like", "option.png", quick=False).tobytes() == plain.tobytes()
    assert made("--like", "tag.png", "-p", "a cat", quick=False).tobytes() == plain.tobytes()


def test_what_is_found_for_a_picture_is_said(
    loras: Path, made: Any, capfd: pytest.CaptureFixture[str], model: Path
) -> None:
    made("-p", "a cat <lora:style:0.2>", "--lora", "other.v1", *FOLDER, name="x.png")
    assert run(["run", "a.png", "-m", str(model / "m"), "--like", "x.png", "-o", "b.png", *FOLDER]) == 0
    said = capfd.readouterr().err
    assert f"x.png: <lora:style:0.2> is {Path('loras/style.safetensors')}" in said
    assert f"x.png: the LoRA 'other.v1' is {Path('loras/sub/other.v1.safetensors')}" in said
    assert run(["run", "a.png", "-m", str(model / "m"), "--like", "x.png", "-o", "c.png"]) == 3
    shutil.rmtree(loras / "sub")
    assert run(["run", "a.png", "-m", str(model / "m"), "--like", "x.png", "-o", "c.png", *FOLDER]) == 0
    said = capfd.readouterr().err
    assert "x.png: ignored is lora: other.v1" in said
    assert "x.png: the LoRA 'other.v1' is not in the LoRA folders; give it with --lora" in said


def foreign(text: str) -> str:
    info = PngInfo()
    info.add_text("parameters", f"{text}, Seed: 1, CFG scale: 7.5, Denoising strength: 0.5, Version: v1.10.1")
    Image.new("RGB", (64, 48)).save("theirs.png", pnginfo=info)
    return "theirs.png"


def test_a_web_uis_picture_finds_its_loras_by_their_hashes_and_names(loras: Path, made: Any) -> None:
    raw = (loras / "style.safetensors").read_bytes()
    short = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()[:12]
    wanted = made("-p", "a cat ", "--lora", "style:0.8:0.3", "--sampler", "euler", *FOLDER).tobytes()
    line = "\nSteps: 2, Sampler: Euler"
    machine = ("--dtype", "fp32", "--device", "cpu", *FOLDER)
    by_hash = foreign(f'a cat <lora:theirs:0.3:0.8>{line}, Lora hashes: "theirs: {short}"')
    assert made("--like", by_hash, *machine, quick=False).tobytes() == wanted
    whole = foreign(f'a cat <lora:theirs:0.3:0.8>{line}, Lora hashes: "theirs: {hashlib.sha256(raw).hexdigest()[:10]}"')
    assert made("--like", whole, *machine, quick=False).tobytes() == wanted
    by_name = foreign(f"a cat <lora:style of mine:0.3:0.8>{line}")
    assert made("--like", by_name, *machine, quick=False).tobytes() == wanted
    gone = foreign(f'a cat <lora:theirs:0.3:0.8>{line}, Lora hashes: "theirs: 0123456789ab"')
    assert "<lora:theirs:0.3:0.8>: no LoRA is called so" in made("--like", gone, *machine, quick=False, code=3)
    # A file that was saved anew says which hash it had, and web UIs record that one.
    said = hashlib.sha256(b"as it was").hexdigest()
    save_file(load_file(loras / "style.safetensors"), loras / "anew.safetensors", {"sshs_model_hash": said})
    by_said = foreign(f'a cat <lora:theirs:0.3:0.8>{line}, Lora hashes: "theirs: {said[:12]}"')
    assert made("--like", by_said, *machine, quick=False).tobytes() == wanted
    bad = foreign(f"a cat <lora:style:x>{line}")
    assert "theirs.png: <lora:style:x>: 'x' is no number" in made("--like", bad, *machine, quick=False, code=3)


@pytest.mark.parametrize(
    "name", ["{root}/secret", "../secret", "loras/../../secret", "{root}/secret.safetensors", "~/x"]
)
@pytest.mark.parametrize("way", ["prompt", "preset", "picture"])
def test_no_prompt_reaches_a_path(name: str, way: str, loras: Path, made: Any, model: Path) -> None:
    """Names are looked up among what the folders hold, and nothing else is touched."""
    root = loras.parent.parent
    shutil.copy(model / "style.safetensors", root / "secret.safetensors")
    prompt = f"<lora:{name.format(root=root)}:1>"
    Path("p.toml").write_text(f"prompt = '{prompt}'\n")
    words = {
        "prompt": ("-p", prompt),
        "preset": ("--preset", "./p.toml"),
        "picture": ("--like", foreign(f"{prompt}\nSteps: 2, Sampler: Euler")),
    }[way]
    assert "no LoRA is called so" in made(*words, *FOLDER, code=3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("-p", "a <lora:stile:1>"),
            3,
            "<lora:stile:1>: no LoRA is called so; did you mean 'style'? (LoRA folders: loras)",
        ),
        (("-p", "a <lora:style:x>"), 2, "<lora:style:x>: 'x' is no number"),
        (("-p", "a <lora:style:1"), 2, "'<lora:style:1' is a tag without an end"),
        (("-p", "a <hypernet:style:1>"), 2, "asks for a hypernetwork"),
        (
            ("-p", "a", "--lora", "stile"),
            3,
            "--lora stile: no such path, and no LoRA of that name; did you mean 'style'",
        ),
        (("-p", "a", "--lora", "style:lbw=1,2"), 2, "--lora: style: has 2 block weights; expected 17 or 26"),
        (("-p", "a <lora:style:1:lbw=MINE>"), 2, "'MINE' is no set of block weights"),
        (("-p", "a <lora:twice:1>"), 3, "'twice' names 2 files: loras/sub/twice.pt and loras/twice.safetensors"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    words: tuple[str, ...], code: int, said: str, loras: Path, made: Any
) -> None:
    for name in ("twice.safetensors", "sub/twice.pt"):
        (loras / name).write_bytes(b"x")
    found = made(*words, *FOLDER, code=code)
    assert said.split("names 2 files: ")[0] in found
    if "twice" in said:
        assert all(str(Path(part)) in found for part in ("loras/twice.safetensors", "loras/sub/twice.pt"))


def test_folders_come_from_the_variable_and_the_config_too(
    loras: Path, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = made("-p", "a <lora:style:0.5>", *FOLDER).tobytes()
    monkeypatch.setenv("SDEDIT_LORAS", str(loras))
    assert made("-p", "a <lora:style:0.5>").tobytes() == wanted
    monkeypatch.delenv("SDEDIT_LORAS")
    Path("config.toml").write_text('[loras]\nfolders = ["loras"]\n')
    monkeypatch.setenv("SDEDIT_CONFIG", "config.toml")
    assert made("-p", "a <lora:style:0.5>").tobytes() == wanted
    Path("p.toml").write_text('prompt = "a <lora:style:0.5>"\n')
    assert made("--preset", "./p.toml").tobytes() == wanted


def test_a_tag_in_the_negative_prompt_is_text_and_said_so(
    loras: Path, made: Any, capfd: pytest.CaptureFixture[str], model: Path
) -> None:
    command = ["run", "a.png", "-m", str(model / "m"), "-p", "a", "-n", "<lora:gone:1>", "--dry-run"]
    assert run(command) == 0
    assert "the negative prompt has <lora:gone:1>: text there, as in web UIs" in capfd.readouterr().err


def test_a_dry_run_names_the_files(loras: Path, model: Path, folder: Path) -> None:
    done = sdedit(
        *("run", "a.png", "-m", str(model / "m"), "-p", "a <lora:style:0.5:1>", "--dry-run", *FOLDER), cwd=folder
    )
    assert done.returncode == 0
    assert f"LoRA: {Path('loras/style.safetensors')}:1:0.5" in done.stderr.decode()


@pytest.mark.parametrize(
    ("preset", "sampler", "guided"),
    [
        ("lcm", "LCM", True),
        ("hyper", "DDIM trailing", False),
        ("hyper-cfg", "DDIM trailing", True),
        ("hyper-1step", "TCD", False),
        ("tcd", "TCD", False),
    ],
)
def test_loras_of_few_steps_have_a_preset(
    preset: str, sampler: str, guided: bool, loras: Path, made: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """It runs its number of steps, or the asked-for one, at any strength; below a guidance of 1 there is none."""
    machine = ("--seed", "1", "--dtype", "fp32", "--device", "cpu", *FOLDER)
    steps = load_preset(preset).layer.values["steps"]
    for words, wanted in (((), steps), (("--steps", "2", "--strength", "0.35"), 2)):
        picture = made("--preset", preset, "-p", "a <lora:style:0.1>", *words, *machine, quick=False)
        assert f", {wanted} of " in capfd.readouterr().err
        assert f"Sampler: {sampler}," in picture.text["parameters"]
        edit = json.loads(picture.text["sdedit"])["edit"]
        assert (edit["cfg_scale"] > 1) == guided
        again = made("--like", "out.png", *machine[:-2], *FOLDER, name="again.png", quick=False)
        assert again.tobytes() == picture.tobytes()
