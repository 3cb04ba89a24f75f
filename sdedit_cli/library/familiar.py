"""What scripts written for the reference read and set beside the call: config, image processor, progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from ..configs.mapping import ConfigMapping
from ..engine.image import ImageInput, postprocess, preprocess
from ..errors import UsageError, WrongTypeError
from .arguments import checked_output_type
from .switches import Switches


@dataclass(frozen=True)
class ImageProcessor:
    """Pictures to tensors and back, as the call does it."""

    vae_scale_factor: int
    vae_latent_channels: int = 4
    image_channels: int = 3

    def preprocess(self, image: ImageInput, height: int | None = None, width: int | None = None) -> Tensor:
        """The batch (B, C, H, W) in -1..1, of this size, each side as it is where none is given, in multiples of the
        scale factor.

        Raises UsageError for what is no picture.
        """
        sides = (width, height)
        return preprocess(image, self.vae_scale_factor, self.vae_latent_channels, self.image_channels, sides)

    def postprocess(
        self, image: Tensor, output_type: str | None = "pil", do_denormalize: Sequence[bool] | None = None
    ) -> Any:
        """Decoded pictures (B, C, H, W) in -1..1 as `output_type` says; rows of `do_denormalize` that are false hold
        values in 0..1 already. Raises UsageError for another output type, WrongTypeError for what is no tensor."""
        kind = checked_output_type(output_type)
        if not isinstance(cast("object", image), Tensor):
            raise WrongTypeError(f"image is a {type(image).__name__}; expected a tensor (B, C, H, W)")
        kept = None if do_denormalize is None else [not turned for turned in do_denormalize]
        return image if kind == "latent" else postprocess(image, kind, kept)


class Familiar(Switches):
    """The names of the reference's pipelines that say what a pipeline is, and show how far it is."""

    components: Any

    def __init__(self) -> None:
        super().__init__()
        self._progress: dict[str, Any] = {"disable": True}
        self.requires_safety_checker = True
        self.name_or_path: str | None = None
        """What the pipeline was loaded from."""
        # Callbacks written for the reference set these two to change the guidance in mid-run, or to end it.
        self._guidance_scale = 7.5
        self._interrupt = False
        self._num_timesteps = 0
        self._clip_skip: int | None = None
        self._cross_attention_kwargs: dict[str, Any] | None = None

    @property
    def config(self) -> ConfigMapping:
        """The classes of the components, as (package, name), and what the loader was told."""
        classes = {
            name: (None, None) if value is None else (type(value).__module__.partition(".")[0], type(value).__name__)
            for name, value in self.components.items()
        }
        facts = {"_class_name": type(self).__name__, "_name_or_path": self.name_or_path, **classes}
        return ConfigMapping({**facts, "requires_safety_checker": self.requires_safety_checker})

    @property
    def guidance_scale(self) -> float:
        """How closely the last call follows the prompt, as callbacks read it."""
        return self._guidance_scale

    @property
    def interrupt(self) -> bool:
        """Set it from a callback to end the run after the step; the pictures are decoded as they are then."""
        return self._interrupt

    @interrupt.setter
    def interrupt(self, value: bool) -> None:
        self._interrupt = value

    @property
    def num_timesteps(self) -> int:
        """Model calls of the last run, interrupted or not."""
        return self._num_timesteps

    @property
    def clip_skip(self) -> int | None:
        """What the last call was given, as callbacks read it."""
        return self._clip_skip

    @property
    def cross_attention_kwargs(self) -> dict[str, Any] | None:
        """What the last call was given, as callbacks read it."""
        return self._cross_attention_kwargs

    @property
    def vae_scale_factor(self) -> int:
        """Pixels on a side that one latent stands for."""
        return self.vae.config.scale

    @property
    def image_processor(self) -> ImageProcessor:
        vae = self.vae.config
        return ImageProcessor(vae.scale, vae.latent_channels, vae.in_channels)

    def set_progress_bar_config(self, **options: Any) -> None:
        """Shows a bar in the calls that follow, with these options of tqdm; `disable=True` shows none, as at first."""
        self._progress = options

    def progress_bar(self, iterable: Iterable[Any] | None = None, total: int | None = None) -> Any:
        """A tqdm over `iterable`, or to be updated `total` times, as `set_progress_bar_config` has it.

        Raises UsageError where neither is given.
        """
        from tqdm.auto import tqdm

        if iterable is None and total is None:
            raise UsageError("give `iterable` or `total`")
        return tqdm(iterable, total=total, **self._progress)
