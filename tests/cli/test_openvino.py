"""--backend openvino: the one engine with another library below it. The picture is that of torch to rounding, options
are the same ones, what is not done is refused by name, and pictures say what made them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import environment, events, one_line, photo
from helpers.ip_adapters import adapter, image_encoder, save_adapter
from helpers.pipelines import picture, write_checkpoint
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'sdedit-cli[test]'")

from sdedit_cli.cli.main import run

CALL = ("-p", "a cat", "-n", "blue", "--steps", "4", "--seed", "3", "--dtype", "fp32", "--sampler", "euler a")
OV = ("--backend", "openvino")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and adapters for it."""
    place = tmp_path_factory.mktemp("place")
    theirs = write_checkpoint(place / "model", "sd15")
    draw = torch.Generator().manual_seed(0)
    up, down = torch.randn(64, 2, 1, 1, generator=draw), torch.randn(2, 64, 1, 1, generator=draw)
    module = "lora_unet_mid_block_attentions_0_proj_in"
    save_file({f"{module}.lora_up.weight": up, f"{module}.lora_down.weight": down}, place / "one.safetensors")
    save_adapter(place / "ip" / "base.bin", adapter("base", theirs.unet))
    image_encoder().save_pretrained(place / "ip" / "image_encoder")
    picture(40, 48, seed=41).save(place / "look.png")
    photo(place / "in.png", (37, 29))
    photo(place / "other.png", (37, 29), mode="L")
    mask = np.zeros((29, 37), np.uint8)
    mask[5:20, 10:30] = 255
    Image.fromarray(mask).save(place / "mask.png")
    return place


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("caches")


@pytest.fixture(autouse=True)
def one_cache(folder: Path, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has converted the next one finds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(caches))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def kept(caches: Path) -> dict[str, int]:
    """The converted networks, and when each was written; reading one sets another time."""
    return {path.name: path.stat().st_ino for path in (caches / "sdedit" / "openvino").iterdir()}


EDITS = {
    "steps": ("--save-every", "2", "--steps-dir", "steps"),
    "everything": (
        *("--lora", "one.safetensors", "--freeu", "0.9,0.2,1.2,1.4", "--mask", "mask.png", "--strength", "0.8,0.5"),
        *("--ip-adapter", "ip/base.bin", "--ip-image", "look.png", "--seamless", "x", "--vae-tiling"),
    ),
    "tiles, and a prompt that changes": ("--tile", "16", "-p", "(a [cat:dog:0.5]:1.2)", "--cfg-scale", "1"),
}


@pytest.mark.parametrize("case", EDITS)
def test_both_libraries_make_the_same_picture(
    place: Path, folder: Path, case: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    told: dict[str, list[object]] = {}
    for backend, device in (("torch", "cpu"), ("openvino", "openvino cpu")):
        out = folder / f"{backend}.png"
        more = (*EDITS[case], "-o", str(out), "--backend", backend, "--json", "--on-exists", "overwrite")
        assert run(["run", "in.png", "-m", "model", *CALL, *more]) == 0
        said = events(capfd.readouterr().out)
        told[backend] = [(event["event"], event.get("step")) for event in said]
        assert next(event["device"] for event in said if event["event"] == "load") == device
    assert told["torch"] == told["openvino"]
    assert np.abs(pixels(folder / "torch.png") - pixels(folder / "openvino.png")).max() <= 1


def test_a_second_run_converts_nothing_and_makes_the_same_bytes(place: Path, folder: Path, caches: Path) -> None:
    made: list[bytes] = []
    files: list[dict[str, int]] = []
    for _ in range(2):
        call = ("run", str(place / "in.png"), "-m", str(place / "model"), *CALL, *OV)
        assert run([*call, "-o", "out.png", "--on-exists", "overwrite"]) == 0
        made.append(Path("out.png").read_bytes())
        files.append(kept(caches))
    assert made[0] == made[1]
    assert files[0] == files[1]
    assert len([name for name in files[0] if name.startswith("openvino-")]) >= 3, "UNet, and both ways of the VAE"


def test_pictures_of_a_batch_do_not_depend_on_their_company_and_adapters_are_exchanged(
    place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches with pictures in common, of a LoRA that comes and goes, and short at their ends."""
    monkeypatch.chdir(place)

    def batch(name: str, company: str) -> Path:
        jobs: list[dict[str, object]] = [{"input": "in.png"}, {"input": company}, {"input": "mask.png"}]
        jobs += [{**job, "lora": ["one.safetensors"]} for job in jobs]
        lines = [json.dumps({**job, "output": f"{k}.png"}) for k, job in enumerate(jobs)]
        Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        call = ("batch", f"{name}.jsonl", str(folder / name), "-m", "model", *CALL, *OV, "--batch-size", "2")
        assert run(list(call)) == 0
        return folder / name

    one, other = batch("one", "other.png"), batch("other", "look.png")
    assert all((one / f"{k}.png").read_bytes() == (other / f"{k}.png").read_bytes() for k in (0, 2, 3, 5))
    assert np.abs(pixels(one / "3.png") - pixels(one / "0.png")).max() > 1, "the LoRA is seen"


def test_a_picture_says_what_computed_it_and_comes_again_byte_for_byte(
    place: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = ("-m", str(place / "model"))
    assert run(["run", str(place / "in.png"), *model, *CALL, *OV, "-o", "out.png"]) == 0
    capfd.readouterr()
    assert run(["run", str(place / "in.png"), *model, "--like", "out.png", "-o", "again.png"]) == 0
    assert "cannot be promised" not in capfd.readouterr().err
    assert Path("out.png").read_bytes() == Path("again.png").read_bytes()
    other = ("--like", "out.png", "--backend", "torch", "-o", "torch.png")
    assert run(["run", str(place / "in.png"), *model, *other]) == 0
    error = " ".join(capfd.readouterr().err.split())
    assert "(was openvino)" in error
    assert "device cpu (was openvino cpu)" in error


def test_auto_takes_what_was_measured_once_and_pictures_say_which(
    place: Path, folder: Path, caches: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = ("run", str(place / "in.png"), "-m", str(place / "model"), *CALL, "--backend", "auto", "--json")
    chosen: list[str] = []
    for name in ("one.png", "two.png"):
        assert run([*call, "-o", name]) == 0
        chosen.append(next(e["device"] for e in events(capfd.readouterr().out) if e["event"] == "load"))
        (choice,) = (name for name in kept(caches) if name.startswith("choice-"))
        assert choice
    assert chosen[0] == chosen[1]
    assert chosen[0] in ("cpu", "openvino cpu")
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert run(["info", "one.png", "--json"]) == 0
    said = capfd.readouterr().out
    assert ("openvino" in said) == (chosen[0] == "openvino cpu")


@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_a_batch_only_the_row_is_refused_that_asks_for_more(place: Path, folder: Path, first: int) -> None:
    photo(folder / "a.png", (32, 32))
    rows = [{}, {"cache-features": 3}, {"merge-tokens": 0.5}]
    jobs = [{"input": "a.png", "output": f"{at}.png", **row} for at, row in enumerate(rows)]
    Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs[first:] + jobs[:first]))
    call = ("batch", "jobs.jsonl", "out", "-m", str(place / "model"), *CALL, *OV)
    assert run(call) == 4
    assert {path.name for path in Path("out").glob("*.png")} == {"0.png"}
    assert run([*call[:-1], "auto"]) == 0  # torch makes those, whatever makes the others


REFUSED = {
    "attention": (("--attention", "sliced"), "--attention is not done by --backend openvino"),
    "device": (("--device", "cuda"), "--device cuda is not for --backend openvino"),
    "no such device": (("--device", "xpu:7"), "--device xpu:7: OpenVINO finds CPU"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_done_is_refused_by_name_before_anything_is_loaded(
    place: Path, folder: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options, words = REFUSED[case]
    photo(folder / "a.png", (32, 32))
    assert run(["run", "a.png", "-m", str(place / "model"), "-p", "a cat", *OV, *options, "--json"]) == 2
    out, error = capfd.readouterr()
    assert words in one_line(error)
    assert "load" not in {event["event"] for event in events(out)}


def test_the_makers_of_the_library_are_told_nothing(place: Path, folder: Path) -> None:
    """It counts its imports and conversions over the network, from a package of its own, where that is found."""
    code = (
        "import sys; from sdedit_cli.cli.main import run; "
        "code = run(sys.argv[1:]); assert 'openvino' in sys.modules; "
        "sys.exit(code or sys.modules.get('openvino_telemetry') is not None)"
    )
    call = ("run", str(place / "in.png"), "-m", str(place / "model"), *CALL, *OV, "-o", "out.png")
    done = subprocess.run([sys.executable, "-c", code, *call], env=environment(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_where_it_is_not_installed_one_line_says_what_to_install_and_auto_takes_torch(
    place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    photo(folder / "a.png", (32, 32))
    monkeypatch.setattr("sdedit_cli.runtime.openvino.machine.find_spec", lambda name: None)
    for call, code in ((["run", "a.png"], 2), (["batch", ".", "out"], 5)):
        assert run([*call, "-p", "a cat", *OV]) == code
        assert "pip install 'sdedit-cli[openvino]'" in capfd.readouterr().err
    call = ["run", "a.png", "-m", str(place / "model"), *CALL, "--backend", "auto", "--json", "-o", "b.png"]
    assert run(call) == 0
    assert next(e["device"] for e in events(capfd.readouterr().out) if e["event"] == "load") == "cpu"
