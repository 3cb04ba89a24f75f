"""The IP-Adapters that an edit names, with its image encoder: checked before anything is loaded, and put to work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..adapters.ip_adapter import Examined, check_encoder, examine
from ..adapters.ip_scales import by_layer
from ..configs.clip_vision import CLIPVisionConfig, image_encoder_config
from ..configs.unet import UNetConfig
from ..errors import ModelError
from ..nn import ImageSource, UNet2DCondition
from ..options import Edit
from ..options.adapters import IMAGE_ENCODER, pictures_of
from .image_prompts import ImagePrompt, image_sources, looked_at
from .towers import PREPROCESSOR, clip_pixels, feature_extractor_of, load_feature_extractor, load_image_encoder

if TYPE_CHECKING:
    from ..weights import Checkpoint


@dataclass(frozen=True)
class Found:
    """The adapters of an edit, which fit its model, and the folder of their image encoder. Nothing of it is loaded."""

    adapters: tuple[Examined, ...]
    encoder: Path
    config: CLIPVisionConfig


def found_for_edit(edit: Edit, checkpoint: Checkpoint, unet: UNetConfig | None = None) -> Found:
    """What the edit names. Raises ModelError for adapters that do not fit the model, for an image encoder that is not
    there, and for one of another width."""
    from ..weights.checkpoint.weight_files import find_weights

    component = checkpoint.components.get("unet")
    config: Any = unet or (component.config if component else None)
    if not isinstance(config, UNetConfig):
        raise ModelError(f"{checkpoint.path}: has no unet, which an IP-Adapter works on; give a complete checkpoint")
    adapters = tuple(examine(Path(file.path), config) for file in edit.ip_adapter)
    folder = encoder_folder(edit, checkpoint)
    vision, _ = image_encoder_config(folder)
    find_weights(folder)
    for adapter in adapters:
        check_encoder(adapter, vision.hidden_size, vision.projection_dim, str(folder))
    return Found(adapters, folder, vision)


def encoder_folder(edit: Edit, checkpoint: Checkpoint) -> Path:
    """The image encoder that is named, else the model's own, else the one beside the first adapter.

    Raises ModelError when there is none of them.
    """
    if edit.ip_encoder is not None:
        return Path(edit.ip_encoder)
    if IMAGE_ENCODER in checkpoint.extras:
        return checkpoint.extras[IMAGE_ENCODER]
    first = edit.ip_adapter[0]
    beside = first.encoder_beside
    if not beside.is_dir():
        raise ModelError(
            f"{first.path}: needs an image encoder, and the model has none, nor is there {beside};",
            "name its folder with --ip-encoder (of adapters for Stable Diffusion 1.5 it is CLIP ViT-H/14)",
        )
    return beside


class LastEncoder:
    """Reads image encoders, and keeps the last one in memory of the CPU: edits with image prompts follow each other in
    a batch. One whose files are others by size and time is read again."""

    def __init__(self) -> None:
        self._last: tuple[object, Any] | None = None

    def __call__(self, folder: Path, dtype: torch.dtype) -> Any:
        """The encoder of a folder, on the CPU. Raises ModelError."""
        try:
            found = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
        except OSError as problem:
            raise ModelError(f"{folder}: cannot be read ({problem.strerror})") from None
        files = [(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns) for name, status in found]
        key = (folder.absolute(), files, dtype)
        if self._last is None or self._last[0] != key:
            self._last = None  # two are not held at a time
            self._last = (key, load_image_encoder(folder, dtype))
        return self._last[1]


def sources_for_edit(
    edit: Edit,
    checkpoint: Checkpoint,
    unet: UNet2DCondition,
    pictures: Sequence[Image.Image],
    tell: Callable[[str], object],
    read: Callable[[Path, torch.dtype], Any] = load_image_encoder,
) -> tuple[ImageSource, ...]:
    """What the UNet reads of the image prompts of an edit, its `pictures` in order: rows without them, and with them.

    Each adapter is named in `tell`; `read` gives the encoder of a folder, which is on the UNet's device
    meanwhile alone. Raises ModelError as `found_for_edit`.
    """
    found = found_for_edit(edit, checkpoint, unet.config)
    encoder = read(found.encoder, unet.dtype).to(unet.device)
    plain = not (found.encoder / PREPROCESSOR).is_file()
    extractor = feature_extractor_of(found.config.image_size) if plain else load_feature_extractor(found.encoder)
    by_name = dict(zip(edit.ip_image, pictures, strict=True))
    sources: list[ImageSource] = []
    for file, adapter, names in zip(
        edit.ip_adapter, found.adapters, pictures_of(edit.ip_adapter, edit.ip_image), strict=True
    ):
        loaded = adapter.read(unet.dtype)
        looks = clip_pixels(extractor, [by_name[name] for name in names])
        high, low = looked_at(encoder, looks, states=adapter.variant.states)
        scales = by_layer(file.scale, adapter.layers)
        prompt = ImagePrompt(loaded.network.to(unet.device), torch.stack([low, high]), scales)
        sources += image_sources(unet, prompt)
        tell(loaded.summary())
    encoder.to("cpu")
    return tuple(sources)
