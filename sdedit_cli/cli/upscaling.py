"""`--upscaler`: pictures that a model enlarges in the place of Lanczos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..disk.hashes import FileHash
from ..options import Edit, rgb_of
from ..options.files import EDIT as EDIT_ALPHA
from ..pictures.codec import Picture
from ..pictures.matting import on_ground
from ..pictures.record import Ingredient

if TYPE_CHECKING:
    from PIL import Image

    from ..engine.upscaler import Upscaler


class Upscaling:
    """The model that an edit enlarges its pictures with. Raises ModelError for what is none."""

    def __init__(self, edit: Edit) -> None:
        self._model: Upscaler | None = None
        self._last: tuple[Picture, Picture] | None = None
        self.made_of: list[Ingredient] = []
        if edit.upscaler is None:
            return
        from ..engine.upscaler import Upscaler
        from ..runtime.device import pick

        path = Path(edit.upscaler)
        self._model = Upscaler(path, pick(edit.device))
        self.made_of = [Ingredient("upscaler", path.stem, FileHash(path).value())]

    def __call__(self, picture: Picture, edit: Edit) -> Picture:
        """The picture, and its frames, enlarged by the model in its size; once for all its seeds."""
        model = self._model
        if model is None:
            return picture
        if self._last is None or self._last[0] is not picture:
            self._last = (picture, picture.each(lambda one: self._enlarged(model, one, edit)))
        return self._last[1]

    def _enlarged(self, model: Upscaler, picture: Picture, edit: Edit) -> Picture:
        from PIL import Image

        if picture.small is None:
            return picture
        seamless = edit.seamless or ""
        made: Image.Image = model(picture.small, ("x" in seamless, "y" in seamless))
        rgb = made if made.size == picture.rgb.size else made.resize(picture.rgb.size, Image.Resampling.LANCZOS)
        # Under the transparency there is nothing that anybody sees.
        larger = replace(picture, rgb=rgb, colours=picture.colours and rgb, small=None)
        if edit.alpha != EDIT_ALPHA:
            return larger
        return on_ground(larger, rgb_of(edit.background) if edit.background else picture.ground)
