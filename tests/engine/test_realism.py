"""The distance in features: the formula of KID, and that it tells alike from unlike pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sdedit_cli.engine.editor import Editor
from sdedit_cli.engine.realism import Reference, distances
from sdedit_cli.options import Edit


def by_loops(made: np.ndarray, real: np.ndarray) -> float:
    """Equation 4 of arXiv 1801.01401, a pair at a time, on channels as the real ones spread them."""
    mean, spread = real.mean(axis=0), real.std(axis=0, ddof=1)
    spread = np.maximum(spread, 0.1 * np.sqrt((spread**2).mean()))
    x, y = (made - mean) / spread, (real - mean) / spread

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    m, n = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within_x + within_y - 2 * sum(kernel(a, b) for a in x for b in y) / (m * n)


def test_it_is_the_unbiased_estimate_of_the_paper() -> None:
    drawn = np.random.default_rng(0)
    real, made = drawn.normal(1.0, [1.0, 2.0, 0.0, 5.0], (9, 4)), drawn.normal(0.5, 2.0, (7, 4))
    found = Reference(torch.from_numpy(real)).distance(torch.from_numpy(made))
    assert found == pytest.approx(by_loops(made, real), rel=1e-9)


def test_features_that_are_no_numbers_have_no_distance() -> None:
    assert Reference(torch.eye(4)).distance(torch.full((5, 4), float("inf"))) is None


def noise(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


def smooth(seed: int) -> Image.Image:
    return noise(seed, (4, 4)).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.open(Edit(dtype="fp32", device="cpu"))


def test_what_is_of_the_kind_of_the_real_pictures_is_nearer(editor: Editor) -> None:
    for alike, unlike in ((smooth, noise), (noise, smooth)):
        near, far = distances(editor.engine, [alike(9), unlike(9)], [alike(seed) for seed in range(6)], 64)
        assert near is not None
        assert far is not None
        assert near < far / 3


def test_any_size_and_one_colour_have_a_distance(editor: Editor) -> None:
    odd = [noise(1, (1, 1)), noise(2, (500, 3)), Image.new("RGB", (64, 64), "white"), smooth(1)]
    for real in ([smooth(2)], [Image.new("RGB", (64, 64), "black")], odd):
        assert all(value is not None for value in distances(editor.engine, odd, real, 64))
