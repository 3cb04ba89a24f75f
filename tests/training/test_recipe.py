"""The recipe's own promises: splits that leak nothing, captions, resuming, and measures that measure."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sdedit_cli.nn.ops import attention
from training import data, strokes
from training.captions import caption
from training.chart import Curve, plot
from training.diffusion import plain_attention
from training.evaluate import kernel_distance, kid, rank_correlation, simplified
from training.loop import Settings, Trainer
from training.model import fresh_vae, text_config, unet_config, vae_config
from training.muon import as_matrix, is_hidden
from training.vae import augmented, opponent
from training.words import with_article

CONCEPTS = [data.Concept(f"{i:x}", f"thing {i}", ("round", "red")) for i in range(200)]
ASKED = [data.Concept("aa", drawing.concept, ()) for drawing in strokes.DRAWINGS.values()]
HELD = [(c, s) for c in range(len(CONCEPTS + ASKED)) for s in range(3)]


def test_test_concepts_are_kept_out_of_all_styles_and_swapped_ones_out_of_one() -> None:
    split = data.splits(HELD, CONCEPTS + ASKED).reshape(-1, 3)
    assert (split == 2).all(axis=1).sum() == data.TEST_CONCEPTS == (split == 2).any(axis=1).sum()
    swapped = (split == 1).sum(axis=1)
    assert set(swapped.tolist()) == {0, 1}
    assert swapped.sum() == round(data.SWAP_SHARE * len(split))


def test_what_the_drawings_stand_for_is_trained_on() -> None:
    split = data.splits(HELD, CONCEPTS + ASKED).reshape(-1, 3)
    assert (split[len(CONCEPTS) :] == 0).all()


def test_the_shipped_drawings_are_those_of_the_script() -> None:
    folder = Path(__file__).parents[2] / "presets" / "strokes"
    for name, drawing in strokes.DRAWINGS.items():
        shipped = Image.open(folder / f"{name}.png").convert("RGB")
        again = strokes.draw(drawing, shipped.width)
        assert np.array_equal(np.asarray(shipped), np.asarray(again)), name


def test_every_drawing_has_a_preset_that_asks_for_its_concept() -> None:
    folder = Path(__file__).parents[2] / "presets"
    for name, drawing in strokes.DRAWINGS.items():
        assert (folder / f"drawing-{name}.toml").read_text(encoding="utf-8") == strokes.preset(name, drawing)
        assert drawing.concept in strokes.preset(name, drawing)


def test_captions_name_the_style_or_the_concept_and_are_sometimes_empty() -> None:
    draw = random.Random(0)
    texts = [caption(CONCEPTS[0], 1, draw) for _ in range(1000)]
    assert 60 < texts.count("") < 140
    assert all("thing 0" in text or "red" in text or "round" in text for text in texts if text)
    assert sum("noto" in text for text in texts) > 500


@pytest.mark.parametrize(
    ("name", "expected"),
    [("apple", "an apple"), ("glasses", "glasses"), ("bus", "a bus"), ("tiger face", "a tiger face")],
)
def test_article(name: str, expected: str) -> None:
    assert with_article(name) == expected


def trainer(folder: Path, samples: int, muon: bool) -> Trainer:
    torch.manual_seed(0)
    settings, hidden = Settings(samples, None, 4, 1e-2, warmup=2), is_hidden if muon else never
    return Trainer({"net": nn.Linear(4, 3)}, folder, settings, torch.device("cpu"), is_hidden=hidden)


def never(name: str, parameter: nn.Parameter) -> bool:
    return False


def train(run: Trainer) -> Tensor:
    net = run.modules["net"]

    def loss_of(generator: torch.Generator) -> Tensor:
        return (net(torch.randn(4, 4, generator=generator)) - 1).square().mean()

    run.run(loss_of, lambda: "")
    return torch.cat([p.flatten() for p in (*run.parameters, *run.shadows)])


@pytest.mark.parametrize("muon", [False, True])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(muon: bool, tmp_path: Path) -> None:
    whole = train(trainer(tmp_path / "a", 80, muon))
    killed = trainer(tmp_path / "b", 80, muon)
    steps = killed.losses(lambda g: (killed.modules["net"](torch.randn(4, 4, generator=g)) - 1).square().mean())
    for _ in range(7):
        next(steps)
    killed.save()
    assert torch.equal(train(trainer(tmp_path / "b", 80, muon)), whole)


def test_muon_turns_convolutions_by_orthogonal_matrices_and_leaves_the_ends_to_adamw(tmp_path: Path) -> None:
    net = nn.ModuleDict({name: nn.Conv2d(8, 8, 3) for name in ("conv_in", "conv")})
    run = Trainer(
        {"net": net}, tmp_path, Settings(8, None, 4, 1e-2, warmup=1), torch.device("cpu"), is_hidden=is_hidden
    )
    before = {name: layer.weight.detach().clone() for name, layer in net.items()}
    x = torch.randn(4, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    run.update(sum(layer(x).square().mean() for layer in net.values()))
    change = {name: as_matrix(layer.weight.detach() - before[name]) for name, layer in net.items()}
    strengths = torch.linalg.svdvals(change["conv"])
    assert strengths.min() > 0.3 * strengths.max()
    assert change["conv_in"].abs().min() > 0.9e-2  # the first step of AdamW is one of signs


def test_attention_written_out_is_that_of_the_table() -> None:
    q, k, v = torch.randn(3, 2, 4, 9, 16).unbind()
    torch.testing.assert_close(plain_attention(q, k, v), attention(q, k, v))


def test_kernel_distance_is_zero_within_a_distribution_and_grows_with_a_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(600, 16, generator=generator)
    unit = nn.functional.normalize(draw, dim=1)
    shifted = nn.functional.normalize(draw[:200] + 0.5, dim=1)
    value, error = kid(unit[:200], unit[200:])
    assert abs(value) < 4 * error
    assert kernel_distance(shifted, unit[200:]) > value + 10 * error
    change, change_error = kid(shifted, unit[200:], less=unit[:200])
    assert change == pytest.approx(kernel_distance(shifted, unit[200:]) - value)
    assert change > 10 * change_error


def test_rank_correlation() -> None:
    assert rank_correlation([1, 2, 3], [10, 30, 40]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)


def test_simplified_pictures_have_few_colours() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    colours = simplified(noise).getcolors()
    assert colours is not None
    assert len(colours) <= 5


def test_augmentation_keeps_white_white() -> None:
    white = torch.ones(8, 3, 32, 32)
    assert torch.equal(augmented(white, torch.Generator().manual_seed(0)), white)


def test_opponent_axes_of_grey_are_zero() -> None:
    assert opponent(torch.full((1, 3, 2, 2), 0.4)).abs().max() < 1e-6


def test_chart_is_written(tmp_path: Path) -> None:
    plot(tmp_path / "chart.png", "x", Curve("y", (0.0, 0.5, 1.0), (0.1, 0.2, 0.4), (0.0, 0.1, 0.0)))
    assert (tmp_path / "chart.png").stat().st_size > 1000


@pytest.mark.parametrize("size", [64, 128])
def test_every_size_has_16_by_16_latents_and_fits_the_limit(size: int) -> None:
    assert vae_config(size).scale * 16 == size
    vae = fresh_vae(size)
    counts = sum(p.numel() for p in vae.parameters())
    with torch.device("meta"):
        from sdedit_cli.nn import CLIPTextModel, UNet2DCondition

        modules = (UNet2DCondition(unet_config()), CLIPTextModel(text_config(1914, 32)))
    counts += sum(p.numel() for module in modules for p in module.parameters())
    assert 2 * counts < 25e6
    std = vae.encode(torch.zeros(1, 3, size, size)).std
    assert std.shape[-1] == 16
    assert 0.03 < float(std.detach().mean()) < 0.08
