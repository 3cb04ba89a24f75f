"""`--backend jax`: an editor that stands in for `engine.editor.Editor`, on the networks of `jaxport`.

Prompts, noise, samplers and sizes are those of the torch engine, the noise from the same generators of the CPU, so that
both give the same picture. What it does not do is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ..errors import Interrupted, ModelError, SdeditError, UsageError
from ..options import Edit, fields

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..engine.canvas import Canvas
    from ..engine.company import Result, Wish
    from ..engine.events import OnEvent
    from ..engine.prompts import PromptEncoder
    from ..jaxport.stepping import Draws, Model
    from ..noise import Grid, Scheduler
    from ..text import Tokenizer
    from ..weights import Checkpoint

# What is done here, beside all that concerns files alone. A new option is refused until it is listed.
_DONE = {
    *("prompt", "negative_prompt", "weighting", "long_prompts", "strength", "cfg_scale", "seed", "count", "background"),
    *("size", "resize", "max_side", "max_megapixels", "color"),
    *("steps", "exact_steps", "sampler", "schedule", "eta", "timesteps", "sigmas"),
    *("model", "vae", "config", "prediction_type", "variant", "download", "clip_skip", "safety"),
    *("dtype", "device", "mmap"),
    *("backend", "cache"),
}
_FILES = "Files"
_DEVICES = ("auto", "cpu")
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def check_machine(edit: Edit) -> None:
    """Raises UsageError where JAX is not installed, or a device is asked for that it does not take."""
    from importlib.util import find_spec

    if find_spec("jax") is None:
        raise UsageError("--backend jax: JAX is not installed; pip install 'sdedit-cli[jax]'")
    if edit.device not in _DEVICES:
        raise UsageError(f"--device {edit.device} is not for --backend jax, which takes its own; leave it out")


def check_supported(edit: Edit) -> None:
    """Raises UsageError, naming the option, for what JAX does not do here."""
    for field in fields():
        done = field.name in _DONE or field.option.group == _FILES
        if not done and getattr(edit, field.name) != field.default:
            raise UsageError(f"{field.flag} is not done by --backend jax; leave it out, or use --backend torch")
    if len(edit.rounds()) > 1:
        raise UsageError(f"--strength {edit.strength}: --backend jax does one round; give one strength")
    from ..engine.prompts import changes_on_the_way

    if changes_on_the_way(edit):
        raise UsageError(
            "prompts that change on the way ([a:b:0.5], [a|b]) are not done by --backend jax; use --backend torch, or "
            "--no-weighting"
        )


@dataclass(frozen=True)
class _Texts:
    """What `PromptEncoder` asks of a family and of the components: token ids become embeddings in JAX."""

    model: Model
    tokenizer: Tokenizer
    layers: int

    def encode_ids(self, components: object, rows: Sequence[Sequence[int]], clip_skip: int | None) -> Tensor:
        import numpy as np
        import torch

        if clip_skip is not None and not 0 <= clip_skip <= self.layers:
            raise UsageError(f"clip_skip is {clip_skip}; this text encoder has {self.layers} layers to skip")
        return torch.from_numpy(self.model.text(np.array(rows, dtype=np.int32), clip_skip))


@dataclass(frozen=True, eq=False)
class JaxEditor:
    """A loaded model. `checker` has flags for pictures, or is None."""

    model: Model
    scheduler: Scheduler
    tokenizer: Tokenizer
    native_size: int | None
    dtype: str
    checker: Callable[[Sequence[Image.Image]], list[bool]] | None
    tell: OnEvent

    @classmethod
    def open(
        cls, edit: Edit, tell: OnEvent, *, checkpoint: Checkpoint, pictures: Sequence[Image.Image] = ()
    ) -> JaxEditor:
        """Loads the model of `edit`. Raises ModelError for what cannot be loaded, UsageError without JAX."""
        check_machine(edit)
        import jax
        import jax.numpy as jnp

        from ..engine.loading import scheduler_of
        from ..jaxport.compiling import keep_pages, keep_programs
        from ..jaxport.loading import load
        from ..jaxport.program import Configs
        from ..jaxport.stepping import Model
        from ..weights.formats.mapped_file import reading

        keep_programs()
        keep_pages()
        if edit.device != "auto":
            jax.config.update("jax_platforms", edit.device)
        platform = str(jax.default_backend())
        dtype = _DTYPES.get(edit.dtype, "float32" if platform == "cpu" else "bfloat16")
        tell("load", {"model": str(checkpoint.path), "device": f"jax {platform}", "dtype": dtype})
        scheduler = scheduler_of(checkpoint, edit.sampler).modernised()
        skip = ["scheduler"] + (["safety_checker", "feature_extractor"] if edit.safety == "off" else [])
        with reading(whole=not edit.mmap):
            loaded = load(checkpoint, jnp.dtype(dtype), [*skip, "vae"] if edit.vae else skip)
            found, params = dict(loaded.components), dict(loaded.params)
            if edit.vae:
                found["vae"], params["vae"] = _other_vae(edit.vae, jnp.dtype(dtype))
        if found.get("tokenizer") is None:
            raise ModelError("this model has no tokenizer, so it cannot read a prompt; use a complete one")
        configs = Configs(*(found[name].config for name in ("unet", "vae", "text_encoder")))
        checker = _checker(found, params) if found.get("safety_checker") and found.get("feature_extractor") else None
        return cls(Model(configs, params), scheduler, found["tokenizer"], loaded.native_size, dtype, checker, tell)

    def adapt(self, edit: Edit, pictures: Sequence[Image.Image] = ()) -> None:
        """There is nothing to exchange: each edit says by itself what it asks for."""

    def prompts_of(self, edit: Edit) -> None:
        """No encoded prompts."""

    def scheduler_for(self, edit: Edit) -> Scheduler:
        """The sampler of `edit` on this model. Raises UsageError when none of its steps would run."""
        from ..engine.sampling import chosen_scheduler, grid_of

        scheduler = chosen_scheduler(self.scheduler, edit)
        grid_of(scheduler, edit)
        return scheduler

    def edits(self, wishes: Iterable[Wish], size: int | None = None) -> Iterator[tuple[Wish, Result | SdeditError]]:
        """Every wish with its result, or with what speaks against it, one after the other whatever the `size`: on a
        shape of its own each, so that no picture depends on another. Raises Interrupted when `on_step` asks to end."""
        for wish in wishes:
            yield wish, self._edited(wish)

    def _edited(self, wish: Wish) -> Result | SdeditError:
        import numpy as np
        import torch

        from ..engine.canvas import canvas_for, native_for
        from ..engine.company import finished
        from ..engine.image import postprocess
        from ..engine.sampling import grid_of
        from ..jaxport.plan import plan_of

        edit, config = wish.edit, self.model.configs.vae
        canvas = canvas_for(wish.image.size, config.scale, native_for(edit, wish.image.size, self.native_size))
        try:
            check_supported(edit)
            scheduler = self.scheduler_for(edit)
            grid, start = grid_of(scheduler, edit)
            plan = plan_of(scheduler, grid, start, edit.eta)
            guided = edit.cfg_scale > 1 and self.model.configs.unet.time_cond_proj_dim is None
            text_RTC = self._text(edit, guided)
        except SdeditError as error:
            return error
        pixels_BCHW = wish.pixels(canvas, config)
        draws = self._draws(edit, scheduler, grid, start, (pixels_BCHW.shape[2], pixels_BCHW.shape[3]))
        x: Any = None
        walk = self.model.walk(plan, pixels_BCHW.numpy(), draws, text_RTC, edit.cfg_scale, guided)
        for done, x in enumerate(walk, 1):
            self._tell_step(wish, canvas, done, int(plan.steps), scheduler.order, x)
        decoded = self.model.decode(x)
        finite, made_BCHW = bool(np.isfinite(decoded).all()), torch.from_numpy(np.nan_to_num(decoded))
        flags = self.checker(postprocess(made_BCHW, "pil")) if self.checker and finite else None
        return finished(wish, canvas, made_BCHW, finite, flags[0] if flags else None)

    def _text(self, edit: Edit, guided: bool) -> Any:
        from ..engine.prompts import PromptEncoder

        texts = _Texts(self.model, self.tokenizer, self.model.configs.text_encoder.num_hidden_layers)
        encoder: PromptEncoder = PromptEncoder(cast(Any, texts), cast(Any, texts), self.tokenizer)
        text = encoder.encode(edit, guided)
        for cut in text.truncated:
            self.tell("truncated", {"text": cut, "limit": self.tokenizer.model_max_length})
        return text.embeds_BTC.numpy()

    def _draws(self, edit: Edit, scheduler: Scheduler, grid: Grid, start: int, size: tuple[int, int]) -> Draws:
        """The normal numbers that the torch engine would draw, in its order."""
        import numpy as np
        import torch

        from ..jaxport.stepping import Draws

        assert edit.seed is not None
        config, kind = self.model.configs.vae, getattr(torch, self.dtype)
        shape = (1, config.latent_channels, size[0] // config.scale, size[1] // config.scale)
        generator = torch.Generator("cpu").manual_seed(edit.seed)

        def draw(dtype: torch.dtype) -> Any:
            return torch.randn(shape, generator=generator, dtype=dtype).float().numpy()

        latents, noise = draw(kind), draw(kind)
        wanted = [scheduler.draws_noise(grid, i, edit.eta) for i in range(start, len(grid.timesteps))]
        later = scheduler.noise_dtype(kind)
        return Draws(latents, noise, [draw(later) if one else np.zeros(shape, np.float32) for one in wanted])

    def _tell_step(self, wish: Wish, canvas: Canvas, done: int, steps: int, order: int, x: Any) -> None:
        # Second-order solvers spend two grid entries on a step; people count steps.
        if wish.on_step is None or (done % order and done < steps):
            return

        import numpy as np
        import torch

        from ..engine.image import postprocess

        def shown(pixels_BCHW: Any) -> Image.Image:
            return canvas.restore(postprocess(torch.from_numpy(np.nan_to_num(pixels_BCHW)), "pil")[0])

        def preview() -> list[Image.Image]:
            pixels_BCHW = self.model.decode(x)
            return [shown(pixels_BCHW)] if np.isfinite(pixels_BCHW).all() else []

        from ..engine.company import Preview

        if wish.on_step(
            -(-done // order), -(-steps // order), Preview(preview, lambda: lambda: shown(self.model.decode(x)))
        ):
            raise Interrupted("interrupted; pictures finished before are kept")


def _other_vae(path: str, dtype: Any) -> tuple[Any, Any]:
    from ..jaxport.loading import network_of
    from ..weights import open_checkpoint

    checkpoint = open_checkpoint(path, skip=("unet", "text_encoder", "tokenizer", "scheduler"))
    if "vae" not in checkpoint.components:
        raise ModelError(f"{path}: holds no autoencoder; name a VAE file, its folder, or a model that has one")
    return network_of(checkpoint, "vae", dtype)


def _checker(found: dict[str, Any], params: dict[str, Any]) -> Callable[[Sequence[Image.Image]], list[bool]]:
    def flags(pictures: Sequence[Image.Image]) -> list[bool]:
        looks = found["feature_extractor"](list(pictures), return_tensors="np").pixel_values
        return found["safety_checker"].flags(params["safety_checker"], looks)

    return flags
