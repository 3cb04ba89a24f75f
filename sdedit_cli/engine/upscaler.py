"""Models that enlarge pictures: any that `spandrel` (an extra) knows by its tensors, read by our own reader of weights.

A large picture is taken in parts that see some of what is around them, so that the memory is bounded.

B pictures, C channels, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..runtime.cpu.neighbours import NEIGHBOURS
from .image import to_pil

if TYPE_CHECKING:
    from PIL import Image

EXTRA = "pip install 'sdedit-cli[upscale]'"
# The side of a part, and how much of what is around it is seen: more than the usual nets look at.
_PART, _AROUND = 256, 32


class Upscaler:
    """The model in a file, on a device. Raises ModelError for what is no such model."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self._model: Any = _loaded(path)
        self._model.to(device).eval()
        self._path, self._device = path, device

    @property
    def scale(self) -> int:
        """How many times as large a picture becomes."""
        return int(self._model.scale)

    @torch.no_grad()
    def __call__(self, image: Image.Image, wrap: tuple[bool, bool] = (False, False)) -> Image.Image:
        """An RGB picture `scale` times as large; `wrap`: its left and right, its upper and lower edges meet."""
        import numpy as np

        x_BCHW = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)[None].float() / 255
        x, y = (_AROUND if wraps else 0 for wraps in wrap)
        # More than a picture has is not wrapped: it is repeated until that is there.
        wide_BCHW = _wrapped(_wrapped(x_BCHW, x, 3), y, 2)
        height, width = x_BCHW.shape[2:]
        rows = [
            torch.cat(
                [self._part(wide_BCHW, top + y, left + x, height + y, width + x) for left in range(0, width, _PART)], 3
            )
            for top in range(0, height, _PART)
        ]
        made_BCHW = torch.cat(rows, 2)
        if not bool(torch.isfinite(made_BCHW).all()):
            raise ModelError(
                f"{self._path}: makes numbers that are not finite of this picture; take another --upscaler"
            )
        return to_pil(made_BCHW.clamp(0, 1).permute(0, 2, 3, 1).numpy())[0]

    def _part(self, wide_BCHW: Tensor, top: int, left: int, bottom: int, right: int) -> Tensor:
        """The part of at most so many pixels from (top, left) on, enlarged with what is around it in sight."""
        lower, far = min(top + _PART, bottom), min(left + _PART, right)
        above, before = max(0, top - _AROUND), max(0, left - _AROUND)
        seen_BCHW = wide_BCHW[:, :, above : lower + _AROUND, before : far + _AROUND]
        NEIGHBOURS.mind()
        made_BCHW: Tensor = self._model(seen_BCHW.to(self._device)).float().cpu()
        scale = self.scale
        rows = slice((top - above) * scale, (lower - above) * scale)
        return made_BCHW[:, :, rows, (left - before) * scale : (far - before) * scale]


def _wrapped(x_BCHW: Tensor, by: int, axis: int) -> Tensor:
    """The picture with so many pixels of its other edge before and behind it."""
    if not by:
        return x_BCHW
    length = x_BCHW.shape[axis]
    return x_BCHW.index_select(axis, torch.arange(-by, length + by) % length)


def _loaded(path: Path) -> Any:
    from ..weights.formats.open import open_weights

    source = open_weights(path)
    registry, kind = _spandrel(path)
    tensors = {name: source.get(name).float() for name in source.names()}
    try:
        model: Any = registry.load(tensors)
    except Exception as problem:  # it says by many classes that it knows no such model, or that tensors do not fit
        words = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise ModelError(f"{path}: is no model that spandrel {kind} can enlarge pictures with ({words})") from None
    if getattr(model, "purpose", "") != "SR" or (model.input_channels, model.output_channels) != (3, 3):
        raise ModelError(
            f"{path}: is a {model.architecture.name} that does not enlarge pictures in color; expected a model such as "
            "ESRGAN, or leave --upscaler out"
        )
    return model


def _spandrel(path: Path) -> tuple[Any, str]:
    try:
        import spandrel  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ModelError(f"{path}: --upscaler needs spandrel; {EXTRA}, or leave it out for Lanczos") from None
    except (RuntimeError, OSError) as problem:  # so says a torchvision that was built for another torch
        raise ModelError(
            f"{path}: --upscaler needs spandrel, which cannot be imported ({problem}); install the torchvision that "
            "goes with this torch"
        ) from None
    known: Any = spandrel
    return known.MAIN_REGISTRY, str(known.__version__)
