"""Approximate steps: what they leave out is counted, the rest is exact, and no picture feels another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.pipelines import write_checkpoint

from sdedit_cli import Scheduler, StableDiffusionImg2ImgPipeline
from sdedit_cli.engine.denoise import Loop, Segment, Track
from sdedit_cli.engine.families.sd import SD
from sdedit_cli.engine.sampling import grid_for
from sdedit_cli.engine.shortcuts import NONE, Shortcuts
from sdedit_cli.nn import Deep, Merging

SAMPLERS = ("ddim", "euler", "heun", "dpmpp_2m", "pndm")


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder, "sd15")
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def track_of(
    pipe: Any, k: int, shortcuts: Shortcuts, *, sampler: str = "ddim", until: int | None = None, merge: float = 0.0
) -> Track:
    """Picture k, guided, of eight steps."""
    scheduler = Scheduler.named(sampler)
    grid, start = grid_for(scheduler, 10, 0.8)
    generator = torch.Generator().manual_seed(k)
    x, noise = (torch.randn(1, 4, 16, 16, generator=generator) for _ in range(2))
    segments: list[Segment] = []
    for text, end in ((f"picture {k}", until), *(() if until is None else (("another", None),))):
        high, low = pipe.encode_prompt(text, do_classifier_free_guidance=True, negative_prompt="")
        made = SD.condition(pipe.unet, torch.cat([low, high]), 5.0, None)
        context = replace(made.context, merging=Merging(merge) if merge else None)
        segments.append(Segment(replace(made, context=context), end))
    x = scheduler.add_noise(grid, start, x, noise)
    track = Track(x, scheduler, grid, start, tuple(segments), 5.0, True, generator=generator, seed=k)
    return replace(track, shortcuts=shortcuts)


def run(pipe: Any, tracks: list[Track], rows: int | None = None, late: int = 0) -> list[torch.Tensor]:
    """The final latents; the last track joins so many ticks late."""
    loop = Loop(SD, pipe.unet, rows)
    running = [loop.join(track) for track in tracks[: -1 if late else None]]
    for _ in range(late):
        loop.tick()
    running += [loop.join(tracks[-1])] if late else []
    while loop.running:
        loop.tick()
    return [one.x_BCHW for one in running]


@contextmanager
def counted(pipe: Any) -> Iterator[tuple[list[int], list[int]]]:
    """The rows of each call of the UNet, and of each time that its bottom is reached."""
    calls: list[int] = []
    bottoms: list[int] = []
    hooks = [
        module.register_forward_hook(lambda _module, args, _out, seen=seen: seen.append(len(args[0])))
        for module, seen in ((pipe.unet, calls), (pipe.unet.mid_block, bottoms))
    ]
    try:
        yield calls, bottoms
    finally:
        for hook in hooks:
            hook.remove()


def test_steps_outside_the_interval_run_one_half_and_are_those_without_guidance(pipe: Any) -> None:
    with counted(pipe) as (calls, _):
        (got,) = run(pipe, [track_of(pipe, 0, Shortcuts(interval=(0.3, 0.6)))])
    assert calls == [1, 2, 2, 2, 1, 1, 1, 1], "the schedule has ten steps, and begins at its third"
    track = track_of(pipe, 0, NONE)
    alone = replace(track.segments[0].conditioning)
    alone = replace(alone, text_RTC=alone.text_RTC[1:], context=alone.context.rows([1]))
    x_BCHW = track.x_BCHW
    for index, guided in enumerate((False, *[True] * 3, *[False] * 4)):
        segment = track.segments[0] if guided else Segment(alone)
        step = replace(track, x_BCHW=x_BCHW, start=track.start + index, guided=guided, segments=(segment,))
        loop = Loop(SD, pipe.unet)
        one = loop.join(step)
        loop.tick()
        x_BCHW = one.x_BCHW
    torch.testing.assert_close(got, x_BCHW)  # time embeddings of other numbers of steps are rounded otherwise


def test_the_whole_interval_is_the_exact_picture(pipe: Any) -> None:
    (plain,) = run(pipe, [track_of(pipe, 0, NONE)])
    assert torch.equal(run(pipe, [track_of(pipe, 0, Shortcuts((0.0, 1.0), 1))])[0], plain)
    assert not torch.equal(run(pipe, [track_of(pipe, 0, Shortcuts((0.0, 0.5)))])[0], plain)


@pytest.mark.parametrize(
    ("every", "sampler", "bottoms"), [(2, "ddim", 4), (3, "ddim", 3), (10, "ddim", 1), (3, "heun", 5)]
)
def test_deep_layers_are_computed_once_in_so_many_steps(pipe: Any, every: int, sampler: str, bottoms: int) -> None:
    with counted(pipe) as (calls, deep):
        (got,) = run(pipe, [track_of(pipe, 0, Shortcuts(every=every), sampler=sampler)])
    assert len(deep) == bottoms == -(-len(calls) // every)
    assert set(calls) == {2}
    assert bool(torch.isfinite(got).all())
    assert not torch.equal(got, run(pipe, [track_of(pipe, 0, NONE, sampler=sampler)])[0])


def test_deep_features_of_the_same_input_give_the_same_output(pipe: Any) -> None:
    track = track_of(pipe, 0, NONE)
    conditioning = track.segments[0].conditioning
    x_BCHW, emb_BE = track.x_BCHW.expand(2, -1, -1, -1), pipe.unet.embed_time(torch.tensor([500, 500]))
    deep = Deep()
    with torch.no_grad():
        plain = pipe.unet(x_BCHW, emb_BE, conditioning.context)
        assert torch.equal(pipe.unet(x_BCHW, emb_BE, conditioning.context, None, deep), plain)
        kept = deep.x_BCHW
        assert torch.equal(pipe.unet(x_BCHW, emb_BE, conditioning.context, None, deep), plain)
        assert deep.x_BCHW is kept
        other = pipe.unet(x_BCHW + 0.1, emb_BE, conditioning.context, None, deep)
    assert not torch.equal(other, plain)


def test_features_are_computed_anew_for_another_prompt_and_for_rows_that_come_back(pipe: Any) -> None:
    with counted(pipe) as (_, deep):
        run(pipe, [track_of(pipe, 0, Shortcuts(every=8), until=3)])
    assert deep == [2, 2]
    with counted(pipe) as (calls, deep):
        run(pipe, [track_of(pipe, 0, Shortcuts((0.4, 0.7), 8))])
    assert calls == [1, 1, 2, 2, 2, 1, 1, 1]
    assert deep == [1, 2], "a half of what is there will do"


WAYS = [
    NONE,
    Shortcuts((0.0, 0.5)),
    Shortcuts(every=2),
    Shortcuts(every=3),
    Shortcuts((0.35, 0.8), 3),
]


def test_a_picture_does_not_feel_others_that_are_shortened_otherwise(pipe: Any) -> None:
    rows, compared = 2 * len(WAYS), 0
    for late in (0, 1, 2):
        tracks = [track_of(pipe, k, way, sampler=SAMPLERS[k], merge=0.5 * (k % 2)) for k, way in enumerate(WAYS)]
        for k, x in enumerate(run(pipe, tracks, rows, late)):
            again = track_of(pipe, k, WAYS[k], sampler=SAMPLERS[k], merge=0.5 * (k % 2))
            assert torch.equal(x, run(pipe, [again], rows)[0]), f"track {k}, {late} late"
            compared += 1
    assert compared == 15


def test_merged_tokens_change_the_picture_and_not_that_of_a_neighbour(pipe: Any) -> None:
    plain, merged = (track_of(pipe, 0, NONE, merge=ratio) for ratio in (0.0, 0.5))
    (one,), (other,) = run(pipe, [plain], 4), run(pipe, [merged], 4)
    assert not torch.equal(one, other)
    both = run(pipe, [track_of(pipe, 0, NONE), track_of(pipe, 0, NONE, merge=0.5)], 4)
    assert torch.equal(both[0], one)
    assert torch.equal(both[1], other)
