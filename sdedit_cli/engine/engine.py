"""The edit, once: texts to a conditioning, pictures to a track, a track to latents, latents to pixels and verdicts.

The pipeline class of the library and the editor of the command line are faces of it: they check and translate what
they are asked for.

R rows of a track in the UNet's batch, B pictures, T tokens, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..configs.unet import UNetConfig
from ..errors import UsageError
from ..nn import AutoencoderKL, FreeU, ImageSource, Merging, TinyAutoencoder
from ..noise import Grid, Scheduler
from ..runtime.cpu.neighbours import NEIGHBOURS
from ..runtime.memory import Offload
from .components import VAE, Components
from .conditioning import Conditioning
from .denoise import Loop, Running, Track
from .families import Family
from .families.sd import SD
from .image import postprocess
from .latents import image_latents
from .looks import Look
from .randomness import Generators, normal
from .views import WHOLE, Views


def guides(unet: UNetConfig, scale: float) -> bool:
    """Whether a step runs the negative prompt too: not at scale 1 or less, nor where the scale is embedded."""
    return scale > 1 and unet.time_cond_proj_dim is None


@dataclass(frozen=True)
class Engine:
    """Components at work, and networks of adapters. With `offload`, each is on the device only while it runs.

    `look` is how the autoencoder's distribution of a picture is had; `decoder` makes pictures of latents in place of
    the model's autoencoder.
    """

    components: Components
    family: Family = SD
    offload: Offload | None = None
    adapters: tuple[torch.nn.Module, ...] = ()
    look: Look = AutoencoderKL.encode
    decoder: TinyAutoencoder | None = None

    @property
    def device(self) -> torch.device:
        """Where edits are computed."""
        return self.offload.device if self.offload else self.components.unet.device

    def networks(self) -> list[torch.nn.Module]:
        """Everything that has a device and a precision."""
        decoders = [] if self.decoder is None else [self.decoder]
        return [*self.components.networks(), *self.adapters, *decoders]

    def offloaded(self, device: torch.device) -> Engine:
        """This engine, its networks in main memory until each is brought to `device`."""
        for network in self.networks():
            network.to("cpu")
        return replace(self, offload=Offload(device))

    def bring(self, network: object) -> None:
        """Has a network ready to compute: on the device, where networks are offloaded, and others minded."""
        if self.offload is not None and isinstance(network, torch.nn.Module):
            self.offload.bring(network)
        if self.device.type == "cpu":
            NEIGHBOURS.mind()

    def release(self) -> None:
        """Has no network on the device, where they are offloaded."""
        if self.offload is not None:
            self.offload.release()

    def guides(self, scale: float) -> bool:
        """Whether a step runs the negative prompt too: not at scale 1 or less, nor where the scale is embedded."""
        return guides(self.components.unet.config, scale)

    def embedded_guidance(self, scale: float) -> float | None:
        """The scale where the model reads it among its inputs; None where it does not."""
        return None if self.components.unet.config.time_cond_proj_dim is None else scale

    def condition(
        self,
        text_RTC: Tensor,
        guidance_scale: float,
        freeu: FreeU | None = None,
        images: tuple[ImageSource, ...] = (),
        merging: Merging | None = None,
    ) -> Conditioning:
        """What steps read of these embeddings (the negative ones first, where they are guided), and of image prompts
        with as many rows; `merging` is how they see the picture."""
        self.bring(self.components.unet)
        made = self.family.condition(self.components.unet, text_RTC, guidance_scale, freeu)
        return replace(made, context=replace(made.context, images=images, merging=merging))

    def reconditioned(self, old: Conditioning, text_RTC: Tensor) -> Conditioning:
        """`old` with other embeddings; image prompts keep as many of their rows, the last ones, which are positive.

        Raises UsageError when there are more than the image prompts have.
        """
        self.bring(self.components.unet)
        images, rows = old.context.images, len(text_RTC)
        if any(rows > image.count for image in images):
            raise UsageError("image prompts were encoded without guidance, so it cannot be turned on on the way")
        images = tuple(
            image if image.count == rows else image.rows(range(image.count - rows, image.count)) for image in images
        )
        context = replace(self.components.unet.context(text_RTC), images=images, merging=old.context.merging)
        return replace(old, text_RTC=text_RTC, context=context)

    def noised(
        self,
        image_BCHW: Tensor,
        rows: int | None,
        scheduler: Scheduler,
        grid: Grid,
        start: int,
        generator: Generators,
        dtype: torch.dtype,
    ) -> Tensor:
        """The latents of pictures in -1..1 (or latents) as a track starts from them; `rows` as in `drawn`."""
        return scheduler.add_noise(grid, start, *self.drawn(image_BCHW, rows, generator, dtype))

    def drawn(
        self,
        image_BCHW: Tensor,
        rows: int | None,
        generator: Generators,
        dtype: torch.dtype,
        views: Views = WHOLE,
    ) -> tuple[Tensor, Tensor]:
        """The latents of pictures, repeated to `rows` where given, and the noise for them.

        The posterior is drawn first, then the noise: the reference's order.
        """
        vae = self.components.vae
        self.bring(vae)
        with views.through(vae, *(side // vae.config.scale for side in image_BCHW.shape[-2:])):
            x_BCHW = image_latents(self.family, vae, image_BCHW, rows, generator, dtype, self.look)
        return x_BCHW, normal(x_BCHW.shape, generator, self.device, dtype)

    def steps(self, track: Track) -> Iterator[Running]:
        """Runs a track alone; yields after each step, with the latents as they are then."""
        loop = Loop(self.family, self.components.unet)
        running = loop.join(track)
        while not running.finished:
            self.bring(self.components.unet)
            loop.tick()
            yield running

    def decode(self, x_BCHW: Tensor, views: Views = WHOLE) -> tuple[Tensor, bool]:
        """Pictures in about -1..1, and whether all values are numbers.

        Half precision that overflows is tried again in single.
        """
        vae = self.decoder or self.components.vae
        self.bring(vae)
        with views.through(vae, *x_BCHW.shape[-2:]):
            return self._decoded(vae, x_BCHW)

    def _decoded(self, vae: VAE, x_BCHW: Tensor) -> tuple[Tensor, bool]:
        pixels_BCHW = self.family.decode(vae, x_BCHW)
        finite = bool(torch.isfinite(pixels_BCHW).all())
        if not finite and vae.dtype != torch.float32 and torch.isfinite(x_BCHW).all():
            stored = vae.dtype
            try:
                pixels_BCHW = self.family.decode(vae.to(torch.float32), x_BCHW.float())
            finally:
                vae.to(stored)
            finite = bool(torch.isfinite(pixels_BCHW).all())
        return pixels_BCHW, finite

    def judge(self, pixels_BCHW: Tensor) -> tuple[Tensor, list[bool] | None]:
        """The pictures as the safety checker leaves them (flagged ones all zero) and its flags; None without one."""
        checker = self.components.safety_checker
        if checker is None:
            return pixels_BCHW, None
        from .towers import clip_pixels

        self.bring(checker)
        looks = clip_pixels(self.components.feature_extractor, postprocess(pixels_BCHW, "pil"))
        # By the names that checkers of other libraries, and functions in their place, have for them.
        return checker(images=pixels_BCHW, clip_input=looks.to(pixels_BCHW.device, self.components.unet.dtype))
