"""Tracks share a batch without touching each other: bit for bit, whatever the company, at one padded shape."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from helpers.pipelines import write_checkpoint

from sdedit_cli import Scheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.conditioning import Conditioning
from sdedit_cli.engine.denoise import Loop, Segment, Track
from sdedit_cli.engine.families.sd import SD
from sdedit_cli.engine.sampling import grid_for
from sdedit_cli.errors import UsageError
from sdedit_cli.nn import FreeU, ImageSource

SAMPLERS = ("ddim", "pndm", "euler", "euler_a", "dpmpp_2m")
ROWS = 2 * len(SAMPLERS)


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder, "sd15")
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def track_of(
    pipe: Any, k: int, *, guidance: float = 5.0, until: int | None = None, freeu: FreeU | None = None, tokens: int = 32
) -> Track:
    """Picture k: its own sampler, strength, seed and prompt."""
    scheduler = Scheduler.named(SAMPLERS[k % len(SAMPLERS)])
    steps, strength = 5 + k, 0.4 + 0.15 * (k % 4)
    grid, start = grid_for(scheduler, steps, strength)
    generator = torch.Generator().manual_seed(k)
    x, noise = (torch.randn(1, 4, 16, 16, generator=generator) for _ in range(2))
    guided = guidance > 1

    def conditioning(prompt: str) -> Conditioning:
        high, low = pipe.encode_prompt(prompt, do_classifier_free_guidance=guided, negative_prompt="")
        text = torch.cat([low, high]) if guided else high
        return SD.condition(pipe.unet, text[:, :tokens], guidance, freeu)

    segments = (Segment(conditioning(f"picture {k}"), until),)
    if until is not None:
        segments += (Segment(conditioning("another")),)
    x = scheduler.add_noise(grid, start, x, noise)
    return Track(x, scheduler, grid, start, segments, guidance, guided, generator=generator, seed=k)


def run(pipe: Any, tracks: list[Track], joins: list[int] | None = None) -> list[torch.Tensor]:
    """The final latents of the tracks; track k joins at tick joins[k]."""
    loop = Loop(SD, pipe.unet, ROWS)
    waiting = dict(enumerate(joins or [0] * len(tracks)))
    running: dict[int, Any] = {}
    tick = 0
    while waiting or loop.running:
        for k in [k for k, at in waiting.items() if at <= tick]:
            running[k] = loop.join(tracks[k])
            del waiting[k]
        loop.tick()
        tick += 1
    return [running[k].x_BCHW for k in range(len(tracks))]


def test_a_track_does_not_feel_its_neighbours(pipe: Any) -> None:
    together = run(pipe, [track_of(pipe, k) for k in range(len(SAMPLERS))])
    for k, x in enumerate(together):
        (alone,) = run(pipe, [track_of(pipe, k)])
        assert torch.equal(x, alone), f"track {k}"


def test_a_track_that_joins_late_is_the_same(pipe: Any) -> None:
    late = run(pipe, [track_of(pipe, k) for k in range(4)], joins=[0, 1, 3, 2])
    at_once = run(pipe, [track_of(pipe, k) for k in range(4)])
    for x, y in zip(late, at_once, strict=True):
        assert torch.equal(x, y)


def test_guided_and_unguided_tracks_share_a_batch(pipe: Any) -> None:
    scales = [5.0, 1.0, 2.0]
    mixed = run(pipe, [track_of(pipe, k, guidance=scale) for k, scale in enumerate(scales)])
    for k, scale in enumerate(scales):
        (alone,) = run(pipe, [track_of(pipe, k, guidance=scale)])
        assert torch.equal(mixed[k], alone)


def with_image(pipe: Any, track: Track, scale: float) -> Track:
    """The track with an image prompt of three tokens, at this weight in every layer."""
    (segment,) = track.segments
    width = pipe.unet.config.cross_attention_dim
    keys = pipe.unet.context(torch.randn(track.rows, 3, width, generator=torch.Generator().manual_seed(9))).kv
    context = replace(segment.conditioning.context, images=(ImageSource(keys, (scale,) * len(keys)),))
    return replace(track, segments=(Segment(replace(segment.conditioning, context=context)),))


def test_what_cannot_share_a_call_of_the_unet_is_what_it_is_alone(pipe: Any) -> None:
    one, other = FreeU(0.9, 0.2, 1.3, 1.4), FreeU(0.6, 0.4, 1.1, 1.2)
    makers = {
        "FreeU": lambda: track_of(pipe, 0, freeu=one),
        "no FreeU": lambda: track_of(pipe, 0),
        "another FreeU, unguided": lambda: track_of(pipe, 0, guidance=1.0, freeu=other),
        "a shorter text": lambda: track_of(pipe, 0, guidance=1.0, tokens=20),
        "an image prompt": lambda: with_image(pipe, track_of(pipe, 0), 0.5),
        "the same, weaker": lambda: with_image(pipe, track_of(pipe, 0), 0.25),
    }
    together = run(pipe, [make() for make in makers.values()], joins=[0, 0, 0, 0, 1, 1])
    alone = [run(pipe, [make()])[0] for make in makers.values()]
    for name, x, y in zip(makers, together, alone, strict=True):
        assert torch.equal(x, y), name
    assert all(not torch.equal(a, b) for a, b in combinations(alone, 2))


def test_a_prompt_schedule_changes_the_text_at_its_step(pipe: Any) -> None:
    (plain,) = run(pipe, [track_of(pipe, 1)])
    (changed,) = run(pipe, [track_of(pipe, 1, until=1)])
    (never,) = run(pipe, [track_of(pipe, 1, until=1000)])
    assert not torch.equal(plain, changed)
    assert torch.equal(plain, never)


def test_a_full_loop_takes_no_more(pipe: Any) -> None:
    loop = Loop(SD, pipe.unet, 2)
    loop.join(track_of(pipe, 0))
    with pytest.raises(UsageError, match="does not fit into 0 free"):
        loop.join(track_of(pipe, 1))
