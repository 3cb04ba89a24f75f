"""What approximate steps save (random weights of full size), and what they cost (pictures of the built-in model).

Drawings are edited by their presets with and without each option. Told is the CIEDE2000 between both pictures, with
the mean and the largest difference of a channel; beside them stands another seed, which is another picture. `--sheet`
writes all of them, a row each. Seconds are those of the ten steps of a guided picture, without encoding and decoding.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .common.children import ROOT
from .common.rows import OURS, Row
from .common.turns import seconds

if TYPE_CHECKING:
    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit

WAYS: dict[str, dict[str, Any]] = {
    "cfg-interval 0..0.6": {"cfg_interval": "0..0.6"},
    "cfg-interval 0..0.8": {"cfg_interval": "0..0.8"},
    "cache-features 2": {"cache_features": 2},
    "cache-features 3": {"cache_features": 3},
    "cache-features 5": {"cache_features": 5},
    "merge-tokens 0.3": {"merge_tokens": 0.3},
    "merge-tokens 0.5": {"merge_tokens": 0.5},
}
DRAWINGS = ("apple", "bus", "grin", "house", "mountain", "pig", "tiger", "tree")
ENLARGED = 128


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--approximate-size", type=int, default=512, help="side of the timed picture (default: 512)")
    parser.add_argument("--ways", nargs="+", metavar="WAY", help=f"of {', '.join(ways())} (default: all)")


def ways() -> dict[str, dict[str, Any]]:
    from sdedit_cli.presets import FAST, load_preset

    return {**WAYS, "fast": dict(load_preset(FAST).layer.values)}


def run(given: argparse.Namespace) -> Iterator[Row]:
    chosen = {name: way for name, way in ways().items() if not given.ways or name in given.ways}
    yield from pictures(given, chosen)
    yield from times(given, chosen)


def pictures(given: argparse.Namespace, chosen: dict[str, dict[str, Any]]) -> Iterator[Row]:
    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit, edit_from
    from sdedit_cli.presets import load_preset

    names = DRAWINGS[: 1 if given.quick else None]
    own = [load_preset(f"drawing-{name}").layer for name in names]
    edits = [replace(edit_from([layer]), device="cpu", dtype="fp32") for layer in own]
    drawings = [Image.open(ROOT / "presets" / "strokes" / f"{name}.png").convert("RGB") for name in names]
    editor = Editor.open(Edit(device="cpu", dtype="fp32"))

    def made(changes: dict[str, Any]) -> list[Image.Image]:
        both = zip(edits, drawings, strict=True)
        return [editor.edit(replace(edit, **changes), drawing).image for edit, drawing in both]

    exact = made({})
    rows = [exact]
    for name, changes in {**chosen, "another seed": {"seed": 1000}}.items():
        rows.append(made(changes))
        yield apart(f"{name}, {len(names)} pictures", rows[-1], exact)
    if given.sheet:
        sheet(rows).save(given.sheet)


def apart(what: str, images: list[Image.Image], exact: list[Image.Image]) -> Row:
    from skimage.color import deltaE_ciede2000, rgb2lab

    pairs = [tuple(np.asarray(one).astype(float) for one in both) for both in zip(images, exact, strict=True)]
    colours = tuple(float(np.mean(deltaE_ciede2000(rgb2lab(a / 255), rgb2lab(b / 255)))) for a, b in pairs)
    differences = [np.abs(a - b) for a, b in pairs]
    mean, largest = float(np.mean(differences)), float(np.max(differences))
    return Row(what, OURS, colours, "CIEDE2000", also={"mean of 255": mean, "largest": largest})


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    page = Image.new("RGB", (ENLARGED * len(rows[0]), ENLARGED * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image.resize((ENLARGED, ENLARGED), Image.Resampling.NEAREST), (x * ENLARGED, y * ENLARGED))
    return page


def times(given: argparse.Namespace, chosen: dict[str, dict[str, Any]]) -> Iterator[Row]:
    import torch

    from sdedit_cli.engine.editor import Editor
    from sdedit_cli.options import Edit

    side, steps, rounds = (64, 3, 1) if given.quick else (given.approximate_size, 10, given.rounds or 2)
    for dtype in given.dtype or ["bf16"]:
        edit = Edit(
            model=str(given.model), prompt="a cat", seed=1, steps=steps, strength=1.0, device="cpu", dtype=dtype
        )
        editor = Editor.open(edit)
        pixels_BCHW = torch.zeros(1, 3, side, side)
        all_ways = {"exact": {}, **chosen}
        taken: dict[str, list[float]] = {name: [] for name in all_ways}
        for _ in range(rounds):  # in turns
            for name, changes in all_ways.items():
                taken[name].append(walk(editor, replace(edit, **changes), pixels_BCHW))
        for name, values in taken.items():
            yield Row(f"{steps} steps, {side} px, {dtype}", name, tuple(values))


def walk(editor: Editor, edit: Edit, pixels_BCHW: Any) -> float:
    """The seconds of an edit's steps."""
    import torch

    with torch.no_grad():
        track = editor.track(edit, pixels_BCHW)
        return seconds(lambda: [None for _ in editor.engine.steps(track)])
