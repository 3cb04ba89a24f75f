"""Edits in each other's company: each is a track that joins the loop when there is room and leaves when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..configs.vae import TinyVAEConfig, VAEConfig
from ..errors import Interrupted, SdeditError
from ..options import Edit
from .canvas import numbers_of
from .denoise import Loop, Running, Saw, Track
from .engine import Engine
from .image import postprocess, preprocess, to_pil
from .sketch import Sketcher


@dataclass(frozen=True, eq=False)
class Preview:
    """The picture as it is after a step: called, the autoencoder's, and none where that is not finite; sketched, what
    the model sees in it by now, in its size, without the autoencoder.

    `glimpse` waits until the step is done, as devices run behind, and gives what makes the sketch.
    """

    whole: Callable[[], list[Image.Image]]
    glimpse: Callable[[], Callable[[], Image.Image]]

    def __call__(self) -> list[Image.Image]:
        return self.whole()

    def sketch(self) -> Image.Image:
        return self.glimpse()()


Numbers = np.ndarray[Any, Any]
# Called after each step with (steps done, steps to do, preview); True ends the edit with Interrupted.
OnStep = Callable[[int, int, Preview], "bool | None"]


@dataclass(frozen=True)
class Result:
    """An edited picture of the input's size; `finite`: all values were numbers; `nsfw`: None without a checker.

    `deep`: the model's own numbers (H, W, 3) in 0..1, where the edit asks for more than 8 bits.
    """

    image: Image.Image
    finite: bool
    nsfw: bool | None = None
    deep: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, eq=False)
class Wish:
    """A picture, and the edit that is wanted of it, its seed drawn.

    `mask` says where (see `masks`); what it keeps shows the picture, or `under` where that is given. `fine` and
    `fine_under` are their numbers (H, W, 3) in 0..1 where they have more than 8 bits.
    """

    edit: Edit
    image: Image.Image
    on_step: OnStep | None = None
    mask: Image.Image | None = None
    under: Image.Image | None = None
    fine: Numbers | None = None
    fine_under: Numbers | None = None

    @property
    def kept(self) -> Image.Image:
        """What the result shows where it is not edited."""
        return self.under or self.image

    @property
    def kept_numbers(self) -> Numbers:
        """As `kept`, as numbers (H, W, 3) in 0..1."""
        fine = self.fine if self.under is None else self.fine_under
        return numbers_of(self.kept) if fine is None else fine

    @property
    def numbers(self) -> Numbers:
        """The picture as numbers (H, W, 3) in 0..1."""
        return numbers_of(self.image) if self.fine is None else self.fine

    def pixels(self, area: WorkArea, config: VAEConfig | TinyVAEConfig) -> Tensor:
        """What is worked on of the picture (1, 3, H, W), in -1..1."""
        seen = area.fit(self.image) if self.fine is None else area.fit_numbers(self.fine)
        return preprocess(seen, config.scale, config.latent_channels)


class WorkArea(Protocol):
    """Between a picture and what is worked on of it: a `Canvas`, or a masked one."""

    @property
    def padded(self) -> tuple[int, int]: ...
    def fit(self, image: Image.Image) -> Image.Image: ...
    def fit_numbers(self, x_HWC: Numbers) -> Numbers: ...
    def restore(self, image: Image.Image) -> Image.Image: ...
    def restore_numbers(self, x_HWC: Numbers) -> Numbers: ...
    def part(self, x_HWC: Numbers) -> Numbers: ...
    def laid(self, image: Image.Image) -> Image.Image: ...
    def laid_numbers(self, x_HWC: Numbers) -> Numbers: ...


@dataclass(frozen=True, eq=False)
class Guest:
    """A wish on its way: the size that it is worked on, and its track."""

    wish: Wish
    canvas: WorkArea
    running: Running


class Company:
    """The edits under way on one model. `rows`: how many rows every call of the UNet has; None: one edit at a time."""

    def __init__(self, engine: Engine, rows: int | None, sketcher: Sketcher) -> None:
        self._sketcher = sketcher
        self.guests: list[Guest] = []
        self._engine = engine
        self._rows = rows
        self._loop = Loop(engine.family, engine.components.unet, rows)

    def has_room(self, rows: int, canvas: WorkArea) -> bool:
        """Whether a track of so many rows may join: all of a loop are worked on at one size."""
        if not self.guests:
            return True
        taken = sum(guest.running.track.rows for guest in self.guests)
        return self._rows is not None and taken + rows <= self._rows and canvas.padded == self.guests[0].canvas.padded

    def join(self, wish: Wish, canvas: WorkArea, track: Track) -> None:
        """Has the track of a wish take part from the next tick on."""
        self.guests.append(Guest(wish, canvas, self._loop.join(track)))

    def tick(self) -> Iterator[tuple[Wish, Result | SdeditError]]:
        """One step of every edit; those that have made their last one, with their results. Raises Interrupted."""
        self._engine.bring(self._engine.components.unet)
        self._loop.tick()
        for guest in self.guests:
            self._tell(guest)
        ended = [guest for guest in self.guests if guest.running.finished]
        self.guests = [guest for guest in self.guests if not guest.running.finished]
        for guest in ended:
            yield guest.wish, self._result(guest)

    def _tell(self, guest: Guest) -> None:
        counted = guest.running.counted
        if guest.wish.on_step is None or counted is None:
            return

        def preview(x_BCHW: Tensor = guest.running.x_BCHW) -> list[Image.Image]:
            pixels_BCHW, finite = self._decoded(guest, x_BCHW)
            images: list[Image.Image] = postprocess(pixels_BCHW, "pil") if finite else []
            return [guest.canvas.laid(guest.canvas.restore(image)) for image in images]

        def glimpse(saw: Saw | None = guest.running.saw) -> Callable[[], Image.Image]:
            assert saw is not None
            draw = self._sketcher.glimpse(saw.predicted())

            def drawn() -> Image.Image:
                image = draw().resize(guest.canvas.padded, Image.Resampling.BILINEAR)
                return guest.canvas.laid(guest.canvas.restore(image))

            return drawn

        if guest.wish.on_step(*counted, Preview(preview, glimpse)):
            raise Interrupted("interrupted; pictures finished before are kept")

    def _result(self, guest: Guest) -> Result:
        pixels_BCHW, finite = self._decoded(guest, guest.running.x_BCHW)
        flags = self._engine.judge(pixels_BCHW)[1] if finite else None
        return finished(guest.wish, guest.canvas, pixels_BCHW, finite, flags[0] if flags else None)

    def _decoded(self, guest: Guest, x_BCHW: Tensor) -> tuple[Tensor, bool]:
        pixels_BCHW, finite = self._engine.decode(x_BCHW, guest.running.track.views)
        # A picture has to be handed back even where there is none; whoever writes a result asks whether it is finite.
        return torch.nan_to_num(pixels_BCHW), finite


def finished(wish: Wish, area: WorkArea, pixels_BCHW: Tensor, finite: bool, nsfw: bool | None) -> Result:
    """What a wish gets of the decoded picture (1, 3, H, W) in -1..1 of its work area.

    Its colours are looked at in its own size, where those of its input are known, and before it is rounded: what is
    scaled afterwards has others again.
    """
    color, is_deep = wish.edit.color if finite else "off", finite and wish.edit.bits > 8
    if color == "off":
        image, numbers = area.restore(postprocess(pixels_BCHW, "pil")[0]), None
    else:
        from .colour import recoloured

        numbers = recoloured(color, _restored(area, pixels_BCHW), area.part(wish.numbers), pixels_BCHW.device)
        (image,) = to_pil(numbers[None])
    if is_deep and numbers is None:
        numbers = _restored(area, pixels_BCHW)
    deep = None if numbers is None or not is_deep else area.laid_numbers(numbers)
    return Result(area.laid(image), finite, nsfw, deep)


def _restored(area: WorkArea, pixels_BCHW: Tensor) -> Numbers:
    return area.restore_numbers(postprocess(pixels_BCHW, "np")[0])
