"""IP-Adapters of a pipeline: loading, scales, and pictures as prompts; the reference's methods and their meanings.

N pictures of a call, P pictures of an adapter, E width of what the image encoder says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..adapters.ip_adapter import Examined, IPAdapter, check_encoder, examine
from ..adapters.ip_layers import image_layers
from ..adapters.ip_scales import by_layer
from ..adapters.strengths import one_or_more
from ..configs.clip_vision import image_encoder_config
from ..engine.components import VAE
from ..engine.engine import Engine
from ..engine.image_prompts import ImagePrompt, Masks, image_sources, looked_at
from ..engine.towers import clip_pixels, feature_extractor_of, load_image_encoder
from ..errors import ModelError, UsageError, WrongTypeError
from ..nn import ImageSource, UNet2DCondition
from .image_arguments import check_embeds, masks_of, paired, spread
from .keywords import one_file_options, resolved
from .words import arguments_named

_IDLE = ("low_cpu_mem_usage",)
_DEFAULT_FOLDER = "image_encoder"


class ImagePrompts:
    """What `StableDiffusionImg2ImgPipeline` has of IP-Adapters."""

    unet: UNet2DCondition
    vae: VAE
    image_encoder: Any
    feature_extractor: Any

    @property
    def engine(self) -> Engine:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self._ip_adapters: tuple[IPAdapter, ...] = ()
        self._ip_scales: tuple[Any, ...] = ()
        self._ip_brought: dict[str, Any] = {}
        """The components that came with the adapters."""

    @property
    def ip_networks(self) -> tuple[nn.Module, ...]:
        return tuple(adapter.network for adapter in self._ip_adapters)

    # --- loading ------------------------------------------------------------------------------------------

    @arguments_named()
    def load_ip_adapter(
        self,
        pretrained_model_name_or_path_or_dict: Any,
        subfolder: str | Sequence[str | None] | None = None,
        weight_name: str | Sequence[str | None] | None = None,
        image_encoder_folder: str | None = _DEFAULT_FOLDER,
        **options: Any,
    ) -> None:
        """Loads one IP-Adapter or a list of them, in place of those that were loaded: files, folders, Hub ids (with
        `subfolder` and `weight_name`), or state dicts, each with scale 1.

        A pipeline without an image encoder takes the one of `image_encoder_folder`, which lies in `subfolder` unless
        its name has a '/', or beside the file; None takes none, for `ip_adapter_image_embeds` alone. Options are those
        of `weights.resolve`. Raises ModelError for what does not fit or is of a kind that is not read, UsageError for
        lists of other lengths; nothing is changed then.
        """
        where = one_file_options(options, *_IDLE)
        sources, folders, names = paired(pretrained_model_name_or_path_or_dict, subfolder, weight_name)
        found = [
            resolved(source, name, {**where, "subfolder": folder or None})
            for source, folder, name in zip(sources, folders, names, strict=True)
        ]
        examined = [examine(one, self.unet.config) for one in found]
        brought: dict[str, Any] = {}
        encoder = self.image_encoder
        if encoder is None and image_encoder_folder is not None:
            folder = _encoder_folder(sources[0], folders[0], found[0], image_encoder_folder, where)
            config = image_encoder_config(folder)[0]
            for one in examined:
                check_encoder(one, config.hidden_size, config.projection_dim, str(folder))
            encoder = brought["image_encoder"] = load_image_encoder(folder, self.unet.dtype)
        elif encoder is not None and image_encoder_folder is not None:
            _check_encoder(examined, encoder)
        if self.feature_extractor is None and encoder is not None:
            brought["feature_extractor"] = feature_extractor_of(encoder.config.image_size)
        adapters = tuple(one.read(self.unet.dtype) for one in examined)
        self._take_adapters(adapters, brought)

    def _take_adapters(self, adapters: tuple[IPAdapter, ...], brought: Mapping[str, Any]) -> None:
        engine = self.engine
        place = "cpu" if engine.offload else engine.device
        for network in (*(adapter.network for adapter in adapters), *brought.values()):
            if isinstance(network, nn.Module):
                network.to(place)
        self._ip_adapters, self._ip_scales = adapters, (1.0,) * len(adapters)
        self._ip_brought |= brought
        for name, component in brought.items():
            setattr(self, name, component)

    def unload_ip_adapter(self) -> None:
        """Lets go of all IP-Adapters, and of the image encoder and feature extractor that came with them."""
        for name, component in self._ip_brought.items():
            if getattr(self, name) is component:
                setattr(self, name, None)
        self._ip_adapters, self._ip_scales, self._ip_brought = (), (), {}

    @arguments_named()
    def set_ip_adapter_scale(self, scale: Any) -> None:
        """How strongly each adapter works: a number or numbers by block (blocks that are not named count 0.0), of
        several adapters a list of these; in place of a number a list, one a picture, for calls with masks.

        Raises UsageError for what is no scale, and for another number of them than of adapters.
        """
        scales = tuple(cast("Sequence[Any]", scale)) if isinstance(scale, list) else (scale,)
        layers = image_layers(self.unet.config)
        for one in scales:
            by_layer(one, layers)
        if not self._ip_adapters:
            return
        if len(scales) != len(self._ip_adapters):
            raise UsageError(
                f"{len(scales)} scales for {len(self._ip_adapters)} IP-Adapters; give one for each, a list"
            )
        self._ip_scales = scales

    # --- pictures -----------------------------------------------------------------------------------------

    @arguments_named()
    def encode_image(
        self,
        image: Any,
        device: torch.device | str | None,
        num_images_per_prompt: int,
        output_hidden_states: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the image encoder says of pictures, and what stands for none, each so many times: embeddings (P, E), or
        the last hidden states but one (P, S, E)."""
        if self.image_encoder is None or self.feature_extractor is None:
            raise UsageError(
                "this pipeline has no image encoder; give one to load_ip_adapter (image_encoder_folder), "
                "or `ip_adapter_image_embeds`"
            )
        engine = self.engine
        engine.bring(self.image_encoder)
        if isinstance(image, Tensor):
            pixels_PCHW = image if image.ndim == 4 else image[None]
        else:
            pixels_PCHW = self._prepared(one_or_more(image))
        high, low = looked_at(self.image_encoder, pixels_PCHW, states=bool(output_hidden_states))
        place = engine.device if device is None else torch.device(device)
        return tuple(x.to(place).repeat_interleave(num_images_per_prompt, dim=0) for x in (high, low))  # pyright: ignore[reportReturnType] -- two

    def _prepared(self, images: list[Any]) -> Tensor:
        if not images:
            raise UsageError("`ip_adapter_image` has an empty list; give one or more pictures")
        try:
            return clip_pixels(self.feature_extractor, images)
        except (ValueError, TypeError, IndexError) as problem:
            kinds = ", ".join(sorted({type(one).__name__ for one in images}))
            raise UsageError(f"`ip_adapter_image` has {kinds}, which is no picture ({problem})") from None

    @arguments_named()
    def prepare_ip_adapter_image_embeds(
        self,
        ip_adapter_image: Any,
        ip_adapter_image_embeds: Sequence[Tensor] | None,
        device: torch.device | str | None,
        num_images_per_prompt: int,
        do_classifier_free_guidance: bool,
    ) -> list[Tensor]:
        """What a call takes as `ip_adapter_image_embeds`: a tensor an adapter, (N, P, E) or (N, P, S, E), with guidance
        (2 N, ...), the negative ones first.

        Raises UsageError for another number of pictures or embeddings than of adapters, and for other shapes.
        """
        place = self.engine.device if device is None else torch.device(device)
        if ip_adapter_image_embeds is None:
            pairs = self._looked_at(ip_adapter_image)
        else:
            pairs = self._given(ip_adapter_image_embeds, do_classifier_free_guidance)
        made: list[Tensor] = []
        for high, low in pairs:
            parts = [low, high] if do_classifier_free_guidance else [high]
            made.append(torch.cat([part.repeat_interleave(num_images_per_prompt, dim=0) for part in parts]).to(place))
        return made

    def _looked_at(self, image: Any) -> list[tuple[Tensor, Tensor]]:
        """The embeddings of the pictures of each adapter, of one row."""
        images = list(cast("Sequence[Any]", image)) if isinstance(image, list) else [image]
        if len(images) != len(self._ip_adapters):
            raise UsageError(
                f"`ip_adapter_image` has {len(images)} entries for {len(self._ip_adapters)} IP-Adapters; give a list "
                "with one for each (several pictures of an adapter are a list within it)"
            )
        if self.image_encoder is not None:
            _check_encoder(self._ip_adapters, self.image_encoder)
        pairs = [
            self.encode_image(one, None, 1, adapter.variant.states)
            for one, adapter in zip(images, self._ip_adapters, strict=True)
        ]
        return [(high[None], low[None]) for high, low in pairs]

    def _given(self, embeds: object, guided: bool) -> list[tuple[Tensor, Tensor]]:
        if not isinstance(embeds, (list, tuple)):
            raise WrongTypeError(f"`ip_adapter_image_embeds` is a {type(embeds).__name__}; expected a list of tensors")
        listed = list(cast("Sequence[Any]", embeds))
        if len(listed) != len(self._ip_adapters):
            raise UsageError(
                f"`ip_adapter_image_embeds` has {len(listed)} tensors for {len(self._ip_adapters)} IP-Adapters"
            )
        pairs: list[tuple[Tensor, Tensor]] = []
        for one, adapter in zip(listed, self._ip_adapters, strict=True):
            check_embeds(one, adapter, guided)
            low, high = one.chunk(2) if guided else (one[:0], one)
            pairs.append((high, low))
        return pairs

    def _image_embeds(self, image: Any, embeds: Sequence[Tensor] | None, guided: bool) -> list[Tensor]:
        """Of the image prompts of a call, what `_image_sources` takes."""
        return self.prepare_ip_adapter_image_embeds(image, embeds, None, 1, guided) if self._ip_adapters else []

    def _image_sources(
        self, made: Sequence[Tensor], masks: Any, rows: tuple[int, int], guided: bool, pixels_BCHW: Tensor
    ) -> tuple[ImageSource, ...]:
        """What the UNet reads of the image prompts of a call on these pictures or latents; `rows`: how many it edits,
        and how many of them are of one prompt.

        Raises UsageError where other adapters are loaded than those that the embeddings were made for.
        """
        if not self._ip_adapters:
            return ()
        if len(made) != len(self._ip_adapters):
            raise UsageError("an IP-Adapter was loaded in the middle of a call, which has no picture for it")
        engine, vae = self.engine, self.vae.config
        side = vae.scale if pixels_BCHW.shape[1] == vae.in_channels else 1
        size = (pixels_BCHW.shape[2] // side, pixels_BCHW.shape[3] // side)
        count, prompts = rows[0], rows[0] // rows[1]
        wanted, sources = masks_of(masks, [one.shape[1] for one in made], size), list[ImageSource]()
        layers = image_layers(self.unet.config)
        for adapter, one, scale, mask in zip(self._ip_adapters, made, self._ip_scales, wanted, strict=True):
            parts = [spread(part, prompts, count) for part in (one.chunk(2) if guided else (one,))]
            engine.bring(adapter.network)
            masked = None if mask is None else Masks(mask, size)
            sources += image_sources(
                self.unet, ImagePrompt(adapter.network, torch.cat(parts), by_layer(scale, layers), masked)
            )
        return tuple(sources)

    def _check_images(self, image: Any, embeds: object, masks: object) -> None:
        """Raises UsageError for image prompts without an adapter, the other way round, and for two kinds of them."""
        if image is not None and embeds is not None:
            raise UsageError("give `ip_adapter_image` or `ip_adapter_image_embeds`, not both")
        if not self._ip_adapters and (image is not None or embeds is not None or masks is not None):
            raise UsageError("an image prompt needs an IP-Adapter, and none is loaded")
        if self._ip_adapters and image is None and embeds is None:
            raise UsageError(
                "an IP-Adapter is loaded: give `ip_adapter_image` or `ip_adapter_image_embeds`, or unload_ip_adapter()"
            )


def _encoder_folder(source: Any, subfolder: str | None, found: Any, folder: str, where: Mapping[str, Any]) -> Path:
    """Where the image encoder lies: a folder of its own, one within the source, or one beside the adapter's file."""
    if isinstance(source, Mapping):
        raise UsageError(
            "the pipeline has no image encoder, and a state dict brings none; give the pipeline one, or "
            "image_encoder_folder=None and `ip_adapter_image_embeds`"
        )
    if Path(folder).expanduser().is_dir() and ("/" in folder or os.sep in folder):
        return Path(folder).expanduser()
    inner = folder if "/" in folder else "/".join(filter(None, (subfolder, folder)))
    local = Path(found).parent / folder if Path(source).is_file() else Path(source) / inner
    if Path(source).exists():
        if not local.is_dir():
            raise ModelError(
                f"{local}: there is no image encoder; name its folder as `image_encoder_folder`, or give None, and "
                "`ip_adapter_image_embeds` to the call"
            )
        return local
    from ..weights.hub import resolve

    return resolve(source, **cast("dict[str, Any]", {**where, "subfolder": inner}))


def _check_encoder(adapters: Sequence[Examined | IPAdapter], encoder: Any) -> None:
    for adapter in adapters:
        config: Any = encoder.config
        check_encoder(adapter, config.hidden_size, config.projection_dim, "of the pipeline")
