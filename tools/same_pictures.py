"""Whether two states of the code make the same pictures: twenty edits by the command line and by the library.

    python tools/same_pictures.py WORK > before.json                      in one checkout
    PYTHONPATH=OTHER python tools/same_pictures.py WORK > after.json      the same of another
    diff before.json after.json

WORK keeps the tiny random checkpoints between the two (drawn once, by the factory of the tests). Each line is the
SHA-256 of a picture's pixels; on one machine, with one build of torch, equal code gives equal lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
FAMILIES = ("sd15", "sd21", "lcm")
SAMPLERS = ("euler a", "DPM++ 2M Karras", "dpmpp_sde", "heun", "UniPC")


def models(work: Path) -> dict[str, Path]:
    """A tiny checkpoint of each family, as a folder; the 1.x one as a single file too."""
    found = {family: work / family for family in FAMILIES}
    if not all(path.is_dir() for path in found.values()):
        sys.path.insert(0, str(ROOT / "tests"))
        from helpers.pipelines import write_checkpoint

        for family, path in found.items():
            write_checkpoint(path, family)
    return found


def drawing(path: Path) -> Path:
    """A smooth colour picture whose sides fit no model."""
    y, x = np.mgrid[0:45, 0:58]
    pixels = np.stack([x * 4, y * 5, (x * y) % 256], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def told(work: Path) -> Iterator[tuple[str, str]]:
    """The edits of the command line, by name."""
    picture, folders = drawing(work / "input.png"), models(work)
    edits: dict[str, list[str]] = {}
    for dtype in ("fp32", "bf16"):
        edits[f"built-in {dtype}"] = ["--dtype", dtype]
        for family in FAMILIES:
            edits[f"{family} {dtype}"] = ["-m", str(folders[family]), "--dtype", dtype, "--cfg-scale", "4"]
    for sampler in SAMPLERS:
        edits[f"built-in {sampler}"] = ["--sampler", sampler, "--dtype", "fp32"]
    edits["freeu, weights, chunks"] = ["--freeu", "0.9,0.2,1.3,1.4", "--long-prompts", "chunk", "--clip-skip", "1"]
    edits["tiles, scheduled prompt"] = ["--vae-tiling", "-n", "[a:b:0.5] (cat:1.3)", "--dtype", "fp32"]
    for name, options in edits.items():
        out = work / "out.png"
        command = [sys.executable, "-m", "sdedit_cli", "run", str(picture), "-p", "3d emoji of a (red:1.2) apple"]
        command += ["-o", str(out), "--seed", "5", "--steps", "6", "--strength", "0.7", "--on-exists", "overwrite"]
        subprocess.run([*command, "-q", *options], check=True)
        yield f"sdedit run, {name}", digest(np.asarray(Image.open(out)))


def called(work: Path) -> Iterator[tuple[str, str]]:
    """The edits of the library, by name."""
    import torch

    from sdedit_cli import StableDiffusionImg2ImgPipeline

    picture = Image.open(work / "input.png").resize((56, 40))
    for dtype in (torch.float32, torch.bfloat16):
        for family, folder in models(work).items():
            pipe = StableDiffusionImg2ImgPipeline.from_pretrained(folder, torch_dtype=dtype)
            if family == "sd15":
                pipe.enable_freeu(0.9, 0.2, 1.3, 1.4)
            made = pipe(
                prompt=["a cat", "a dog"],
                image=picture,
                num_inference_steps=5,
                generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)],
                output_type="np",
            )
            yield f"pipeline, {family} {str(dtype).removeprefix('torch.')}", digest(made.images)


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def main(work: Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(json.dumps({**dict(told(work)), **dict(called(work))}, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
