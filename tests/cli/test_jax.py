"""--backend jax: the picture that torch makes, and a refusal by name of what is not done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import photo
from helpers.pipelines import write_checkpoint
from PIL import Image

pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")

from sdedit_cli.cli.main import run

CALL = ("-p", "a cat", "-n", "blue", "--steps", "4", "--seed", "3", "--dtype", "fp32", "--sampler", "euler a")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, "sd15")
    return folder


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_both_backends_make_the_same_picture_and_tell_the_same_steps(
    folder: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """At an odd size, with a sampler that draws noise on the way, and its steps saved."""
    photo(folder / "a.png", (37, 29))
    told: dict[str, list[int]] = {}
    for backend in ("torch", "jax"):
        steps = ("--save-every", "2", "--steps-dir", backend)
        out = ("-o", f"{backend}.png", "--backend", backend, "--json")
        assert run(["run", "a.png", "-m", str(model), *CALL, *steps, *out]) == 0
        events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        told[backend] = [event["step"] for event in events if event["event"] == "step"]
        (load,) = (event for event in events if event["event"] == "load")
        assert load["device"] == ("cpu" if backend == "torch" else "jax cpu")
    assert told["jax"] == told["torch"] == [1, 2, 3]
    assert np.abs(pixels(Path("torch.png")) - pixels(Path("jax.png"))).max() <= 1
    (saved,) = Path("jax").iterdir()
    assert np.abs(pixels(saved) - pixels(Path("torch") / saved.name)).max() <= 1


REFUSED = {
    "freeu": (("--freeu", "1,1,1,1"), "--freeu is not done by --backend jax"),
    "tiling": (("--vae-tiling",), "--vae-tiling is not done by --backend jax"),
    "low memory": (("--low-memory",), "--low-memory is not done by --backend jax"),
    "threads": (("--threads", "2"), "--threads is not done by --backend jax"),
    "attention": (("--attention", "sliced"), "--attention is not done by --backend jax"),
    "lora": (("--lora", "x.safetensors"), "--lora is not done by --backend jax"),
    "embedding": (("--embedding", "x.safetensors"), "--embedding is not done by --backend jax"),
    "IP-Adapter": (("--ip-adapter", "x.bin", "--ip-image", "a.png"), "--ip-adapter is not done by --backend jax"),
    "device": (("--device", "cuda"), "--device cuda is not for --backend jax"),
    "schedule": (("-p", "[a:b:0.5]"), "prompts that change on the way"),
    "rounds": (("--strength", "0.8,0.6"), "--backend jax does one round"),
    "mask": (("--mask", "a.png"), "--mask is not done by --backend jax"),
    "sampler": (("--sampler", "DPM++ SDE"), "sampler 'dpmpp_sde'"),
}


@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_a_batch_only_the_row_is_refused_that_asks_for_more(folder: Path, model: Path, first: int) -> None:
    """Whichever comes first: one model is loaded for all of them, and each is its own wish."""
    photo(folder / "a.png", (32, 32))
    rows = [{}, {"mask": "a.png"}, {"freeu": [0.9, 0.2, 1.2, 1.4]}]
    jobs = [{"input": "a.png", "output": f"{at}.png", **row} for at, row in enumerate(rows)]
    Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs[first:] + jobs[:first]))
    assert run(["batch", "jobs.jsonl", "out", "-m", str(model), *CALL, "--backend", "jax"]) == 4
    assert {path.name for path in Path("out").glob("*.png")} == {"0.png"}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_done_is_refused_by_name_before_anything_is_loaded(
    folder: Path, model: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options, words = REFUSED[case]
    photo(folder / "a.png", (32, 32))
    photo(folder / "x.safetensors", (8, 8), format="png")
    photo(folder / "x.bin", (8, 8), format="png")
    for dry in ([], ["--dry-run"]):
        code = run(["run", "a.png", "-m", str(model), "-p", "a cat", "--backend", "jax", *options, *dry])
        error = capfd.readouterr().err
        assert code == 2
        assert words in error
        assert "Traceback" not in error
    assert not Path("a.edited.png").exists()


def test_a_batch_is_that_of_torch_resumes_and_refuses_by_job(
    folder: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two pictures of one shape, in an order of their own; one job asks for what is not done."""
    for name in ("a.png", "b.png"):
        photo(folder / name, (32, 32))
    rows = [{"input": "a.png", "prompt": "a cat"}, {"input": "b.png", "prompt": "a dog", "strength": 0.5}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ("batch", "jobs.jsonl", "-m", str(model), "--steps", "4", "--seed", "3", "--dtype", "fp32", "--json")
    for backend in ("torch", "jax"):
        assert run([*words, "--backend", backend, backend]) == 0
    for name in ("a.png", "b.png"):
        assert np.abs(pixels(Path("torch") / name) - pixels(Path("jax") / name)).max() <= 1
    capfd.readouterr()
    rows.append({"input": "a.png", "prompt": "a cat", "freeu": [1, 1, 1, 1], "output": "c.png"})
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run([*words, "--backend", "jax", "jax"]) == 4
    out, error = capfd.readouterr()
    told = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in told if event["event"] in ("saved", "skipped", "failed")].count("skipped") == 2
    (failed,) = (event for event in told if event["event"] == "failed")
    assert "--freeu is not done by --backend jax" in failed["error"]
    assert "Traceback" not in error
    assert run([*words, "--backend", "jax", "jax", "--check"]) == 6
