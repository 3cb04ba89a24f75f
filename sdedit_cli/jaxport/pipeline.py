"""FlaxStableDiffusionImg2ImgPipeline: the call that the reference library had for TPUs, until it was removed there.

D devices, B pictures (of each device), T tokens, H W picture, Z channels of the latents.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from ..configs.clip import CLIPTextConfig
from ..configs.unet import UNetConfig
from ..configs.vae import VAEConfig
from ..errors import UsageError, did_you_mean
from ..noise import Scheduler
from ..text import Tokenizer
from .arguments import (
    NETWORKS,
    check_given,
    check_image,
    check_scheduler,
    check_sizes,
    check_steps,
    guidance_of,
    prepared,
    token_rows,
)
from .compiling import keep_pages, keep_programs
from .devices import is_stacked, parallel, single, unstacked
from .loading import load
from .networks import Network, SafetyChecker
from .output import FlaxStableDiffusionPipelineOutput
from .plan import grid_for, plan_of
from .program import Configs, Params

COMPONENTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "safety_checker", "feature_extractor")
_REPLACEABLE = ("tokenizer", "scheduler", "safety_checker", "feature_extractor")
# Of the original: both kinds of weights are read here, and attention takes bounded memory by itself.
_IDLE = ("from_pt", "use_memory_efficient_attention", "split_head_dim")


class FlaxStableDiffusionImg2ImgPipeline:
    """Edits pictures with one checkpoint on JAX; the weights are a value of their own, `params`.

    Arguments and defaults are those of the original. `dtype` is what the loaders bring weights to.
    """

    def __init__(
        self,
        vae: Network[VAEConfig],
        text_encoder: Network[CLIPTextConfig],
        tokenizer: Tokenizer,
        unet: Network[UNetConfig],
        scheduler: Scheduler,
        safety_checker: SafetyChecker | None = None,
        feature_extractor: Any = None,
        dtype: Any = jnp.float32,
    ) -> None:
        if safety_checker is not None and feature_extractor is None:
            raise UsageError("a safety_checker needs a feature_extractor; give both, or safety_checker=None")
        self.vae = vae
        self.text_encoder = text_encoder
        self.tokenizer = tokenizer
        self.unet = unet
        check_scheduler(scheduler)
        self.scheduler = scheduler.modernised()
        self.safety_checker = safety_checker
        self.feature_extractor = feature_extractor
        self.dtype = jnp.dtype(dtype)
        self.native_size: int | None = None
        keep_programs()
        keep_pages()

    @property
    def vae_scale_factor(self) -> int:
        """Pixels along the side of one latent."""
        return self.vae.config.scale

    @property
    def components(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in COMPONENTS}

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], dtype: Any = jnp.float32, **options: Any
    ) -> tuple[FlaxStableDiffusionImg2ImgPipeline, dict[str, dict[str, Array]]]:
        """The pipeline of a folder or Hub id, and its params in `dtype`.

        Options are those of `weights.resolve`, and components to take in place of the checkpoint's: tokenizer,
        scheduler, safety_checker, feature_extractor. Raises ModelError for what cannot be loaded, UsageError for an
        unknown option.
        """
        from ..weights.hub import resolve

        given, rest = _split(options, _REPLACEABLE)
        _, where = _split(rest, _IDLE)
        _check_known(where)
        return cls._of(Path(resolve(pretrained_model_name_or_path, **where)), dtype, given, {})

    @classmethod
    def from_single_file(
        cls, pretrained_model_link_or_path: str | os.PathLike[str], dtype: Any = jnp.float32, **options: Any
    ) -> tuple[FlaxStableDiffusionImg2ImgPipeline, dict[str, dict[str, Array]]]:
        """The same for a checkpoint that is one file: a path, also without its ending, or a Hub URL. Options as above,
        and `config`, `prediction_type` and `ema` as the torch pipeline has them."""
        from ..weights.checkpoint.open import find_single_file
        from ..weights.hub import resolve

        given, rest = _split(options, _REPLACEABLE)
        reading, rest = _split(rest, ("config", "prediction_type", "ema"))
        _, where = _split(rest, _IDLE)
        _check_known(where)
        source = str(pretrained_model_link_or_path)
        return cls._of(resolve(source, **where) if "://" in source else find_single_file(source), dtype, given, reading)

    @classmethod
    def _of(
        cls, path: Path, dtype: Any, given: Mapping[str, Any], reading: Mapping[str, Any]
    ) -> tuple[FlaxStableDiffusionImg2ImgPipeline, dict[str, dict[str, Array]]]:
        from ..weights.checkpoint.open import open_checkpoint

        loaded = load(open_checkpoint(path, skip=tuple(given), **reading), jnp.dtype(dtype), skip=tuple(given))
        pipeline = cls(**{**loaded.components, **given}, dtype=dtype)
        pipeline.native_size = loaded.native_size
        return pipeline, loaded.params

    def save_pretrained(self, save_directory: str | os.PathLike[str], params: Params) -> None:
        """Writes the pipeline and its params as a folder with weights in Flax's format.

        Raises OutputError when something cannot be written.
        """
        from .saving import save

        params = unstacked(params) if is_stacked(params) else params
        save(Path(save_directory), self.components, params, self.native_size)

    def prepare_inputs(self, prompt: str | list[str], image: Image.Image | list[Image.Image]) -> tuple[Any, Array]:
        """Token ids [B, T] of prompts and pictures [B, 3, H, W] in -1..1, brought down to sides of multiples of 32.

        Raises UsageError for another type, and for pictures that have no one size.
        """
        return token_rows(self.tokenizer, prompt), prepared(image)

    def __call__(
        self,
        prompt_ids: Any,
        image: Any,
        params: Params,
        prng_seed: Any,
        strength: float = 0.8,
        num_inference_steps: int = 50,
        height: int | None = None,
        width: int | None = None,
        guidance_scale: Any = 7.5,
        noise: Any = None,
        neg_prompt_ids: Any = None,
        return_dict: bool = True,
        jit: bool = False,
    ) -> FlaxStableDiffusionPipelineOutput | tuple[Any, list[bool] | bool]:
        """Edited pictures, [B, H, W, 3] in 0..1; [D, B, H, W, 3] with `jit`.

        Args:
            prompt_ids: [B, T], as `prepare_inputs` gives them.
            image: [B, 3, H, W] in -1..1, likewise.
            params: What the loaders give beside the pipeline; replicated, or not.
            prng_seed: A key of `jax.random`.
            strength: How far to go from the picture: that share of the steps is run.
            num_inference_steps: Steps of the whole schedule.
            height, width: Those of `image`, where given.
            guidance_scale: A number, or an array with one or one a picture. 1 turns guidance off.
            noise: [B, Z, h, w] in place of what `prng_seed` would draw.
            neg_prompt_ids: [B, T] of what the pictures shall not show; the empty prompt otherwise.
            return_dict: False gives a tuple.
            jit: Work on all devices at once: the inputs have a leading axis of devices, as `shard` makes it, and
                `prng_seed` has a key for each.

        Raises:
            UsageError: A number or a shape cannot be meant.
        """
        check_given(prompt_ids, params, prng_seed)
        ids, image = jnp.asarray(prompt_ids), jnp.asarray(image, jnp.float32)
        rows = check_image(ids, image, sharded=jit)
        check_sizes(image, height, width, self.vae_scale_factor)
        configs = Configs(self.unet.config, self.vae.config, self.text_encoder.config)
        guided, guidance = guidance_of(guidance_scale, rows, configs.guides)
        negative = self._negative(ids) if neg_prompt_ids is None else jnp.asarray(neg_prompt_ids)
        if negative.shape != ids.shape:
            raise UsageError(f"neg_prompt_ids has the shape {list(negative.shape)}, expected {list(ids.shape)}")
        draw = None if noise is None else self._checked(jnp.asarray(noise, jnp.float32), image)
        check_steps(num_inference_steps)
        plan = plan_of(self.scheduler, *grid_for(self.scheduler, num_inference_steps, strength))
        networks = {name: params[name] for name in NETWORKS}
        if jit:
            run = parallel(configs, guided, len(ids), is_stacked(params))
        else:
            run = single(configs, guided)
            networks = unstacked(networks) if is_stacked(params) else networks
        made: np.ndarray[Any, Any] = np.asarray(run(networks, (ids, negative, image, prng_seed, draw, guidance), plan))
        images, flags = self._judged(made, params)
        return FlaxStableDiffusionPipelineOutput(images, flags) if return_dict else (images, flags)

    def _negative(self, ids: Array) -> Array:
        empty = jnp.asarray(self.tokenizer.encode("").ids)
        return jnp.broadcast_to(empty[: ids.shape[-1]], ids.shape)

    def _checked(self, noise: Array, image: Array) -> Array:
        scale = self.vae_scale_factor
        height, width = (side // scale for side in image.shape[-2:])
        expected = (*image.shape[:-3], self.vae.config.latent_channels, height, width)
        if noise.shape != expected:
            raise UsageError(f"Unexpected latents shape: noise has {list(noise.shape)}, expected {list(expected)}")
        return noise

    def _judged(self, images: np.ndarray[Any, Any], params: Params) -> tuple[np.ndarray[Any, Any], list[bool] | bool]:
        """The pictures, flagged ones black, and the flags; False without a checker."""
        if self.safety_checker is None:
            return images, False
        arrays = params["safety_checker"]
        arrays = unstacked(arrays) if arrays["concept_embeds"].ndim == 3 else arrays
        flat = images.reshape(-1, *images.shape[-3:])
        looks = self.feature_extractor(self.numpy_to_pil(flat), return_tensors="np").pixel_values
        flags = self.safety_checker.flags(arrays, looks)
        kept: Any = np.where(np.array(flags)[:, None, None, None], np.float32(0), flat)
        return kept.reshape(images.shape), flags

    @staticmethod
    def numpy_to_pil(images: np.ndarray[Any, Any]) -> list[Image.Image]:
        """A picture a row of an array in 0..1, [B, H, W, C] or [H, W, C]."""
        rows = np.asarray(images)
        rows = np.round((rows[None] if rows.ndim == 3 else rows) * 255).astype(np.uint8)
        return [Image.fromarray(row[:, :, 0] if row.shape[-1] == 1 else row) for row in rows]

    def load_lora_weights(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError("the JAX pipeline takes no LoRA; 'sdedit lora merge' makes a checkpoint with it, to load here")

    def load_ip_adapter(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError("the JAX pipeline takes no IP-Adapter; use StableDiffusionImg2ImgPipeline")


def _split(options: Mapping[str, Any], names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of these names, and the others."""
    return (
        {name: value for name, value in options.items() if name in names},
        {name: value for name, value in options.items() if name not in names},
    )


def _check_known(options: Mapping[str, Any]) -> None:
    from inspect import signature

    from ..weights.hub import resolve

    known = tuple(signature(resolve).parameters)[1:]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, (*known, *_REPLACEABLE))
            raise UsageError(f"no option `{name}`{hint}; expected some of {', '.join((*_REPLACEABLE, *known))}")
