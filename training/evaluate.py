"""What the model can do, in numbers and sheets: `python -m training.evaluate --model FOLDER`.

Everything that could be tuned is fixed here, before any result: drawings (strokes.py), prompts, strength, steps,
guidance, seeds, the feature space (features.py), and the splits (data.py). Results go to ROOT/evaluation as PNG files
and `numbers.json`, from which the model card is written (card.py).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.nn import AutoencoderKL

from . import data, features, sheets, strokes
from .captions import plain_caption
from .chart import Curve, plot
from .model import WEIGHTS
from .vae import as_model_input, quality, reconstructed
from .words import with_article

STEPS = 25
GUIDANCE = 5.0
PROMPT_STRENGTH = 0.75
PROMPT_SEEDS = (0, 1)
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
KID_LOW, KID_HIGH = 0.2, 0.8
MAIN_STYLE = data.STYLES.index("3d")
BOOTSTRAPS = 200
ROWS = 16  # edits in one call


@dataclass(frozen=True)
class Task:
    """One edit."""

    picture: Image.Image
    prompt: str
    seed: int


def edited(pipeline: StableDiffusionImg2ImgPipeline, tasks: list[Task], strength: float) -> list[Image.Image]:
    """The edits, each with its own generator, so that a picture does not depend on its neighbours."""
    results: list[Image.Image] = []
    for start in range(0, len(tasks), ROWS):
        part = tasks[start : start + ROWS]
        output: Any = pipeline(
            prompt=[task.prompt for task in part],
            image=[task.picture for task in part],
            strength=strength,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(task.seed) for task in part],
        )
        results += output.images
    return results


def pixels_of(pictures: list[Image.Image]) -> NDArray[np.uint8]:
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


# Prompt control


def nearest_concept(net: features.FeatureNet, dataset: data.Dataset, results: Tensor, labels: list[str]) -> list[str]:
    """For each row of features, the label whose training pictures hold the nearest neighbour."""
    wanted = [dataset.find(label) for label in labels]
    rows = [row for row in dataset.rows("train") if dataset.concept[row] in wanted]
    references = features.of_pixels(net, dataset.pixels[rows])
    nearest = (results @ references.T).argmax(dim=1)
    return [dataset.concepts[dataset.concept[rows[int(index)]]].label for index in nearest]


def concept_ranks(net: features.FeatureNet, dataset: data.Dataset, results: Tensor, labels: list[str]) -> list[int]:
    """The place of each row's wanted concept among all concepts, from 1."""
    order = net.scores(results).argsort(dim=1, descending=True)
    wanted = torch.tensor([dataset.find(label) for label in labels])
    return [int(place) + 1 for place in (order == wanted[:, None]).int().argmax(dim=1)]


def prompt_control(
    pipeline: StableDiffusionImg2ImgPipeline, net: features.FeatureNet, dataset: data.Dataset, size: int, out: Path
) -> dict[str, Any]:
    """All drawings under all prompts: how many edits are nearest to what their prompt names."""
    drawings = list(strokes.DRAWINGS.values())
    labels = [drawing.concept for drawing in drawings]
    cells = list(product(PROMPT_SEEDS, range(len(drawings)), labels))
    tasks = [
        Task(strokes.draw(drawings[d], size), f"3d emoji of {with_article(label)}", 100 * seed + d)
        for seed, d, label in cells
    ]
    results = edited(pipeline, tasks, PROMPT_STRENGTH)
    found = features.of_pixels(net, pixels_of(results))
    asked = [label for _, _, label in cells]
    right = [a == b for a, b in zip(nearest_concept(net, dataset, found, labels), asked, strict=True)]
    own = [labels[d] == label for _, d, label in cells]
    ranks = concept_ranks(net, dataset, found, asked)

    count = len(labels)
    rows = [[tasks[d * count].picture, *results[d * count : (d + 1) * count]] for d in range(count)]
    sheets.grid(rows, out / "prompts.png", scale=max(1, 96 // size))
    return {
        "edits": len(right),
        "share": mean(right),
        "chance": 1 / count,
        "share_when_prompt_differs_from_drawing": mean([r for r, o in zip(right, own, strict=True) if not o]),
        "share_of_prompt": {
            label: mean([r for r, a in zip(right, asked, strict=True) if a == label]) for label in labels
        },
        "first_of_all_concepts": mean([rank == 1 for rank in ranks]),
        "in_first_ten_of_all_concepts": mean([rank <= 10 for rank in ranks]),
        "concepts": len(dataset.concepts),
    }


def mean(values: list[Any]) -> float:
    return sum(values) / len(values)


# The trade-off between faithfulness and realism (arXiv 2108.01073, section 3.2)


def simplified(pixels: NDArray[np.uint8]) -> Image.Image:
    """A stroke painting of a picture: few colours, no detail, as the paper simulates strokes."""
    picture = Image.fromarray(pixels)
    side = max(3, picture.width // 8 | 1)
    smooth = picture.filter(ImageFilter.MedianFilter(side))
    return smooth.quantize(5, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).convert("RGB")


def trade_off_tasks(dataset: data.Dataset, size: int) -> list[Task]:
    """The stroke drawings, and stroke paintings of all pictures that were held out; all are asked for in the main
    style."""
    drawn = [
        Task(strokes.draw(drawing, size), f"3d emoji of {with_article(drawing.concept)}", seed)
        for seed, drawing in enumerate(strokes.DRAWINGS.values())
    ]
    painted = [
        Task(
            simplified(dataset.pixels[row]), plain_caption(dataset.concepts[dataset.concept[row]], MAIN_STYLE), 100 + i
        )
        for i, row in enumerate(dataset.rows("swap", "test"))
    ]
    return drawn + painted


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """KID: the unbiased squared MMD with the kernel (x y / d + 1)^3 (arXiv 1801.01401), for features that have been
    divided by sqrt(d)."""
    aa, bb, ab = ((x @ y.T + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    m, n = len(a), len(b)
    within = (aa.sum() - aa.trace()) / (m * (m - 1)) + (bb.sum() - bb.trace()) / (n * (n - 1))
    return float(within - 2 * ab.mean())


def kid(results: Tensor, references: Tensor, less: Tensor | None = None) -> tuple[float, float]:
    """KID of the edits, and its bootstrap standard error over them; with `less`, that of other edits of the same inputs
    is taken off, and the error is that of the difference.

    Each replicate takes half of the edits without replacement: a row beside its own copy would bias the statistic.
    """
    draw = torch.Generator().manual_seed(0)
    half = len(results) // 2

    def value(rows: Tensor) -> float:
        own = kernel_distance(results[rows], references)
        return own if less is None else own - kernel_distance(less[rows], references)

    picks = [torch.randperm(len(results), generator=draw)[:half] for _ in range(BOOTSTRAPS)]
    values = np.array([value(pick) for pick in picks])
    return value(torch.arange(len(results))), float(values.std()) * math.sqrt(half / (len(results) - half))


def textures(
    net: features.FeatureNet, pixels: NDArray[np.uint8], references: NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Texture statistics of both sets, standardised by those of the references, for `kernel_distance`."""
    a, b = (features.textures_of_pixels(net, part) for part in (pixels, references))
    centre, spread, root = b.mean(dim=0), b.std(dim=0).clamp(min=1e-6), math.sqrt(b.shape[1])
    return (a - centre) / spread / root, (b - centre) / spread / root


def concepts(
    net: features.FeatureNet, pixels: NDArray[np.uint8], references: NDArray[np.uint8]
) -> tuple[Tensor, Tensor]:
    """Concept features of both sets, of length one."""
    return features.of_pixels(net, pixels), features.of_pixels(net, references)


def rms(a: list[Image.Image], b: list[Image.Image]) -> NDArray[np.float64]:
    """Root mean square difference of each pair, in 0..1."""
    difference = (pixels_of(a).astype(np.float64) - pixels_of(b)) / 255
    return np.sqrt((difference**2).mean(axis=(1, 2, 3)))


def trade_off(
    pipeline: StableDiffusionImg2ImgPipeline, net: features.FeatureNet, dataset: data.Dataset, size: int, out: Path
) -> dict[str, Any]:
    """Distance to the input, and to the training pictures, against strength."""
    tasks = trade_off_tasks(dataset, size)
    inputs = [task.picture for task in tasks]
    references = dataset.pixels[[row for row in dataset.rows("train") if dataset.style[row] == MAIN_STYLE]]
    columns = {strength: edited(pipeline, tasks, strength) for strength in STRENGTHS}
    distances = np.stack([rms(columns[s], inputs) for s in STRENGTHS])
    sets = [pixels_of(pictures) for pictures in (inputs, *columns.values())]
    drawn = [textures(net, pixels, references) for pixels in sets]
    of_inputs, *kids = (kid(*pair) for pair in drawn)
    low, high = (drawn[1 + STRENGTHS.index(strength)] for strength in (KID_LOW, KID_HIGH))
    change, change_error = kid(*high, less=low[0])
    of_concepts = [kid(*concepts(net, pixels, references)) for pixels in sets[1:]]
    ranks = [rank_correlation(STRENGTHS, distances[:, i]) for i in range(len(tasks))]

    shown = list(range(len(strokes.DRAWINGS)))
    rows = [[inputs[i] for i in shown], *([columns[s][i] for i in shown] for s in STRENGTHS)]
    sheets.grid(rows, out / "strengths.png", scale=max(1, 96 // size))
    plot(
        out / "trade-off.png",
        "strength",
        Curve("distance to the input (RMS)", STRENGTHS, tuple(distances.mean(axis=1)), standard_errors(distances)),
        Curve(
            "KID to the training pictures of the style", STRENGTHS, tuple(k for k, _ in kids), tuple(e for _, e in kids)
        ),
    )
    return {
        "edits_a_strength": len(tasks),
        "strengths": list(STRENGTHS),
        "distance": [float(value) for value in distances.mean(axis=1)],
        "rank_correlation_of_strength_and_mean_distance": rank_correlation(STRENGTHS, distances.mean(axis=1)),
        "mean_rank_correlation_of_a_picture": mean(ranks),
        "kid": [value for value, _ in kids],
        "kid_error": [error for _, error in kids],
        "kid_of_inputs": of_inputs[0],
        "kid_in_concept_features": [value for value, _ in of_concepts],
        "kid_in_concept_features_error": [error for _, error in of_concepts],
        "kid_change_from_low_to_high": change,
        "kid_change_error": change_error,
    }


def rank_correlation(a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64]) -> float:
    """Spearman's, for values without ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def standard_errors(distances: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(row.std(ddof=1) / math.sqrt(len(row))) for row in distances)


def autoencoder(vae: AutoencoderKL, dataset: data.Dataset, out: Path) -> dict[str, Any]:
    """Reconstruction of pictures that were not trained on, and the spread of the scaled latents."""
    result = quality(vae, dataset, torch.device("cpu"))
    shown = as_model_input(dataset.pixels, dataset.rows("test")[:48])
    sheets.pairs(shown, reconstructed(vae, shown, torch.device("cpu"))[0], out / "autoencoder.png")
    return {
        "pictures": len(dataset.rows("test", "swap")),
        "psnr": result.psnr,
        "psnr_of_style": result.psnr_of_style,
        "green_magenta": result.colour[0],
        "yellow_blue": result.colour[1],
        "scaled_latent_deviation": result.spread * vae.config.scaling_factor,
    }


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True, help="The model folder.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Where results go.  [default: ROOT/evaluation]")
@click.option("--only", type=click.Choice(["autoencoder", "prompts", "trade-off"]), multiple=True, help="Some parts.")
@click.option("--threads", type=int, help="CPU threads.")
def main(model: Path, root: Path, out: Path | None, only: tuple[str, ...], threads: int | None) -> None:
    """Measure the model in FOLDER."""
    if threads:
        torch.set_num_threads(threads)
    out = out or root / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(model, torch_dtype=torch.float32)
    vae: Any = pipeline.vae
    size = int(vae.config.sample_size)
    dataset = data.load(root / "data" / f"emoji-{size}.npz")
    net = features.load(root / "features.safetensors")
    first, ten = features.retrieval(net, dataset)
    digest = hashlib.sha256((model / "unet" / WEIGHTS["unet"]).read_bytes()).hexdigest()[:12]
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "settings": lambda: {"steps": STEPS, "guidance": GUIDANCE, "strength": PROMPT_STRENGTH, "size": size},
        "features": lambda: {"unseen_style_first": first, "unseen_style_in_first_ten": ten},
        "autoencoder": lambda: autoencoder(vae, dataset, out),
        "prompts": lambda: prompt_control(pipeline, net, dataset, size, out),
        "trade-off": lambda: trade_off(pipeline, net, dataset, size, out),
    }
    for name in ("settings", "features", *only) if only else parts:
        record(out / "numbers.json", name, {**parts[name](), "unet": digest})


def record(path: Path, name: str, numbers: dict[str, Any]) -> None:
    """Adds a part to the file as it is now: parts may be measured by several processes."""
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    text = json.dumps({**held, name: numbers}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
    click.echo(f"{name}: {json.dumps(numbers, indent=2)}")


if __name__ == "__main__":
    main()
