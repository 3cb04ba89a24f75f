"""`--color`: colours stay with their input through pass after pass, without bands, and `off` is as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cli import QUICK, photo
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from sdedit_cli.cli.main import run
from sdedit_cli.engine import colour
from sdedit_cli.engine.colour import encoded, linear, low
from sdedit_cli.engine.editor import Editor
from sdedit_cli.options import Edit


def scene(height: int = 72, width: int = 96) -> torch.Tensor:
    """A picture in -1..1 with gradients, an edge, texture, black and white."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    picture = torch.stack([x, y, 0.5 + 0.4 * torch.sin(9 * x * y)])
    picture += 0.1 * torch.rand(picture.shape, generator=torch.Generator().manual_seed(0))
    picture[:, :12, :12], picture[:, -12:, -12:] = 0, 1
    return picture.clamp(0, 1)[None] * 2 - 1


def tinted(x: torch.Tensor) -> torch.Tensor:
    """What a pass does to colours, here on purpose: a tint, less contrast, a shift that changes over the picture."""
    light = linear(x / 2 + 0.5) * torch.tensor([1.25, 1.0, 0.8]).view(1, 3, 1, 1)
    light = light * torch.linspace(0.7, 1.2, x.shape[3])
    return encoded(light.clamp(0, 1)) * 2 - 1


def recoloured(way: str, x_BCHW: torch.Tensor, input_BCHW: torch.Tensor) -> torch.Tensor:
    """Pictures in -1..1 as networks have them, through numbers as pictures have them."""
    both = ((one[0].movedim(0, -1).float() / 2 + 0.5).numpy() for one in (x_BCHW, input_BCHW))
    made = colour.recoloured(way, *both, torch.device("cpu"))
    return torch.from_numpy(made).movedim(-1, 0)[None] * 2 - 1


def drift(a: torch.Tensor, b: torch.Tensor) -> float:
    """The mean difference (CIEDE2000) of colours in large."""
    labs = [rgb2lab(encoded(low(linear(one / 2 + 0.5))).clamp(0, 1)[0].permute(1, 2, 0).numpy()) for one in (a, b)]
    return float(np.mean(deltaE_ciede2000(*labs)))


def test_linear_light_is_that_of_scikit_image() -> None:
    values = torch.linspace(0, 1, 1001)
    assert torch.allclose(encoded(linear(values)), values, atol=1e-6)
    from skimage.color import rgb2xyz

    white = rgb2xyz(np.ones((1, 1, 3)))[0, 0, 1]
    gray = rgb2xyz(values.numpy().astype(float)[:, None].repeat(3, 1)[None])[0, :, 1]
    assert np.allclose(gray / white, linear(values).numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(72, 96), (8, 300), (1, 1), (300, 280)])
def test_what_needs_no_change_gets_none(size: tuple[int, int]) -> None:
    picture = scene(*size)
    for way in ("keep", "match"):
        same = recoloured(way, picture, picture)
        assert same.shape == picture.shape
        assert (same - picture).abs().max() < 2e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tint_is_taken_back(dtype: torch.dtype) -> None:
    picture = scene()
    changed = tinted(picture)
    before = drift(changed, picture)
    kept, matched = (recoloured(way, changed.to(dtype), picture) for way in ("keep", "match"))
    assert kept.dtype == torch.float32
    assert before > 5
    assert drift(kept, picture) < 0.5
    assert drift(matched, picture) < before


def test_match_gives_mean_and_covariance_of_the_input() -> None:
    draw = torch.Generator().manual_seed(3)
    a, b = (torch.rand(1, 3, 40, 50, generator=draw) * 0.3 + at for at in (0.2, 0.5))
    b[:, 0] = 0.5 * b[:, 0] + 0.5 * b[:, 1]
    moved = linear(recoloured("match", encoded(a) * 2 - 1, encoded(b) * 2 - 1) / 2 + 0.5).flatten(2)[0]
    wanted = b.flatten(2)[0]
    assert torch.allclose(moved.mean(1), wanted.mean(1), atol=1e-3)
    assert torch.allclose(torch.cov(moved), torch.cov(wanted), atol=1e-4)


def test_details_stay_and_nothing_is_rounded_in_between() -> None:
    """Fine stripes are nearly as strong as before, relative to their light, and a ramp has all of its values."""
    ramp = (torch.linspace(0.2, 0.8, 4096).view(1, 1, 1, -1).expand(1, 3, 64, -1) * 2 - 1).contiguous()
    kept = recoloured("keep", ramp * 0.9, ramp)
    levels = np.unique(np.round((kept[0, 0, 32].numpy() / 2 + 0.5) * 255)).astype(int)
    assert (np.diff(levels) == 1).all()
    stripes = scene() * 0 + 0.2 * (torch.arange(96) % 2 * 2 - 1.0)
    light = linear(recoloured("keep", stripes, scene() * 0) / 2 + 0.5)[0, 0, 36, 24:72]
    ratio = float(light[1::2].mean() / light[::2].mean())
    assert ratio == pytest.approx(float(linear(torch.tensor(0.6)) / linear(torch.tensor(0.4))), rel=0.05)


EDIT = Edit(seed=5, strength=0.2, steps=10, dtype="fp32", device="cpu", cfg_scale=1.0)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.open(EDIT)


def picture(height: int, width: int) -> Image.Image:
    numbers = scene(height, width)[0].permute(1, 2, 0).numpy() / 2 + 0.5
    return Image.fromarray((numbers * 255).astype(np.uint8))


def passes(editor: Editor, edit: Edit, image: Image.Image, count: int) -> Image.Image:
    for _ in range(count):
        image = editor.edit(edit, image).image
    return image


@pytest.mark.parametrize("size", [(64, 64), (100, 150)])
def test_passes_of_a_model_drift_less_with_keep_and_off_is_the_default(editor: Editor, size: tuple[int, int]) -> None:
    """At the model's own size, and where pictures are brought to it and back."""
    image = picture(*size)

    def drifted(color: str, count: int = 5) -> float:
        made = passes(editor, EDIT.varied({"color": color}), image, count)
        both = [torch.from_numpy(np.asarray(one) / 255).permute(2, 0, 1)[None].float() * 2 - 1 for one in (made, image)]
        return drift(*both)

    off, keep = drifted("off"), drifted("keep")
    assert keep < 0.5
    assert keep < off / 10
    plain = editor.edit(EDIT, image).image
    assert plain.tobytes() == passes(editor, EDIT.varied({"color": "off"}), image, 1).tobytes()


@pytest.mark.parametrize("area", ["whole", "crop"])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_a_mask_keeps_is_kept_with_colours_too(editor: Editor, area: str, bits: int) -> None:
    image, mask = picture(80, 120), Image.new("L", (120, 80))
    mask.paste(255, (30, 20, 70, 60))
    edit = EDIT.varied({"color": "keep", "masked_area": area, "mask_padding": 4, "bits": bits, "mask": "mask.png"})
    result = editor.edit(edit, image, mask=mask)
    black = np.asarray(mask) == 0
    before, after = np.asarray(image), np.asarray(result.image)
    assert (after[black] == before[black]).all()
    assert (after[~black] != before[~black]).any(-1).mean() > 0.9
    assert (result.deep is None) == (bits == 8)
    if result.deep is not None:
        assert (result.deep[black] == before[black] / np.float32(255)).all()
        assert np.abs(result.deep * 255 - after)[~black].max() <= 0.5 + 1e-3


def test_the_option_is_recorded_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "in.png")
    assert run(["run", "in.png", "-p", "a pond", *QUICK, "--color", "keep", "-o", "x.png", "-q"]) == 0
    assert run(["run", "in.png", "-p", "a pond", *QUICK, "-o", "off.png", "-q"]) == 0
    assert run(["run", "in.png", "--like", "x.png", "--device", "cpu", "-o", "y.png", "-q"]) == 0
    assert Path("y.png").read_bytes() == Path("x.png").read_bytes()
    assert Image.open("off.png").tobytes() != Image.open("x.png").tobytes()
    assert run(["run", "in.png", *QUICK, "--color", "blue", "-o", "z.png", "-q"]) == 2
