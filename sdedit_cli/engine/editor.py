"""One loaded model that carries out edits as the command line asks for them.

Unlike a library call it takes one declaration (`options.Edit`), keeps the picture's size, draws each picture's noise
from a CPU generator of its own, and tells what it does through events.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import ModelError, SdeditError
from ..nn import FreeU, ImageSource, Merging
from ..noise import Scheduler
from ..options import Edit
from ..runtime import threads
from ..runtime.attention import set_attention
from ..runtime.circumstances import circumstances
from ..runtime.compile import check_compiler, compile_blocks
from ..runtime.device import pick
from ..runtime.dtype import choose
from ..runtime.equip import equip, place, widen
from ..runtime.openvino import Machine, attach
from .adapting import Adapting
from .canvas import Canvas, canvas_for, native_for
from .company import Company, OnStep, Result, Wish, WorkArea
from .denoise import Blend, Segment, Track
from .engine import Engine
from .events import OnEvent, ignored
from .loading import STARTER_FOLDER, for_edit, open_for_edit, text_of, tiny_decoder
from .looks import LastLook
from .masks import Masked, as_strong_as, blend_of, blending_generator, masked, without_edges
from .prompts import Asked, Kept, PromptEncoder, Read, TimedText, asked, changes_on_the_way
from .readings import Readings
from .rounds import Round, Steering, track_of
from .sampling import chosen_scheduler, grid_of
from .shortcuts import shortcuts_of
from .sketch import Sketcher
from .views import views_of, wrap_of

if TYPE_CHECKING:
    from ..weights import Checkpoint
    from .prompt_file import PromptFile

# Keys and values of every layer are kept for each: some 20 MB at the size of Stable Diffusion 1.5.
_MOST_PROMPTS = 16

_ATTENTION: dict[str, dict[str, Any]] = {
    "torch": {},
    "sliced": {"slicing": "auto"},
    "max-sliced": {"slicing": "max"},
    "xformers": {"xformers": True},
}


class Editor:
    """An engine, with the facts about its checkpoint that edits need."""

    def __init__(
        self,
        engine: Engine,
        *,
        native_size: int | None = None,
        on_event: OnEvent | None = None,
        adapting: Adapting | None = None,
        readings: Readings | None = None,
    ) -> None:
        """`adapting` knows the components as the checkpoint has them; without it no adapters can be had. `readings`
        are those of prompts that are kept."""
        self.engine = engine
        self.native_size = native_size
        self.sketcher = Sketcher(engine.family, engine.components.vae)
        # Image prompts, with a row that stands for none and one that counts.
        self.images: tuple[ImageSource, ...] = ()
        self._tell = on_event or ignored
        self._segments: dict[object, tuple[Segment, ...]] = {}
        self._encoded: dict[str, PromptFile] = {}
        self._adapting = adapting
        self.readings = readings or Readings()

    @classmethod
    def open(
        cls,
        edit: Edit,
        on_event: OnEvent | None = None,
        *,
        checkpoint: Checkpoint | None = None,
        pictures: Sequence[Image.Image] = (),
        kept: Kept | None = None,
        machine: Machine | None = None,
    ) -> Editor:
        """Loads the model of `edit` (`checkpoint` when the caller has opened it; the built-in one when none is named).

        `pictures` are those of its image prompts, in their order. Where its prompts are `kept`, read before with its
        adapters, what reads them is loaded only when another prompt comes. `machine` is where OpenVINO computes, if it
        does.

        Raises ModelError for what cannot be loaded, UsageError for a device that is not there.
        """
        from ..weights.formats.mapped_file import reading

        with reading(whole=not edit.mmap):
            return cls._opened(edit, on_event, checkpoint, pictures, kept, machine)

    @classmethod
    def _opened(
        cls,
        edit: Edit,
        on_event: OnEvent | None,
        checkpoint: Checkpoint | None,
        pictures: Sequence[Image.Image],
        kept: Kept | None,
        machine: Machine | None,
    ) -> Editor:
        tell = on_event or ignored
        if checkpoint is None:
            checkpoint = open_for_edit(edit, Path(edit.model) if edit.model else STARTER_FOLDER)
        threads.use(edit.threads)
        device = pick("cpu" if machine else edit.device)
        dtype = machine.dtype(edit.dtype) if machine else choose(edit.dtype, device)
        where = machine.name if machine else str(device)
        facts = {"device": where, "dtype": str(dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
        if edit.compile:
            check_compiler(device)
        tell("load", {"model": str(checkpoint.path), **facts})
        readings = Readings(kept, circumstances(device, dtype), device)
        unet, text = (checkpoint.components.get(slot) for slot in ("unet", "text_encoder"))
        known = text is not None and unet is not None and readings.suffice(edit, unet.config)
        components, native_size = for_edit(edit, checkpoint, dtype, text=not known)
        one_by_one = edit.low_memory and device.type != "cpu"
        place(components.networks(), torch.device("cpu") if one_by_one else device)
        set_attention(components.unet, components.vae, **_ATTENTION[edit.attention])
        if machine:
            attach(components.networks(), replace(machine, threads=torch.get_num_threads()))
        else:
            for network in (components.unet, components.vae):
                equip(network, device, graphs=not one_by_one)
            if components.text_encoder is not None:
                widen(components.text_encoder, device)
        if edit.compile:
            compile_blocks(components.unet)
        components.vae.pieces = replace(components.vae.pieces, tiling=edit.tiles_autoencoder)
        read = partial(text_of, edit, checkpoint, device, dtype) if known else None
        adapting = Adapting(components, checkpoint, read)
        decoder = tiny_decoder(edit, components, dtype)
        if decoder is not None:
            widen(decoder.to(device), device)
        engine = Engine(components, look=LastLook(), decoder=decoder)
        engine = engine.offloaded(device) if one_by_one else engine
        editor = cls(engine, native_size=native_size, on_event=on_event, adapting=adapting, readings=readings)
        editor.adapt(edit, pictures)
        return editor

    def adapt(self, edit: Edit, pictures: Sequence[Image.Image] = ()) -> None:
        """Has the adapters and encoded prompts of `edit`, and no others, at work on the model that was opened.

        Edits are then as on a model opened for it. Raises ModelError and UsageError for what cannot be had; then no
        adapter is at work.
        """
        assert self._adapting is not None, "an editor that was opened"
        self._segments.clear()
        self._encoded.clear()
        self.images, self.engine = (), replace(self.engine, components=self._adapting.bare)
        try:
            self.prompts_of(edit)
            if self._adapting.unread and not self.readings.suffice(edit, self.engine.components.unet.config):
                self._adapting.read_text()
            self.engine.bring(self.engine.components.unet)
            components, self.images = self._adapting.exchange(edit, pictures, self._tell)
        except BaseException:
            self._adapting.clear()
            raise
        self.engine = replace(self.engine, components=components)

    def scheduler_for(self, edit: Edit) -> Scheduler:
        """The sampler of `edit` on this model. Raises UsageError when none of its steps would run."""
        scheduler = chosen_scheduler(self.engine.components.scheduler, edit)
        grid_of(scheduler, edit)
        return scheduler

    def canvas(self, edit: Edit, size: tuple[int, int]) -> Canvas:
        """How a picture of `size` (width, height) will be worked on."""
        components = self.engine.components
        multiple = components.vae.config.scale
        # What wraps must halve evenly on the way down, or the network would see a period of its own.
        even = multiple * 2 ** (len(components.unet.config.block_out_channels) - 1)
        return canvas_for(size, multiple, native_for(edit, size, self.native_size), wrap_of(edit), even)

    def edit(
        self, edit: Edit, image: Image.Image, on_step: OnStep | None = None, mask: Image.Image | None = None
    ) -> Result:
        """`image` edited with the seed of `edit`, which must have been drawn; with a `mask` where that says.

        Raises Interrupted when `on_step` asks to end, and what speaks against the edit on this model.
        """
        ((_, result),) = self.edits([Wish(edit, image, on_step, mask)])
        if isinstance(result, SdeditError):
            raise result
        return result

    @torch.no_grad()
    def edits(self, wishes: Iterable[Wish], size: int | None = None) -> Iterator[tuple[Wish, Result | SdeditError]]:
        """Every wish with its result, or with what speaks against it, as they end; `size` of them at a time.

        A wish is taken when there is room for it. At one `size` the result does not depend on the company; with None
        one after the other is edited, each in a batch of its own shape. Raises Interrupted as `edit`, and whatever
        concerns all of them: those that were under way can be wished for again.
        """
        company = Company(self.engine, None if size is None else 2 * size, self.sketcher)
        try:
            for wish in wishes:
                try:
                    area = self._area(wish)
                except SdeditError as error:
                    yield wish, error
                    continue
                if area is None:
                    yield wish, Result(wish.kept, True, deep=wish.kept_numbers if wish.edit.bits > 8 else None)
                    continue
                while not company.has_room(2 if self.engine.guides(wish.edit.cfg_scale) else 1, area):
                    yield from company.tick()
                try:
                    pixels_BCHW = wish.pixels(area, self.engine.components.vae.config)
                    company.join(wish, area, self.track(wish.edit, pixels_BCHW, area))
                except SdeditError as error:
                    yield wish, error
            while company.guests:
                yield from company.tick()
        finally:
            self.engine.release()

    def _area(self, wish: Wish) -> WorkArea | None:
        """Where a wish is worked on; None where its mask keeps everything."""
        edit = wish.edit
        if wish.mask is None:
            return self.canvas(edit, wish.image.size)
        components = self.engine.components

        def canvas_of(size: tuple[int, int], is_part: bool) -> Canvas:
            return self._canvas_of_part(without_edges(edit), size) if is_part else self.canvas(edit, size)

        scale, fine = components.vae.config.scale, None if wish.fine is None else wish.kept_numbers
        return masked(edit, components.scheduler, wish.mask, wish.kept, scale, canvas_of, fine)

    def _canvas_of_part(self, edit: Edit, size: tuple[int, int]) -> Canvas:
        """The canvas of a part of a picture, which is brought to the area that the model was trained at."""
        config, scale = self.engine.components.unet.config, self.engine.components.vae.config.scale
        side = config.sample_size
        trained_at = side * scale if isinstance(side, int) else 0
        if self.native_size is not None or size[0] * size[1] >= trained_at**2:
            return self.canvas(edit, size)
        return canvas_for(size, scale, native_for(edit, size, trained_at))

    def track(self, edit: Edit, pixels_BCHW: Tensor, area: WorkArea | None = None) -> Track:
        """The trajectory of one picture (1, 3, H, W) in -1..1, noised from a CPU generator of its own.

        `area` is where it is worked on, and may have a mask.
        """
        assert edit.seed is not None
        engine, mask = self.engine, area if isinstance(area, Masked) else None
        generator, blending = torch.Generator("cpu").manual_seed(edit.seed), blending_generator(edit.seed)
        rounds = [self._round(one, mask, blending) for one in edit.rounds()]
        scale = engine.components.vae.config.scale
        seen = edit if mask is None or not mask.is_part else without_edges(edit)
        views = views_of(seen, scale, *(side // scale for side in pixels_BCHW.shape[-2:]))
        x0_BCHW, noise_BCHW = engine.drawn(pixels_BCHW, None, generator, engine.components.unet.dtype, views)
        guided = engine.guides(edit.cfg_scale)
        steering = Steering(
            edit.cfg_scale, guided, generator, edit.seed, edit.eta, edit.same_noise, views, shortcuts_of(edit)
        )
        return track_of([one for one in rounds if one is not None], steering, x0_BCHW, noise_BCHW)

    def _round(self, edit: Edit, mask: Masked | None, blending: torch.Generator) -> Round | None:
        """One round of an edit; None where its mask is so dark that no step runs."""
        taken = edit if mask is None else as_strong_as(edit, mask.whitest)
        if taken is None:
            return None
        scheduler = chosen_scheduler(self.engine.components.scheduler, taken)
        grid, start = grid_of(scheduler, taken)

        def blend(x0_BCHW: Tensor, noise_BCHW: Tensor) -> Blend | None:
            return mask and blend_of(mask, edit, scheduler, grid, start, x0_BCHW, noise_BCHW, blending)

        return Round(scheduler, grid, start, self._conditioned(taken, scheduler.order), blend)

    def _conditioned(self, edit: Edit, order: int) -> tuple[Segment, ...]:
        """What the steps read, made once for all pictures of one prompt. A step takes `order` entries of the grid."""
        engine = self.engine
        words = (edit.prompt, edit.negative_prompt, edit.weighting, edit.long_prompts, edit.clip_skip)
        scale = (engine.guides(edit.cfg_scale), engine.embedded_guidance(edit.cfg_scale))
        when = (edit.steps_run(), order) if changes_on_the_way(edit) else ()
        key = (words, edit.prompt_embeds, scale, when, edit.freeu, edit.merge_tokens)
        if key not in self._segments:
            texts = self._from_file(edit) if edit.prompt_embeds else self._from_texts(edit)
            freeu = FreeU(*edit.freeu) if edit.freeu else None
            images = tuple(image.rows([0, 1] if engine.guides(edit.cfg_scale) else [1]) for image in self.images)
            merging = Merging(edit.merge_tokens) if edit.merge_tokens else None
            conditioned = [
                (engine.condition(text.embeds_BTC, edit.cfg_scale, freeu, images, merging), text.until)
                for text in texts
            ]
            if len(self._segments) >= _MOST_PROMPTS:
                del self._segments[next(iter(self._segments))]
            self._segments[key] = tuple(Segment(item, until * order if when else None) for item, until in conditioned)
        return self._segments[key]

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
        wanted = asked(edit, self.engine.guides(edit.cfg_scale))
        # Prompts that alternate come again and again, and are read once.
        reads = {one: self.readings.of(one, self._read) for one in dict.fromkeys(one for _, one in wanted)}
        for read in reads.values():
            for cut in read.truncated:
                self._tell("truncated", {"text": cut, "limit": read.limit})
        return [TimedText(until, reads[one].embeds_BTC) for until, one in wanted]

    def _read(self, texts: Asked) -> Read:
        if self._adapting is not None and self._adapting.unread:
            self._adapting.read_text()
            self.engine = replace(self.engine, components=self._adapting.with_text())
        engine, components = self.engine, self.engine.components
        if components.tokenizer is None or components.text_encoder is None:
            raise ModelError("this model has no text encoder, so it cannot read a prompt; use a complete one")
        engine.bring(components.text_encoder)
        return PromptEncoder(engine.family, components, components.tokenizer).read(texts)
