"""The denoising loop.

A track is what travels through the schedule together: the rows of one call, or one picture of many on the command
line. Each tick gathers the rows of all running tracks, calls the UNet once, and steps every track's own solver, so
pictures of different strengths, seeds, prompts and samplers share a batch. The batch keeps its planned number of rows
whoever is in it (short ones are padded): kernels then see one shape, and a row's result does not depend on its company.

Shapes: B rows of a track, N rows of the UNet's batch, C channels, H height, W width, E time embedding, S steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..nn import Context, UNet2DCondition
from ..noise import Grid, Scheduler
from ..options import smallest_strength
from .randomness import Generators, normal


@dataclass(frozen=True)
class Segment:
    """The conditioning in force until tick `until` (exclusive; counted from the track's first step).

    `context` has B rows, or 2 B (the negative ones first) when the track is guided.
    """

    context: Context
    until: int | None = None


@dataclass(frozen=True)
class Track:
    """One trajectory: noised latents x_BCHW, where on which grid it starts, and everything that steers it.

    `guidance_BG` is the embedded guidance scale of models that were distilled on it (arXiv 2310.04378), with G columns.
    """

    x_BCHW: Tensor
    scheduler: Scheduler
    grid: Grid
    start: int
    segments: tuple[Segment, ...]
    guidance_scale: float = 1.0
    guided: bool = False
    guidance_BG: Tensor | None = None
    generator: Generators = None
    seed: int | list[int] | None = None
    eta: float = 0.0
    freeu: Any = None

    @property
    def steps(self) -> int:
        return len(self.grid.timesteps) - self.start

    @property
    def rows(self) -> int:
        """Rows that the track takes in the UNet's batch."""
        return len(self.x_BCHW) * (2 if self.guided else 1)


@dataclass(eq=False)
class Running:
    """A track on its way: latents, position, solver state. A callback may replace latents, context and guidance."""

    track: Track
    x_BCHW: Tensor
    context: Context
    guided: bool
    guidance_scale: float
    state: Any
    emb_SE: Tensor
    done: int = 0
    _segment: int = field(default=0, repr=False)

    @property
    def index(self) -> int:
        """Where on the grid the next step is."""
        return self.track.start + self.done

    @property
    def finished(self) -> bool:
        return self.done >= self.track.steps

    def advance(self, x_BCHW: Tensor, state: Any) -> None:
        self.x_BCHW, self.state, self.done = x_BCHW, state, self.done + 1
        segments = self.track.segments
        until = segments[self._segment].until
        if until is not None and self.done >= until and self._segment + 1 < len(segments):
            self._segment += 1
            self.context = segments[self._segment].context


@dataclass(frozen=True)
class _Gathered:
    parts: list[Context]
    sizes: tuple[int, int]
    context: Context


def _same(left: list[Context], right: list[Context]) -> bool:
    return len(left) == len(right) and all(a is b for a, b in zip(left, right, strict=True))


class Loop:
    """Tracks in progress over one UNet. `rows`: how many rows every UNet call has; None: as many as are needed."""

    def __init__(self, unet: UNet2DCondition, rows: int | None = None) -> None:
        self.unet = unet
        self.rows = rows
        self.running: list[Running] = []
        self._gathered: _Gathered | None = None

    def join(self, track: Track) -> Running:
        """Adds a track; it takes part from the next tick on. Raises UsageError when it does not fit."""
        taken = sum(running.track.rows for running in self.running)
        if self.rows is not None and taken + track.rows > self.rows:
            raise UsageError(f"a track of {track.rows} rows does not fit into {self.rows - taken} free ones")
        shapes = {running.x_BCHW.shape[1:] for running in self.running} | {track.x_BCHW.shape[1:]}
        if len(shapes) > 1:
            raise UsageError(f"tracks of one loop need latents of one size; got {sorted(map(tuple, shapes))}")
        assert len(track.segments[0].context.text_BTC) == track.rows, "a context has one row for each of the track's"
        grid, start = track.grid, track.start
        running = Running(
            track=track,
            x_BCHW=track.x_BCHW,
            context=track.segments[0].context,
            guided=track.guided,
            guidance_scale=track.guidance_scale,
            state=track.scheduler.start(grid, start, track.x_BCHW, track.seed),
            emb_SE=self._embed(track),
        )
        self.running.append(running)
        return running

    def _embed(self, track: Track) -> Tensor:
        t_S = track.grid.timesteps[track.start :].to(track.x_BCHW.device)
        guidance_SG = None if track.guidance_BG is None else track.guidance_BG[:1].expand(len(t_S), -1)
        return self.unet.embed_time(t_S, dtype=track.x_BCHW.dtype, guidance_BG=guidance_SG)

    @torch.no_grad()
    def tick(self) -> list[Running]:
        """One step of every running track; returns those that have just made their last one, and lets them go."""
        if not self.running:
            return []
        negative = [running for running in self.running if running.guided]
        order = [*negative, *self.running]
        x_NCHW = self._padded(torch.cat([_model_input(running) for running in order]))
        emb_NE = self._padded(torch.cat([_embedding(running) for running in order]))
        out_NCHW = self.unet(x_NCHW, emb_NE, self._context(negative, len(x_NCHW)), freeu=self.running[0].track.freeu)
        outputs = _split(out_NCHW, [len(running.x_BCHW) for running in order])
        plain = dict(zip(map(id, negative), outputs, strict=False))
        steps = zip(self.running, outputs[len(negative) :], strict=True)
        guided = [(running, _guide(plain.get(id(running)), out, running.guidance_scale)) for running, out in steps]
        for running, out_BCHW in guided:
            running.advance(*_step(running, out_BCHW))
        ended = [running for running in self.running if running.finished]
        self.running = [running for running in self.running if not running.finished]
        return ended

    def _padded(self, rows: Tensor) -> Tensor:
        missing = 0 if self.rows is None else self.rows - len(rows)
        return rows if missing <= 0 else torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])

    def _context(self, negative: Sequence[Running], total: int) -> Context:
        """The rows of all tracks' contexts in the batch's order; gathered anew only after a change."""
        parts = [running.context for running in self.running]
        sizes = (len(negative), total)
        known = self._gathered
        if known is None or known.sizes != sizes or not _same(known.parts, parts):
            known = self._gathered = _Gathered(parts, sizes, self._gather(total))
        return known.context

    def _gather(self, total: int) -> Context:
        lows: list[int] = []
        highs: list[int] = []
        offset = 0
        for running in self.running:
            count = len(running.x_BCHW)
            if running.guided:
                lows += range(offset, offset + count)
                offset += count
            highs += range(offset, offset + count)
            offset += count
        index = [*lows, *highs]
        index += index[:1] * (total - len(index))
        return Context.cat([running.context for running in self.running]).rows(index)


def _model_input(running: Running) -> Tensor:
    return running.track.scheduler.scale_input(running.track.grid, running.index, running.x_BCHW)


def _embedding(running: Running) -> Tensor:
    return running.emb_SE[running.done].expand(len(running.x_BCHW), -1)


def _split(rows: Tensor, counts: Iterable[int]) -> list[Tensor]:
    parts: list[Tensor] = []
    begin = 0
    for count in counts:
        parts.append(rows[begin : begin + count])
        begin += count
    return parts


def _guide(negative: Tensor | None, positive: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598), in the form of the reference: w = 1 is no guidance."""
    return positive if negative is None else negative + scale * (positive - negative)


def _step(running: Running, out_BCHW: Tensor) -> tuple[Tensor, Any]:
    track, i = running.track, running.index
    noise_BCHW = None
    if track.scheduler.draws_noise(track.grid, i, track.eta):
        dtype = track.scheduler.noise_dtype(out_BCHW.dtype)
        noise_BCHW = normal(out_BCHW.shape, track.generator, out_BCHW.device, dtype)
    return track.scheduler.step(track.grid, i, running.x_BCHW, out_BCHW, running.state, noise_BCHW, track.eta)


def schedule(
    scheduler: Scheduler,
    steps: int,
    strength: float,
    timesteps: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
) -> tuple[Grid, int]:
    """The grid of so many steps, or through custom timesteps or sigmas, and the index where an edit of this strength
    starts on it.

    Raises UsageError when no step would run, naming the least strength that runs one.
    """
    custom = timesteps is not None or sigmas is not None
    grid = scheduler.grid(None if custom else steps, timesteps=timesteps, sigmas=sigmas)
    start, total = grid.begin(strength), grid.num_inference_steps
    if int(total * strength) < 1:
        raise UsageError(
            f"strength {strength:g} of {total} steps rounds to no step at all; "
            f"use a strength of {smallest_strength(total):g} or more, or more steps"
        )
    if start >= len(grid.timesteps):
        raise UsageError(f"strength {strength:g} leaves no step of this schedule to run; use a greater one")
    return grid, start
