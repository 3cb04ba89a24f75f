"""The denoising loop.

A track is what travels through the schedule together: the rows of one call, or one picture of many on the command
line. Each tick gathers the rows of all running tracks, calls the UNet once, and steps every track's own solver, so
pictures of different strengths, seeds, prompts and samplers share a batch; what cannot share one (another FreeU, say)
has a call of its own. The batch keeps its planned number of rows whoever is in it (short ones are padded): kernels then
see one shape, and a row's result does not depend on its company.

Shapes: B pictures of a track, R its rows in the UNet's batch, N rows of that batch, C channels, H height, W width,
E time embedding, S steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..nn import Context, Deep, UNet2DCondition
from ..noise import Grid, Scheduler
from .conditioning import Conditioning
from .families import Family
from .randomness import Generators, normal
from .shortcuts import NONE, DeepRows, Shortcuts, gathered, taken_apart
from .views import WHOLE, Views

# Given the index of the node that a step has come to and the latents there, the latents to go on with.
Blend = Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Segment:
    """The conditioning in force until tick `until` (exclusive; counted from the track's first step)."""

    conditioning: Conditioning
    until: int | None = None


@dataclass(frozen=True)
class Track:
    """One trajectory: noised latents x_BCHW, where on which grid it starts, and everything that steers it.

    `then` makes of the latents at its end the track that goes on in its place; `later` is how many steps those behind
    it have, as people count them.
    """

    x_BCHW: Tensor
    scheduler: Scheduler
    grid: Grid
    start: int
    segments: tuple[Segment, ...]
    guidance_scale: float = 1.0
    guided: bool = False
    generator: Generators = None
    seed: int | list[int] | None = None
    eta: float = 0.0
    views: Views = WHOLE
    shortcuts: Shortcuts = NONE
    blend: Blend | None = None
    then: Callable[[Tensor], Track] | None = None
    later: int = 0

    @property
    def steps(self) -> int:
        return len(self.grid.timesteps) - self.start

    @property
    def rows(self) -> int:
        """Rows that the track takes in the UNet's batch."""
        return len(self.x_BCHW) * (2 if self.guided else 1)


@dataclass(frozen=True, eq=False)
class Saw:
    """What the model was shown at a node of a track's grid, and what it said."""

    track: Track
    index: int
    x_BCHW: Tensor
    out_BCHW: Tensor

    def predicted(self) -> Tensor:
        """The latents without noise that the model sees in that, not finite where it sees none."""
        track = self.track
        return track.scheduler.predicted(track.grid, self.index, self.x_BCHW, self.out_BCHW)


@dataclass(eq=False)
class Running:
    """A track on its way. A callback may replace latents, conditioning and guidance."""

    track: Track
    x_BCHW: Tensor
    conditioning: Conditioning
    guided: bool
    guidance_scale: float
    state: Any
    done: int = 0
    before: int = 0
    """Steps of the tracks that this one follows, as people count them."""
    emb_SRE: Tensor | None = field(default=None, repr=False)
    embedded: Conditioning | None = field(default=None, repr=False)
    """What `emb_SRE` was made of."""
    deep: DeepRows | None = field(default=None, repr=False)
    """Of the latest step that computed them, where later ones take them."""
    saw: Saw | None = field(default=None, repr=False)
    """Of the latest step, for previews."""
    _segment: int = field(default=0, repr=False)

    @classmethod
    def of(cls, track: Track, before: int = 0) -> Running:
        """A track at its start."""
        state = track.scheduler.start(track.grid, track.start, track.x_BCHW, track.seed)
        conditioning = track.segments[0].conditioning
        return cls(track, track.x_BCHW, conditioning, track.guided, track.guidance_scale, state, before=before)

    @property
    def index(self) -> int:
        """Where on the grid the next step is."""
        return self.track.start + self.done

    @property
    def finished(self) -> bool:
        return self.done >= self.track.steps and self.track.then is None

    @property
    def counted(self) -> tuple[int, int] | None:
        """Steps done and steps to do, those before and behind included; None within a step, of which second-order
        solvers spend two entries of the grid on one."""
        order, steps = self.track.scheduler.order, self.track.steps
        if self.done % order and self.done < steps:
            return None
        return self.before - (-self.done // order), self.before - (-steps // order) + self.track.later

    def goes_on(self) -> None:
        """Takes up the track behind the one that it has ended."""
        ended = self.track
        assert ended.then is not None
        track = ended.then(self.x_BCHW)
        assert (track.rows, track.x_BCHW.shape) == (ended.rows, ended.x_BCHW.shape), "the batch is as planned"
        vars(self).update(vars(Running.of(track, before=self.before - (-ended.steps // ended.scheduler.order))))

    @property
    def views(self) -> Views:
        """Those of the next step."""
        return self.track.views.at(self.done)

    @property
    def guiding(self) -> bool:
        """Whether the next step is guided."""
        return self.guided and self.track.shortcuts.guides(self.index, len(self.track.grid.timesteps))

    @property
    def shortened(self) -> bool | None:
        """Whether the next step takes deep features of an earlier one; None where no step does."""
        every = self.track.shortcuts.every
        if every == 1:
            return None
        return self.deep is not None and self.deep.serves(self.done, every, self.conditioning, self.guiding)

    def advance(self, x_BCHW: Tensor, state: Any) -> None:
        self.x_BCHW, self.state, self.done = x_BCHW, state, self.done + 1
        segments = self.track.segments
        until = segments[self._segment].until
        if until is not None and self.done >= until and self._segment + 1 < len(segments):
            self._segment += 1
            self.conditioning = segments[self._segment].conditioning


@dataclass(frozen=True)
class _Gathered:
    parts: list[tuple[Conditioning, bool]]
    total: int
    context: Context


def _same(left: list[tuple[Conditioning, bool]], right: list[tuple[Conditioning, bool]]) -> bool:
    return len(left) == len(right) and all(a[0] is b[0] and a[1] == b[1] for a, b in zip(left, right, strict=True))


class Loop:
    """Tracks in progress over one UNet. `rows`: how many rows every UNet call has; None: as many as are needed."""

    def __init__(self, family: Family, unet: UNet2DCondition, rows: int | None = None) -> None:
        self.family = family
        self.unet = unet
        self.rows = rows
        self.running: list[Running] = []
        self._gathered: dict[tuple[object, ...], _Gathered] = {}

    def join(self, track: Track) -> Running:
        """Adds a track; it takes part from the next tick on. Raises UsageError when it does not fit."""
        taken = sum(running.track.rows for running in self.running)
        if self.rows is not None and taken + track.rows > self.rows:
            raise UsageError(f"a track of {track.rows} rows does not fit into {self.rows - taken} free ones")
        shapes = {running.x_BCHW.shape[1:] for running in self.running} | {track.x_BCHW.shape[1:]}
        if len(shapes) > 1:
            raise UsageError(f"tracks of one loop need latents of one size; got {sorted(map(tuple, shapes))}")
        running = Running.of(track)
        assert len(running.conditioning.text_RTC) == track.rows, "a conditioning has one row for each of the track's"
        self.running.append(running)
        return running

    @torch.no_grad()
    def tick(self) -> list[Running]:
        """One step of every running track; returns those that have just made their last one, and lets them go."""
        groups: dict[tuple[object, ...], list[Running]] = {}
        for running in self.running:
            if running.done >= running.track.steps:
                running.goes_on()
            groups.setdefault((running.views, running.shortened, *running.conditioning.company), []).append(running)
        self._gathered = {key: known for key, known in self._gathered.items() if key in groups}
        outputs = {id(running): out for key, group in groups.items() for running, out in self._predict(key, group)}
        for running in self.running:
            running.saw = Saw(running.track, running.index, running.x_BCHW, outputs[id(running)])
            running.advance(*_step(running, outputs[id(running)]))
        ended = [running for running in self.running if running.finished]
        self.running = [running for running in self.running if not running.finished]
        return ended

    def _predict(self, key: tuple[object, ...], group: list[Running]) -> list[tuple[Running, Tensor]]:
        """Each track of the group with its guided output, from one call of the UNet (or one for some tiles each)."""
        negative = [running for running in group if running.guiding]
        order = [*negative, *group]
        x_NCHW = self._padded(torch.cat([_model_input(running) for running in order]))
        lows = [self._embedding(running)[: len(running.x_BCHW)] for running in negative]
        highs = [self._embedding(running)[-len(running.x_BCHW) :] for running in group]
        views, freeu = group[0].views, group[0].conditioning.freeu
        emb_NE = self._padded(torch.cat([*lows, *highs])).repeat(views.together(), 1)
        context = self._context(key, group, len(x_NCHW), views.together())
        deep = self._deep(negative, group)
        out_NCHW = views.predict(
            self.unet, lambda x: self.family.predict(self.unet, x, emb_NE, context, freeu, deep), x_NCHW
        )
        _keep(deep, negative, group)
        outputs = taken_apart(out_NCHW, [len(running.x_BCHW) for running in order])
        plain = dict(zip(map(id, negative), outputs, strict=False))
        steps = zip(group, outputs[len(negative) :], strict=True)
        return [(running, _guide(plain.get(id(running)), out, running.guidance_scale)) for running, out in steps]

    def _deep(self, negative: list[Running], group: list[Running]) -> Deep | None:
        """The deep features that the group's steps take, empty where they are to be computed; None where none do."""
        if group[0].shortened is None:
            return None
        if not group[0].shortened:
            return Deep()
        lows, highs = ([running.deep for running in part if running.deep is not None] for part in (negative, group))
        return Deep(self._padded(torch.cat(gathered(lows, highs))))

    def _padded(self, rows: Tensor) -> Tensor:
        missing = 0 if self.rows is None else self.rows - len(rows)
        # Row by row: rows that were expanded change the memory format of all, and with it the kernels and last bits.
        return torch.cat([rows, *[rows[:1]] * missing])

    def _embedding(self, running: Running) -> Tensor:
        """The time embedding (R, E) of the next step; those of all steps are made at once."""
        track = running.track
        if running.emb_SRE is None or running.embedded is not running.conditioning:
            t_S = track.grid.timesteps[track.start :].to(track.x_BCHW.device)
            running.emb_SRE = self.family.embed_time(self.unet, t_S, running.conditioning)
            running.embedded = running.conditioning
        return running.emb_SRE[running.done]

    def _context(self, key: tuple[object, ...], group: list[Running], total: int, times: int) -> Context:
        """The rows of all tracks' contexts in the batch's order, so many times; gathered anew only after a change."""
        parts = [(running.conditioning, running.guiding) for running in group]
        known = self._gathered.get(key)
        if known is None or known.total != total or not _same(known.parts, parts):
            known = self._gathered[key] = _Gathered(parts, total, _gather(group, total, times))
        return known.context


def _gather(group: list[Running], total: int, times: int) -> Context:
    lows: list[int] = []
    highs: list[int] = []
    begins: dict[int, int] = {}
    contexts: list[Context] = []
    offset = 0
    for running in group:
        conditioning, count = running.conditioning, len(running.x_BCHW)
        rows = len(conditioning.text_RTC)
        if id(conditioning) not in begins:  # pictures of one prompt share it
            begins[id(conditioning)] = offset
            contexts.append(conditioning.context)
            offset += rows
        begin = begins[id(conditioning)]
        if running.guiding:
            lows += range(begin, begin + count)
        highs += range(begin + rows - count, begin + rows)
    index = [*lows, *highs]
    index += index[:1] * (total - len(index))
    return Context.cat(contexts).rows(index * times)


def _model_input(running: Running) -> Tensor:
    return running.track.scheduler.scale_input(running.track.grid, running.index, running.x_BCHW)


def _keep(deep: Deep | None, negative: list[Running], group: list[Running]) -> None:
    """Has the group's tracks keep their rows of deep features that were computed for them."""
    if deep is None or deep.x_BCHW is None or group[0].shortened:
        return
    parts = taken_apart(deep.x_BCHW, [len(running.x_BCHW) for running in (*negative, *group)])
    lows = dict(zip(map(id, negative), parts, strict=False))
    for running, high in zip(group, parts[len(negative) :], strict=True):
        running.deep = DeepRows(high, lows.get(id(running)), running.conditioning, running.done)


def _guide(negative: Tensor | None, positive: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598), in the form of the reference: w = 1 is no guidance."""
    return positive if negative is None else negative + scale * (positive - negative)


def _step(running: Running, out_BCHW: Tensor) -> tuple[Tensor, Any]:
    track, i = running.track, running.index
    noise_BCHW = None
    if track.scheduler.draws_noise(track.grid, i, track.eta):
        dtype = track.scheduler.noise_dtype(out_BCHW.dtype)
        # As many channels as the latents have: a model that predicts its variance puts out twice as many.
        noise_BCHW = normal(running.x_BCHW.shape, track.generator, out_BCHW.device, dtype)
    x_BCHW, state = track.scheduler.step(track.grid, i, running.x_BCHW, out_BCHW, running.state, noise_BCHW, track.eta)
    return (x_BCHW if track.blend is None else track.blend(i + 1, x_BCHW)), state
