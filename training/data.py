"""Emoji artwork with names, rendered once into one file: `python -m training.data --size 64`.

The artwork comes from the npm registry (packages and licences in SOURCES); nothing of it is committed. What is written,
`emoji-SIZE.npz`, holds uint8 pictures on white and, for each, its style, its concept and its split:

- `train`: everything else
- `swap`: 5% of the concepts, kept out of one style each; the other styles of the concept are trained on
- `test`: 34 concepts kept out of all styles, about 100 pictures
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from .strokes import DRAWINGS

SOURCES = {
    "3d": "@lobehub/fluent-emoji-3d@1.1.0",  # Fluent Emoji, Microsoft, MIT
    "noto": "@iconify-json/noto@1.2.9",  # Noto Emoji, Google, Apache-2.0
    "flat": "@iconify-json/fluent-emoji-flat@1.2.6",  # Fluent Emoji, Microsoft, MIT
    "names": "emojibase-data@17.0.0",  # MIT
}
STYLES = ("3d", "noto", "flat")
SPLITS = ("train", "swap", "test")

# Groups of emojibase: smileys, animals and nature, food, travel and places, activities, objects. People (skin tones),
# symbols and flags stay out, and so do the 24 clock faces, which differ in a few pixels only.
GROUPS = (0, 3, 4, 5, 6, 7)
CLOCKS = " o’clock", "-thirty"

TEST_CONCEPTS = 34
SWAP_SHARE = 0.05
OVERSAMPLING = 4
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True)
class Concept:
    """One emoji: `code` is its lower-case hex code points joined by dashes, without the variation selector fe0f."""

    code: str
    label: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """Pictures `pixels[N, size, size, 3]` (uint8, on white); `style`, `concept`, `split` are indices of length N."""

    pixels: NDArray[np.uint8]
    style: NDArray[np.int64]
    concept: NDArray[np.int64]
    split: NDArray[np.int64]
    concepts: tuple[Concept, ...]

    def rows(self, *splits: str) -> NDArray[np.int64]:
        """Indices of the pictures in the named splits."""
        return np.flatnonzero(np.isin(self.split, [SPLITS.index(name) for name in splits]))

    def find(self, label: str) -> int:
        """Index of the concept with exactly this label. Raises KeyError."""
        for index, concept in enumerate(self.concepts):
            if concept.label == label:
                return index
        raise KeyError(label)


def normalized(code: str) -> str:
    return code.lower().replace("-fe0f", "")


def read_concepts(names: Path) -> list[Concept]:
    """The concepts that the recipe draws on, in the order of emojibase's en/data.json."""
    entries: list[dict[str, Any]] = json.loads((names / "package/en/data.json").read_text(encoding="utf-8"))
    return [
        Concept(normalized(e["hexcode"]), e["label"].lower(), tuple(tag.lower() for tag in e.get("tags", ())))
        for e in entries
        if e.get("group") in GROUPS and not e["label"].endswith(CLOCKS)
    ]


def webp_reader(folder: Path) -> Callable[[str], Image.Image | None]:
    """A reader of the 3D artwork, one WebP file for each code."""
    files = {normalized(path.stem): path for path in (folder / "package/assets").glob("*.webp")}

    def read(code: str) -> Image.Image | None:
        return Image.open(files[code]).convert("RGBA") if code in files else None

    return read


def iconify_reader(folder: Path, size: int) -> Callable[[str], Image.Image | None]:
    """A reader of an Iconify collection: icons by name, names by code in chars.json; rendered at `size` pixels."""
    import resvg_py

    collection: dict[str, Any] = json.loads((folder / "package/icons.json").read_text(encoding="utf-8"))
    names: dict[str, str] = json.loads((folder / "package/chars.json").read_text(encoding="utf-8"))
    by_code = {normalized(code): name for code, name in names.items()}

    def read(code: str) -> Image.Image | None:
        name = by_code.get(code)
        icon = collection["icons"].get(name)
        if icon is None:
            return None
        width, height = (icon.get(side, collection[side]) for side in ("width", "height"))
        svg = f'<svg {NAMESPACES} viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
        png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)
        return Image.open(io.BytesIO(bytes(png))).convert("RGBA")

    return read


def on_white(picture: Image.Image, size: int) -> NDArray[np.uint8]:
    """`picture` composed on white, then made `size` pixels wide and high with antialiasing."""
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    return np.asarray(flat.resize((size, size), Image.Resampling.BICUBIC), dtype=np.uint8)


def splits(held: list[tuple[int, int]], concepts: list[Concept], seed: int = 0) -> NDArray[np.int64]:
    """The split of each (concept, style) in `held`. What the stroke drawings stand for is trained in all styles."""
    count, draw = len(concepts), random.Random(seed)
    asked = {drawing.concept for drawing in DRAWINGS.values()}
    order = [c for c in draw.sample(range(count), count) if concepts[c].label not in asked]
    test = set(order[:TEST_CONCEPTS])
    swap = {c: draw.randrange(len(STYLES)) for c in order[TEST_CONCEPTS : TEST_CONCEPTS + round(SWAP_SHARE * count)]}
    return np.array([2 if c in test else 1 if swap.get(c) == s else 0 for c, s in held], dtype=np.int64)


def unpack(raw: Path) -> dict[str, Path]:
    """The folders of SOURCES under `raw`, fetched with `npm pack` and unpacked where they are not there yet."""
    raw.mkdir(parents=True, exist_ok=True)
    folders: dict[str, Path] = {}
    for key, package in SOURCES.items():
        folder = folders[key] = raw / key
        if (folder / "package").is_dir():
            continue
        packed = subprocess.run(["npm", "pack", "--json", package], cwd=raw, check=True, capture_output=True, text=True)
        name = json.loads(packed.stdout)[0]["filename"].replace("@", "").replace("/", "-")
        with tarfile.open(raw / name) as archive:
            archive.extractall(folder, filter="data")
    return folders


def render(folders: dict[str, Path], size: int) -> Dataset:
    """Every picture that exists for the concepts, at `size` pixels."""
    big = size * OVERSAMPLING
    readers = {
        "3d": webp_reader(folders["3d"]),
        "noto": iconify_reader(folders["noto"], big),
        "flat": iconify_reader(folders["flat"], big),
    }
    concepts = read_concepts(folders["names"])

    def pictures() -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
        for index, concept in enumerate(track(concepts, "rendering")):
            for style, name in enumerate(STYLES):
                picture = readers[name](concept.code)
                if picture is not None:
                    yield index, style, on_white(picture, size)

    found = list(pictures())
    held = [(c, s) for c, s, _ in found]
    return Dataset(
        np.stack([pixels for _, _, pixels in found]),
        np.array([s for _, s in held], dtype=np.int64),
        np.array([c for c, _ in held], dtype=np.int64),
        splits(held, concepts),
        tuple(concepts),
    )


def save(data: Dataset, path: Path) -> None:
    names = json.dumps([[c.code, c.label, c.tags] for c in data.concepts], ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path, pixels=data.pixels, style=data.style, concept=data.concept, split=data.split, concepts=np.array(names)
    )


@cache
def load(path: Path) -> Dataset:
    """The dataset that `save` wrote. Raises ClickException where `training.data` has not run."""
    if not path.exists():
        raise click.ClickException(f"{path}: is not there; run python -m training.data first")
    with np.load(path) as held:
        concepts = tuple(Concept(code, label, tuple(tags)) for code, label, tags in json.loads(str(held["concepts"])))
        return Dataset(held["pixels"], held["style"], held["concept"], held["split"], concepts)


@click.command()
@click.option("--size", type=click.IntRange(32, 256), default=64, show_default=True, help="Pixels on a side.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("train"), show_default=True, help="Work folder.")
def main(size: int, root: Path) -> None:
    """Fetch the artwork and write ROOT/data/emoji-SIZE.npz."""
    data = render(unpack(root / "raw"), size)
    path = root / "data" / f"emoji-{size}.npz"
    save(data, path)
    counts = ", ".join(f"{name} {len(data.rows(name))}" for name in SPLITS)
    click.echo(f"{path}: {len(data.pixels)} pictures of {len(data.concepts)} concepts ({counts})")


if __name__ == "__main__":
    main()
