"""One loaded model that carries out edits as the command line asks for them.

Unlike a library call it takes one declaration (`options.Edit`), keeps the picture's size, draws each picture's noise
from a CPU generator of its own, and tells what it does through events.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import Interrupted, ModelError
from ..nn import FreeU, ImageSource
from ..noise import Scheduler
from ..options import Edit
from ..runtime import threads
from ..runtime.attention import set_attention
from ..runtime.device import pick
from ..runtime.dtype import choose
from .canvas import Canvas, canvas_for
from .denoise import Segment, Track
from .engine import Engine
from .image import postprocess, preprocess
from .loading import STARTER_FOLDER, for_edit, open_for_edit
from .prompts import PromptEncoder, TimedText
from .sampling import chosen_scheduler, grid_of

if TYPE_CHECKING:
    from ..adapters.embedding import TextualInversion
    from ..weights import Checkpoint
    from .components import Components
    from .prompt_file import PromptFile

OnEvent = Callable[[str, dict[str, Any]], None]
# Called after each step with (steps done, steps to do, preview); True ends the edit with Interrupted.
OnStep = Callable[[int, int, "Callable[[], list[Image.Image]]"], "bool | None"]


_ATTENTION: dict[str, dict[str, Any]] = {
    "torch": {},
    "sliced": {"slicing": "auto"},
    "max-sliced": {"slicing": "max"},
    "xformers": {"xformers": True},
}


@dataclass(frozen=True)
class Result:
    """An edited picture of the input's size; `finite`: all values were numbers; `nsfw`: None without a checker."""

    image: Image.Image
    finite: bool
    nsfw: bool | None = None


class Editor:
    """An engine, with the facts about its checkpoint that edits need."""

    def __init__(
        self,
        engine: Engine,
        *,
        native_size: int | None = None,
        on_event: OnEvent | None = None,
        images: tuple[ImageSource, ...] = (),
    ) -> None:
        """`images`: image prompts, with a row that stands for none and one that counts."""
        self.engine = engine
        self.native_size = native_size
        self.images = images
        self._tell = on_event or _ignore
        self._segments: tuple[Any, tuple[Segment, ...]] | None = None
        self._encoded: dict[str, PromptFile] = {}

    @classmethod
    def open(
        cls,
        edit: Edit,
        on_event: OnEvent | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        pictures: Sequence[Image.Image] = (),
    ) -> Editor:
        """Loads the model of `edit` (`checkpoint` when the caller has opened it; the built-in one when none is named).

        `pictures` are those of its image prompts, in their order.

        Raises ModelError for what cannot be loaded, UsageError for a device that is not there.
        """
        tell = on_event or _ignore
        if checkpoint is None:
            checkpoint = open_for_edit(edit, Path(edit.model) if edit.model else STARTER_FOLDER)
        threads.use(edit.threads)
        device = pick(edit.device)
        dtype = choose(edit.dtype, device)
        facts = {"device": str(device), "dtype": str(dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
        tell("load", {"model": str(checkpoint.path), **facts})
        components, native_size = for_edit(edit, checkpoint, dtype)
        for network in components.networks():
            network.to(device)
        components = _adapted(edit, components, tell)
        images: tuple[ImageSource, ...] = ()
        if edit.ip_adapter:
            from .ip_files import sources_for_edit

            images = sources_for_edit(
                edit, checkpoint, components.unet, pictures, lambda words: tell("adapter", {"summary": words})
            )
        set_attention(components.unet, components.vae, **_ATTENTION[edit.attention])
        components.vae.pieces = replace(components.vae.pieces, tiling=edit.vae_tiling)
        editor = cls(Engine(components), native_size=native_size, on_event=on_event, images=images)
        editor.prompts_of(edit)
        return editor

    def scheduler_for(self, edit: Edit) -> Scheduler:
        """The sampler of `edit` on this model. Raises UsageError when none of its steps would run."""
        scheduler = chosen_scheduler(self.engine.components.scheduler, edit)
        grid_of(scheduler, edit)
        return scheduler

    def canvas(self, size: tuple[int, int]) -> Canvas:
        """How a picture of `size` (width, height) will be worked on."""
        return canvas_for(size, self.engine.components.vae.config.scale, self.native_size)

    @torch.no_grad()
    def edit(self, edit: Edit, image: Image.Image, on_step: OnStep | None = None) -> Result:
        """`image` edited with the seed of `edit`, which must have been drawn.

        Raises Interrupted when `on_step` asks to end.
        """
        canvas = self.canvas(image.size)
        config = self.engine.components.vae.config
        try:
            track = self.track(edit, preprocess(canvas.fit(image), config.scale, config.latent_channels))
            x_BCHW = self._denoise(track, canvas, on_step)
            pixels_BCHW, finite = self._decode(x_BCHW)
            flags = self.engine.judge(pixels_BCHW)[1] if finite else None
        finally:
            self.engine.release()
        return Result(canvas.restore(postprocess(pixels_BCHW, "pil")[0]), finite, flags[0] if flags else None)

    def track(self, edit: Edit, pixels_BCHW: Tensor) -> Track:
        """The trajectory of one picture (1, 3, H, W) in -1..1, noised from a CPU generator of its own."""
        assert edit.seed is not None
        engine, scheduler = self.engine, chosen_scheduler(self.engine.components.scheduler, edit)
        grid, start = grid_of(scheduler, edit)
        generator = torch.Generator("cpu").manual_seed(edit.seed)
        dtype = engine.components.unet.dtype
        return Track(
            x_BCHW=engine.noised(pixels_BCHW, None, scheduler, grid, start, generator, dtype),
            scheduler=scheduler,
            grid=grid,
            start=start,
            segments=self._conditioned(edit, scheduler.order),
            guidance_scale=edit.cfg_scale,
            guided=engine.guides(edit.cfg_scale),
            generator=generator,
            seed=edit.seed,
            eta=edit.eta,
        )

    def _conditioned(self, edit: Edit, order: int) -> tuple[Segment, ...]:
        """What the steps read, made once for all pictures of one prompt. A step takes `order` entries of the grid."""
        words = (edit.prompt, edit.negative_prompt, edit.weighting, edit.long_prompts, edit.clip_skip)
        key = (*words, edit.prompt_embeds, edit.cfg_scale, edit.freeu, edit.steps_run(), order)
        if self._segments is None or self._segments[0] != key:
            engine = self.engine
            texts = self._from_file(edit) if edit.prompt_embeds else self._from_texts(edit)
            freeu = FreeU(*edit.freeu) if edit.freeu else None
            images = tuple(image.rows([0, 1] if engine.guides(edit.cfg_scale) else [1]) for image in self.images)
            conditioned = [
                (engine.condition(text.embeds_BTC, edit.cfg_scale, freeu, images), text.until) for text in texts
            ]
            self._segments = (key, tuple(Segment(item, until * order) for item, until in conditioned))
        return self._segments[1]

    def prompts_of(self, edit: Edit) -> PromptFile | None:
        """The encoded prompts that an edit names, read once; None where it has texts. Raises ModelError."""
        path = edit.prompt_embeds
        if path is None:
            return None
        if path not in self._encoded:
            from .prompt_file import read_prompts

            self._encoded[path] = read_prompts(Path(path))
            self._encoded[path].check(self.engine.components.unet.config.cross_attention_dim)
        return self._encoded[path]

    def _from_file(self, edit: Edit) -> list[TimedText]:
        prompts = self.prompts_of(edit)
        assert prompts is not None
        unet = self.engine.components.unet
        like = torch.empty((), dtype=unet.dtype, device=self.engine.device)
        return [TimedText(edit.steps_run(), prompts.embeds(self.engine.guides(edit.cfg_scale), like))]

    def _from_texts(self, edit: Edit) -> list[TimedText]:
        engine, components = self.engine, self.engine.components
        if components.tokenizer is None or components.text_encoder is None:
            raise ModelError("this model has no text encoder, so it cannot read a prompt; use a complete one")
        engine.bring(components.text_encoder)
        encoder = PromptEncoder(engine.family, components, components.tokenizer)
        texts = encoder.encode(edit, engine.guides(edit.cfg_scale))
        for cut in encoder.truncated:
            self._tell("truncated", {"text": cut, "limit": components.tokenizer.model_max_length})
        return texts

    def _denoise(self, track: Track, canvas: Canvas, on_step: OnStep | None) -> Tensor:
        x_BCHW = track.x_BCHW
        # Second-order solvers spend two grid entries on a step; people count steps.
        order = track.scheduler.order
        for running in self.engine.steps(track):
            x_BCHW = running.x_BCHW
            if on_step is None or (running.done % order and not running.finished):
                continue

            def preview(x_BCHW: Tensor = x_BCHW) -> list[Image.Image]:
                return [canvas.restore(postprocess(self._decode(x_BCHW)[0], "pil")[0])]

            if on_step(-(-running.done // order), -(-track.steps // order), preview):
                raise Interrupted("interrupted; pictures finished before are kept")
        return x_BCHW

    def _decode(self, x_BCHW: Tensor) -> tuple[Tensor, bool]:
        pixels_BCHW, finite = self.engine.decode(x_BCHW)
        # A picture has to be handed back even where there is none; it is never written.
        return torch.nan_to_num(pixels_BCHW), finite


def _adapted(edit: Edit, components: Components, tell: OnEvent) -> Components:
    """The components with the adapters of `edit`, each of them told."""
    bundled: list[TextualInversion] = []
    if edit.lora:
        from .merging import merge_files

        text = {} if components.text_encoder is None else {"text_encoder": components.text_encoder}
        networks = {"unet": components.unet, **text}
        for adapter in merge_files(edit.lora, networks, components.unet.config, partial=edit.partial):
            tell("adapter", adapter.facts())
            bundled += adapter.words
    if edit.embedding or bundled:
        from .embeddings import with_words

        tokenizer = with_words(components, edit.embedding, bundled, lambda word: tell("adapter", {"summary": word}))
        components = replace(components, tokenizer=tokenizer)
    return components


def _ignore(event: str, facts: dict[str, Any]) -> None:
    del event, facts
