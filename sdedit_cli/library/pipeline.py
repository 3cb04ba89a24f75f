"""The public pipeline: a picture, a prompt and a strength in, edited pictures out (SDEdit, arXiv 2108.01073).

B rows (prompts x pictures a prompt), T tokens, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..engine.components import NAMES, VAE, Components
from ..engine.denoise import Segment, Track
from ..engine.engine import Engine
from ..engine.families.sd import guidance_embedding
from ..engine.image import ImageInput, postprocess, preprocess
from ..engine.prompts import encode_texts
from ..engine.randomness import Generators, seeds_of
from ..engine.sampling import grid_for
from ..errors import UsageError, warn
from ..nn import CLIPTextModel, ImageSource, UNet2DCondition
from ..noise import Scheduler
from ..text import Tokenizer
from .adapters import Adapters
from .arguments import (
    as_number,
    check_callback,
    check_generator,
    check_numbers,
    check_pair,
    check_prompts,
    check_retired,
    check_steps,
    check_whole,
    check_width,
    checked_count,
    checked_output_type,
    paired,
)
from .callbacks import shown_tensors, steer, take_over
from .components import as_scheduler, asked_for, check_components
from .embeddings import Embeddings
from .familiar import Familiar
from .image_arguments import without_masks
from .image_prompts import ImagePrompts
from .output import StableDiffusionPipelineOutput
from .schedulers import NamedScheduler, named
from .turns import Turn, in_turn
from .words import arguments_named

Place = str | os.PathLike[str]
Texts = str | Sequence[str] | None
Callback = Callable[["StableDiffusionImg2ImgPipeline", int, Tensor, dict[str, Any]], "dict[str, Any] | None"]


@in_turn
class StableDiffusionImg2ImgPipeline(Adapters, Embeddings, ImagePrompts, Familiar):
    """Edits pictures with one loaded checkpoint; arguments and defaults are those of the reference library."""

    def __init__(
        self,
        vae: VAE,
        text_encoder: CLIPTextModel | None,
        tokenizer: Tokenizer | None,
        unet: UNet2DCondition,
        scheduler: Scheduler,
        safety_checker: Any = None,
        feature_extractor: Any = None,
        image_encoder: Any = None,
        requires_safety_checker: bool = True,
    ) -> None:
        super().__init__()
        self._turn = Turn()
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.unet = unet
        self._scheduler = named(as_scheduler(scheduler).modernised())
        self.safety_checker = safety_checker
        self.feature_extractor = feature_extractor
        self.image_encoder = image_encoder
        self.requires_safety_checker = requires_safety_checker
        self.native_size: int | None = None
        """Pixels on a side that a small model was trained at, as its checkpoint says; saved with it."""
        check_components(self.components)
        self.equip()

    @property
    def components(self) -> dict[str, Any]:
        """The components by name, as the constructor and the loaders' overrides take them."""
        return {name: getattr(self, name) for name in NAMES if name != "requires_safety_checker"}

    @property
    def engine(self) -> Engine:
        """What does the work, over the components as they are now: each can be replaced between two calls."""
        return Engine(Components(**self.components), offload=self._offload, adapters=self.ip_networks)

    @property
    def scheduler(self) -> NamedScheduler:
        """The sampler over the checkpoint's noise schedule; assign another Scheduler to change it."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, value: Scheduler) -> None:
        self._scheduler = as_scheduler(value)

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a step runs the negative prompt too: not at scale 1 or less, nor where the scale is embedded."""
        return self.engine.guides(self._guidance_scale)

    @arguments_named()
    def to(self, *args: Any, **kwargs: Any) -> StableDiffusionImg2ImgPipeline:
        """Moves all networks to a device, a dtype, or both, by place or as `device=`, `dtype=`; returns the pipeline.

        Raises UsageError for a device that is not there, WrongTypeError for what is neither.
        """
        self.move(*args, **kwargs)
        return self

    @classmethod
    @arguments_named()
    def from_pretrained(
        cls, pretrained_model_name_or_path: Place, *, torch_dtype: torch.dtype | str | None = None, **options: Any
    ) -> StableDiffusionImg2ImgPipeline:
        """The pipeline of a folder in the diffusers layout (a path or a Hub id, or "built-in"), float32 unless
        `torch_dtype` is given.

        Options are component overrides (`vae=`, `scheduler=`, `safety_checker=None`, ...), `variant`,
        `use_safetensors`, `partial`, `disable_mmap` (read files into memory at once), and those of `weights.resolve`.
        Raises ModelError for what is missing or does not fit, UsageError for an unknown option.
        """
        from .loading import pretrained_components

        source = pretrained_model_name_or_path
        return cls._of(source, *pretrained_components(source, torch_dtype, options))

    @classmethod
    @arguments_named()
    def from_single_file(
        cls, pretrained_model_link_or_path: Place, *, torch_dtype: torch.dtype | str | None = None, **options: Any
    ) -> StableDiffusionImg2ImgPipeline:
        """The pipeline of one checkpoint file (a path, also without its ending, or a Hub file URL).

        Options are component overrides, `config` (a diffusers folder that says what shapes cannot), `prediction_type`,
        `ema`, `partial`, `disable_mmap`, and those of `weights.resolve`.
        Raises ModelError for what is no Stable Diffusion 1.x or 2.x checkpoint, UnsafeFileError for a file that asks
        for code to be run, UsageError for an unknown option.
        """
        from .loading import single_file_components

        source = pretrained_model_link_or_path
        return cls._of(source, *single_file_components(source, torch_dtype, options))

    @classmethod
    def _of(cls, source: Place, components: dict[str, Any], native_size: int | None) -> StableDiffusionImg2ImgPipeline:
        pipeline = cls(**asked_for(cls, components))
        pipeline.native_size, pipeline.name_or_path = native_size, os.fspath(source)
        return pipeline

    @arguments_named()
    def save_pretrained(
        self,
        save_directory: Place,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> None:
        """Writes all components in the diffusers layout, and what is fused.

        Raises UsageError for what is not done (pickles, the Hub), OutputError where the folder cannot be written.
        """
        from .loading import save

        options |= {"safe_serialization": safe_serialization, "variant": variant, "max_shard_size": max_shard_size}
        options["push_to_hub"] = push_to_hub
        self._keep_words()
        facts = {"requires_safety_checker": self.requires_safety_checker, "native_size": self.native_size}
        with self.without_adapters(), self._bundled_aside():
            save(self.components, save_directory, options, **facts)

    @arguments_named()
    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: Texts,
        device: torch.device | str | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: Texts = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, T, C) of the prompts and, when guided, of the negative prompts ('' where none is given)."""
        check_prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, do_classifier_free_guidance)
        check_whole("clip_skip", clip_skip)
        num_images_per_prompt = checked_count(num_images_per_prompt)
        with self._scaled(lora_scale):
            device = torch.device(device) if device is not None else self.device
            if prompt_embeds is None:
                texts = [prompt] if isinstance(prompt, str) else list(prompt or [])
                prompt_embeds = self._encode(texts, clip_skip=clip_skip)
            count, length = prompt_embeds.shape[:2]
            # Not by its truth: a compiled network is asked for its length.
            dtype = (self.text_encoder if self.text_encoder is not None else self.unet).dtype
            positive = prompt_embeds.to(device, dtype).repeat_interleave(num_images_per_prompt, dim=0)
            if not do_classifier_free_guidance:
                return positive, negative_prompt_embeds
            if negative_prompt_embeds is None:
                self._check_length(length)
                negative_prompt_embeds = self._encode(paired(negative_prompt, count), length=length)
            check_pair(prompt_embeds, negative_prompt_embeds)
            return positive, negative_prompt_embeds.to(device, dtype).repeat_interleave(num_images_per_prompt, 0)

    def _check_length(self, length: int) -> None:
        limit = self.text_encoder.config.max_position_embeddings if self.text_encoder is not None else length
        if length > limit:
            raise UsageError(
                f"`prompt_embeds` has {length} tokens and the text encoder takes {limit}; "
                "give `negative_prompt_embeds` of the same length"
            )

    def _encode(self, texts: list[str], *, clip_skip: int | None = None, length: int | None = None) -> Tensor:
        if self.text_encoder is None or self.tokenizer is None:
            lacking = "text encoder" if self.text_encoder is None else "tokenizer"
            raise UsageError(f"this pipeline has no {lacking}; give `prompt_embeds` and `negative_prompt_embeds`")
        self._keep_words()
        engine = self.engine
        engine.bring(self.text_encoder)
        encoded = encode_texts(engine.family, engine.components, texts, clip_skip=clip_skip, length=length)
        limit = length or self.tokenizer.model_max_length
        for cut in filter(None, encoded.truncated):
            warn(f"the prompt is longer than {limit} tokens; this was cut: {cut!r}")
        return encoded.embeds_BTC

    def get_guidance_scale_embedding(
        self, w: Tensor, embedding_dim: int = 512, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Embeddings (len(w), embedding_dim) of guidance scales; see `families.sd.guidance_embedding`."""
        return guidance_embedding(w, embedding_dim, dtype)

    @arguments_named()
    @torch.no_grad()
    def __call__(
        self,
        prompt: Texts = None,
        image: ImageInput | None = None,
        strength: float = 0.8,
        num_inference_steps: int | None = 50,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float | None = 7.5,
        negative_prompt: Texts = None,
        num_images_per_prompt: int | None = 1,
        eta: float | None = 0.0,
        generator: Generators = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: list[Tensor] | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: dict[str, Any] | None = None,
        clip_skip: int | None = None,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = ("latents",),
        **retired: Any,
    ) -> StableDiffusionPipelineOutput | tuple[Any, list[bool] | None]:
        """Edits `image` under `prompt`: noises it to `strength` (0..1), then denoises it.

        int(num_inference_steps x strength) steps run. `image` is a PIL picture, an array (H, W, 3) or a tensor
        (3, H, W) in 0..1, a batch or list of these, or latents (B, C, h, w). `generator`: one, or one a picture.
        Returns pictures as `output_type` says: pil, np (B, H, W, 3), pt (B, 3, H, W), latent (B, C, h, w).
        Raises UsageError (a ValueError) for arguments that cannot be meant.
        """
        check_retired(retired, self.__call__)
        check_components(self.components)  # each may have been replaced
        output_type = checked_output_type(output_type)
        per_prompt = 1 if num_images_per_prompt is None else num_images_per_prompt
        strength = as_number("strength", strength, " from 0 to 1")
        eta = as_number("eta", 0.0 if eta is None else eta, ", the share of fresh noise")
        custom = timesteps is not None or sigmas is not None
        check_numbers(strength, num_inference_steps, per_prompt, steps_needed=not custom)
        guidance_scale = 1.0 if guidance_scale is None else guidance_scale
        self._guidance_scale = as_number("guidance_scale", guidance_scale, ", how closely to follow the prompt")
        self._interrupt = False
        guided = self.do_classifier_free_guidance
        check_prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds, guided)
        names = check_callback(callback_on_step_end, callback_on_step_end_tensor_inputs)
        check_steps(timesteps, sigmas)
        check_generator(generator)
        if image is None:
            raise UsageError("give `image`: the picture to edit")
        self._clip_skip, self._cross_attention_kwargs = clip_skip, cross_attention_kwargs
        cross_attention_kwargs, masks = without_masks(cross_attention_kwargs)
        self._check_images(ip_adapter_image, ip_adapter_image_embeds, masks)
        engine = self.engine
        try:
            self._rescale(cross_attention_kwargs)
            positive, negative = self.encode_prompt(
                prompt,
                engine.device,
                per_prompt,
                guided,
                negative_prompt,
                prompt_embeds,
                negative_prompt_embeds,
                clip_skip=clip_skip,
            )
            # Each network may compute in a precision of its own.
            vae, dtype = self.vae.config, self.unet.dtype
            text_RTC = (torch.cat([negative, positive]) if guided and negative is not None else positive).to(dtype)
            check_width(text_RTC, self.unet.config.cross_attention_dim)
            pixels_BCHW = preprocess(image, vae.scale, vae.latent_channels, vae.in_channels)
            grid, start = grid_for(self.scheduler, num_inference_steps or 0, strength, timesteps, sigmas)
            made = self._image_embeds(ip_adapter_image, ip_adapter_image_embeds, guided)
            images_now = partial(self._image_sources, made, masks, (len(positive), per_prompt), guided, pixels_BCHW)
            track = Track(
                x_BCHW=engine.noised(pixels_BCHW, len(positive), self.scheduler, grid, start, generator, dtype),
                scheduler=self.scheduler,
                grid=grid,
                start=start,
                segments=(Segment(engine.condition(text_RTC, self._guidance_scale, self._freeu, images_now())),),
                guidance_scale=self._guidance_scale,
                guided=guided,
                generator=generator,
                seed=seeds_of(generator),
                eta=eta,
            )
            x_BCHW = self._run(engine, track, callback_on_step_end, names, images_now)
            images, flags = _finish(engine, x_BCHW, output_type)
        finally:
            engine.release()
            self._rescale(None)
        return StableDiffusionPipelineOutput(images, flags) if return_dict else (images, flags)

    def _run(
        self,
        engine: Engine,
        track: Track,
        callback: Callback | None,
        names: tuple[str, ...],
        images_now: Callable[[], tuple[ImageSource, ...]],
    ) -> Tensor:
        self._num_timesteps, x_BCHW, order = track.steps, track.x_BCHW, track.scheduler.order
        steering = self._steering()
        with self.progress_bar(total=-(-track.steps // order)) as bar:
            for running in engine.steps(track):
                if callback is not None:
                    shown, timestep = shown_tensors(running, names), track.grid.timesteps[running.index - 1]
                    # The callback's dictionary is its own: it may well take things out of it.
                    returned = callback(self, running.done - 1, timestep, dict(shown)) or {}
                    if steering != (steering := self._steering()):
                        steer(engine, running, self._freeu, images_now())
                    guided = self.do_classifier_free_guidance
                    take_over(engine, running, shown, returned, guided, self._guidance_scale)
                x_BCHW = running.x_BCHW
                if running.done % order == 0 or running.finished:
                    bar.update()
                if self._interrupt:
                    break
        return x_BCHW

    def _steering(self) -> tuple[object, ...]:
        """What a callback may change of the steps to come, besides what it returns: it is given the pipeline."""
        return self._merger().now, self._freeu, self._ip_adapters, self._ip_scales


def _finish(engine: Engine, x_BCHW: Tensor, output_type: str) -> tuple[Any, list[bool] | None]:
    if output_type == "latent":
        return x_BCHW, None
    pixels_BCHW, is_finite = engine.decode(x_BCHW)
    if not is_finite:
        warn(
            "the result has numbers that are not finite, which a picture shows black; try torch_dtype=torch.float32, "
            "a smaller guidance_scale, or an eta of at most 1"
        )
    pixels_BCHW, flags = engine.judge(pixels_BCHW)
    return postprocess(pixels_BCHW, output_type, flags), flags
