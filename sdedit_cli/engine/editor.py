"""One loaded model that carries out edits as the command line asks for them.

Unlike a library call it takes one declaration (`spec.Edit`), keeps the picture's size, draws each picture's noise from
a CPU generator of its own, and tells what it does through events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import Interrupted, ModelError
from ..library.loading import load_vae
from ..library.pipeline import StableDiffusionImg2ImgPipeline
from ..nn import FreeU
from ..noise import Grid, Scheduler
from ..options import Edit
from ..runtime.device import pick
from ..runtime.dtype import choose
from .canvas import Canvas, canvas_for
from .denoise import Loop, Running, Segment, Track, schedule
from .image import postprocess, preprocess
from .latents import decode, encode
from .prompts import Speaker
from .randomness import normal
from .safety import clip_pixels

BUILT_IN = Path(__file__).parent.parent / "assets" / "starter"

OnEvent = Callable[[str, dict[str, Any]], None]
# Called after each step with (steps done, steps to do, preview); True ends the edit with Interrupted.
OnStep = Callable[[int, int, "Callable[[], list[Image.Image]]"], "bool | None"]


@dataclass(frozen=True)
class Plan:
    """What an edit will do: `steps_run` of `steps_total`, from `first_timestep` down; sides (px) grow to `multiple`."""

    steps_run: int
    steps_total: int
    first_timestep: float
    sampler: str
    multiple: int
    native_size: int | None


@dataclass(frozen=True)
class Result:
    """An edited picture of the input's size; `finite`: all values were numbers; `nsfw`: None without a checker."""

    image: Image.Image
    seed: int
    finite: bool
    nsfw: bool | None = None


class Editor:
    """A pipeline on its device, with the facts about its folder that edits need."""

    def __init__(
        self,
        pipeline: StableDiffusionImg2ImgPipeline,
        *,
        native_size: int | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.native_size = native_size
        self._tell = on_event or _ignore
        self._resized: set[tuple[int, int]] = set()
        self._segments: tuple[Any, tuple[Segment, ...]] | None = None

    @classmethod
    def open(cls, edit: Edit, on_event: OnEvent | None = None, *, folder: Path | None = None) -> Editor:
        """Loads the model of `edit` (`folder` when the caller has resolved it; the built-in one when none is named).

        Raises ModelError for what cannot be loaded, UsageError for a device that is not there.
        """
        tell = on_event or _ignore
        path = folder or (Path(edit.model) if edit.model else BUILT_IN)
        device = pick(edit.device)
        dtype = choose(edit.dtype, device)
        tell("load", {"model": str(path), "device": str(device), "dtype": str(dtype).removeprefix("torch.")})
        pipeline = _load(path, dtype, edit).to(device)
        _switch(pipeline, edit)
        return cls(pipeline, native_size=None, on_event=on_event)

    def plan(self, edit: Edit) -> Plan:
        """The steps of `edit` on this model, before any picture is seen. Raises UsageError when none would run."""
        scheduler = self.scheduler_for(edit)
        grid, start = schedule_of(scheduler, edit)
        return Plan(
            steps_run=edit.steps_run(),
            steps_total=edit.steps_total(),
            first_timestep=float(grid.timesteps[start]),
            sampler=scheduler.name,
            multiple=self.pipeline.vae.config.scale,
            native_size=self.native_size,
        )

    def scheduler_for(self, edit: Edit) -> Scheduler:
        """See `chosen_scheduler`."""
        return chosen_scheduler(self.pipeline.scheduler, edit)

    def canvas(self, size: tuple[int, int]) -> Canvas:
        """How a picture of `size` (width, height) will be worked on."""
        return canvas_for(size, self.pipeline.vae.config.scale, self.native_size)

    @torch.no_grad()
    def edit(self, edit: Edit, image: Image.Image, seeds: Sequence[int], on_step: OnStep | None = None) -> list[Result]:
        """One edited picture a seed. They run one by one, so that none depends on how many were asked for.

        Raises Interrupted when `on_step` asks to end.
        """
        canvas = self.canvas(image.size)
        if canvas.resized and canvas.work not in self._resized:
            self._resized.add(canvas.work)
            self._tell("resized", {"width": canvas.work[0], "height": canvas.work[1], "native": self.native_size})
        vae = self.pipeline.vae
        pixels_BCHW = preprocess(canvas.lay(image), vae.config.scale, vae.config.latent_channels)
        return [self._one(edit, pixels_BCHW, canvas, seed, on_step) for seed in seeds]

    def _one(self, edit: Edit, pixels_BCHW: Tensor, canvas: Canvas, seed: int, on_step: OnStep | None) -> Result:
        running = self._denoise(self.track(edit, pixels_BCHW, seed), canvas, on_step)
        pixels, finite = self._decode(running.x_BCHW)
        return Result(canvas.lift(pixels), seed, finite, self._judge(pixels) if finite else None)

    def track(self, edit: Edit, pixels_BCHW: Tensor, seed: int) -> Track:
        """The trajectory of one picture (1, 3, H, W) in -1..1, noised from a CPU generator of its own."""
        pipeline, dtype, device = self.pipeline, self.pipeline.dtype, self.pipeline.device
        scheduler = self.scheduler_for(edit)
        grid, start = schedule_of(scheduler, edit)
        generator = torch.Generator("cpu").manual_seed(seed)
        x_BCHW = encode(pipeline.vae, pixels_BCHW.to(device, dtype), generator)
        noise_BCHW = normal(x_BCHW.shape, generator, device, dtype)
        embedded = pipeline.unet.config.time_cond_proj_dim
        w_B = torch.tensor([edit.cfg_scale - 1])
        return Track(
            x_BCHW=scheduler.add_noise(grid, start, x_BCHW, noise_BCHW),
            scheduler=scheduler,
            grid=grid,
            start=start,
            segments=self._speak(edit, scheduler.order),
            guidance_scale=edit.cfg_scale,
            guided=self._guided(edit),
            guidance_BG=pipeline.get_guidance_scale_embedding(w_B, embedded).to(device, dtype) if embedded else None,
            generator=generator,
            seed=seed,
            eta=edit.eta,
            freeu=FreeU(*edit.freeu) if edit.freeu else None,
        )

    def _guided(self, edit: Edit) -> bool:
        return edit.cfg_scale > 1 and self.pipeline.unet.config.time_cond_proj_dim is None

    def _speak(self, edit: Edit, order: int) -> tuple[Segment, ...]:
        """What the steps read, made once for all pictures of one prompt. A step takes `order` entries of the grid."""
        guided = self._guided(edit)
        words = (edit.prompt, edit.negative_prompt, edit.weighting, edit.long_prompts)
        key = (*words, edit.clip_skip, edit.steps_run(), order, guided)
        if self._segments is None or self._segments[0] != key:
            pipeline = self.pipeline
            if pipeline.tokenizer is None or pipeline.text_encoder is None:
                raise ModelError("this model has no text encoder, so it cannot read a prompt; use a complete one")
            speaker = Speaker(pipeline.tokenizer, pipeline.text_encoder)
            spoken = speaker.speak(edit, guided)
            for cut in speaker.truncated:
                self._tell("truncated", {"text": cut, "limit": pipeline.tokenizer.model_max_length})
            contexts = [(part.until * order, pipeline.unet.context(part.embeds_BTC)) for part in spoken]
            self._segments = (key, tuple(Segment(context, until) for until, context in contexts))
        return self._segments[1]

    def _denoise(self, track: Track, canvas: Canvas, on_step: OnStep | None) -> Running:
        loop = Loop(self.pipeline.unet)
        running = loop.join(track)
        # Second-order solvers spend two grid entries on a step; people count steps.
        order = track.scheduler.order
        while not running.finished:
            loop.tick()
            if on_step is None or (running.done % order and not running.finished):
                continue

            def preview() -> list[Image.Image]:
                return [canvas.lift(self._decode(running.x_BCHW)[0])]

            if on_step(-(-running.done // order), -(-track.steps // order), preview):
                raise Interrupted("interrupted; pictures finished before are kept")
        return running

    def _decode(self, x_BCHW: Tensor) -> tuple[Image.Image, bool]:
        """The picture, and whether it is one: half precision that overflows is tried again in single."""
        vae = self.pipeline.vae
        pixels_BCHW = decode(vae, x_BCHW)
        finite = bool(torch.isfinite(pixels_BCHW).all())
        if not finite and vae.dtype != torch.float32 and torch.isfinite(x_BCHW).all():
            stored = vae.dtype
            pixels_BCHW = decode(vae.to(torch.float32), x_BCHW.float())
            finite = bool(torch.isfinite(pixels_BCHW).all())
            vae.to(stored)
        # A picture has to be handed back even where there is none; it is never written.
        return postprocess(torch.nan_to_num(pixels_BCHW), "pil")[0], finite

    def _judge(self, image: Image.Image) -> bool | None:
        checker = self.pipeline.safety_checker
        if checker is None:
            return None
        return checker.judge(clip_pixels(self.pipeline.feature_extractor, [image]))[0].nsfw


def _load(path: Path, dtype: torch.dtype, edit: Edit) -> StableDiffusionImg2ImgPipeline:
    options: dict[str, Any] = {"partial": edit.partial, "local_files_only": True}
    if edit.safety == "off" or not (path / "safety_checker").is_dir():
        # A feature extractor alone would cost the import of transformers and do nothing.
        options |= {"safety_checker": None, "feature_extractor": None}
    if edit.vae is not None:
        options["vae"] = load_vae(Path(edit.vae), dtype)
    if not path.is_dir():
        options |= {"config": edit.config, "prediction_type": edit.prediction_type}
        return StableDiffusionImg2ImgPipeline.from_single_file(path, torch_dtype=dtype, **options)
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(path, torch_dtype=dtype, **options)
    if edit.prediction_type is not None:
        pipeline.scheduler = Scheduler.from_config(pipeline.scheduler, prediction_type=edit.prediction_type)
    return pipeline


def _switch(pipeline: StableDiffusionImg2ImgPipeline, edit: Edit) -> None:
    match edit.attention:
        case "sliced":
            pipeline.enable_attention_slicing("auto")
        case "max-sliced":
            pipeline.enable_attention_slicing("max")
        case "xformers":
            pipeline.enable_xformers_memory_efficient_attention()
        case _:
            pass
    if edit.vae_tiling:
        pipeline.enable_vae_tiling()


def chosen_scheduler(own: Scheduler, edit: Edit) -> Scheduler:
    """The checkpoint's scheduler, or the asked-for sampler on the checkpoint's noise process."""
    if edit.sampler is None and edit.schedule is None:
        return own
    return own.renamed(edit.sampler or own.name, curve=edit.schedule)


def schedule_of(scheduler: Scheduler, edit: Edit) -> tuple[Grid, int]:
    """The grid of an edit, and the index where it starts. Raises UsageError as `denoise.schedule`."""
    return schedule(scheduler, edit.steps_total(), edit.strength, edit.timesteps, edit.sigmas)


def _ignore(event: str, facts: dict[str, Any]) -> None:
    del event, facts
