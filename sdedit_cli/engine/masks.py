"""Masks: from which step on each cell of the latents takes part, and the result laid over what is kept.

A mask is a picture in mode L of the input's size: 255 is edited in full, 0 is kept, and a level g between takes part
from the step at which an edit of g / 255 of the strength would start (Differential Diffusion, arXiv 2306.00950); until
then its cells are the input under the noise of that step, always the same noise. In the mode `blend`, g is how much of
each step's result is taken, the rest being the input under fresh noise (SDEdit, arXiv 2108.01073, algorithm 2).

B pictures, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MaskError, UsageError
from ..noise import Grid, Scheduler
from ..options import MAX_SEED, Edit
from .canvas import Canvas, numbers_of
from .denoise import Blend
from .randomness import Generators, normal
from .sampling import chosen_scheduler, grid_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    from .canvas import Numbers

Box = tuple[int, int, int, int]
_FULL = 255
_APART = 0x9E3779B97F4A7C15


@dataclass(frozen=True, eq=False)
class Masked:
    """A masked picture's work area, as `Canvas` has one: `canvas` is that of the `box` (left, upper, right, lower).

    `whitest` is the mask's highest level. `levels_HW` are those of the latents' cells; `weights_HW` says how much of
    the result each pixel of the box shows, over `under`.
    """

    whitest: int
    canvas: Canvas
    box: Box
    levels_HW: npt.NDArray[np.uint8]
    weights_HW: npt.NDArray[np.float32]
    under: Image.Image
    under_numbers: Numbers | None = None

    @property
    def is_part(self) -> bool:
        """Whether it is a part of the picture, which has other edges."""
        return self.box != (0, 0, *self.under.size)

    @property
    def padded(self) -> tuple[int, int]:
        return self.canvas.padded

    def fit(self, image: Image.Image) -> Image.Image:
        """The box of a picture, as it is worked on."""
        return self.canvas.fit(image.crop(self.box))

    def fit_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `fit`, of a picture as numbers in 0..1."""
        return self.canvas.fit_numbers(self.part(x_HWC))

    def restore(self, image: Image.Image) -> Image.Image:
        """The edited work area in the size of the box."""
        return self.canvas.restore(image)

    def restore_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `restore`, of numbers in 0..1."""
        return self.canvas.restore_numbers(x_HWC)

    def part(self, x_HWC: Numbers) -> Numbers:
        """The box of a picture, in its own size."""
        left, upper, right, lower = self.box
        return x_HWC[upper:lower, left:right]

    def laid(self, image: Image.Image) -> Image.Image:
        """The picture with what was restored in its place; what is kept has the very pixels that it had."""
        from PIL import Image

        below = np.asarray(self.under.crop(self.box)).astype(np.float32)
        above = np.asarray(image).astype(np.float32)
        mixed = np.rint(below + (above - below) * self.weights_HW[..., None]).astype(np.uint8)
        whole = self.under.copy()
        whole.info = {}  # what stood beside the input is for others to keep or leave out
        whole.paste(Image.fromarray(mixed), self.box[:2])
        return whole

    def laid_numbers(self, x_HWC: Numbers) -> Numbers:
        """As `laid`, of numbers in 0..1."""
        under: Any = self.under_numbers
        whole: Any = numbers_of(self.under) if under is None else under.copy()
        part, weights = self.part(whole), self.weights_HW[..., None]
        # What is edited in full is the result to the last bit.
        part[...] = np.where(weights == 1, x_HWC, part + (x_HWC - part) * weights)
        return whole


def without_edges(edit: Edit) -> Edit:
    """The edit for a part of a picture, whose edges do not meet."""
    return edit.varied({"seamless": None}) if edit.seamless else edit


def masked(
    edit: Edit,
    own: Scheduler,
    mask: Image.Image,
    under: Image.Image,
    factor: int,
    canvas_of: Callable[[tuple[int, int], bool], Canvas],
    under_numbers: Numbers | None = None,
) -> Masked | None:
    """How a picture with a mask is worked on, `under` being what it shows where it is kept (`under_numbers`: in more
    than 8 bits); None where all is kept.

    `factor` is the side of a latents' cell in pixels; `canvas_of` gives the canvas for a size (width, height), and for
    a crop. Raises UsageError for an edit that cannot be.
    """
    levels = np.asarray(mask)
    whitest = int(levels.max())
    rounds = [_taking_part(one, whitest, own) for one in edit.rounds()]
    taken = np.any(rounds, axis=0)[levels]
    if not taken.any():
        return None
    size = (levels.shape[1], levels.shape[0])
    box = _around(taken, edit.mask_padding) if edit.masked_area == "crop" else (0, 0, *size)
    left, upper, right, lower = box
    canvas = canvas_of((right - left, lower - upper), box != (0, 0, *size))
    weights = _feathered(taken, edit.mask_feather)[upper:lower, left:right]
    return Masked(
        whitest, canvas, box, _cells(levels[upper:lower, left:right], canvas, factor), weights, under, under_numbers
    )


def as_strong_as(edit: Edit, whitest: int) -> Edit | None:
    """The edit at the strength that the whitest level of its mask asks for; None where that runs no step."""
    if whitest in (0, _FULL) or edit.mask_mode == "blend":
        return edit if whitest else None
    strength = whitest / _FULL * edit.strength
    runs = edit.exact_steps or int(edit.steps_total() * strength) >= 1
    try:
        return edit.varied({"strength": strength}) if runs else None
    except UsageError as problem:
        share = f"the mask is at most gray, {whitest} of 255, and so are edits under it: strength {strength:g}"
        raise MaskError(f"{share} ({problem}); make the mask lighter") from None


def _taking_part(edit: Edit, whitest: int, own: Scheduler) -> npt.NDArray[np.bool_]:
    """Of each level whether it is edited at all in a round."""
    strongest = as_strong_as(edit, whitest)
    if strongest is None:
        return np.zeros(_FULL + 1, dtype=bool)
    if edit.mask_mode == "blend":
        return np.arange(_FULL + 1) > 0
    grid, _ = grid_of(chosen_scheduler(own, strongest), strongest)
    return starts(grid, edit.strength) < len(grid.timesteps)


def starts(grid: Grid, strength: float) -> npt.NDArray[np.int64]:
    """For each level 0..255 the index at which it takes part in an edit of this strength; the grid's length: never."""
    shares = [level / _FULL * strength for level in range(_FULL + 1)]
    never, steps = len(grid.timesteps), grid.num_inference_steps
    return np.array([grid.begin(share) if int(steps * share) >= 1 else never for share in shares])


def _around(taken: npt.NDArray[np.bool_], padding: int) -> Box:
    rows, columns = (np.flatnonzero(taken.any(axis=axis)) for axis in (1, 0))
    height, width = taken.shape
    left, upper = (max(0, int(found[0]) - padding) for found in (columns, rows))
    right, lower = (min(side, int(found[-1]) + 1 + padding) for side, found in ((width, columns), (height, rows)))
    return left, upper, right, lower


def _feathered(taken: npt.NDArray[np.bool_], feather: int) -> npt.NDArray[np.float32]:
    """1 well inside of what takes part, falling towards what is kept, where it is 0."""
    weights, inner = taken.astype(np.float32), taken
    for _ in range(feather):
        wide = np.pad(inner, 1, mode="edge")
        rows = wide[:-2] & wide[1:-1] & wide[2:]
        inner = rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]
        weights += inner
        if not inner.any():
            break
    return np.asarray(weights / (feather + 1), dtype=np.float32)


def _cells(levels: npt.NDArray[np.uint8], canvas: Canvas, factor: int) -> npt.NDArray[np.uint8]:
    """Of each cell of the latents the largest level among the pixels that it covers: white is edited in full."""
    for axis in (0, 1):
        length, worked, padded = levels.shape[axis], canvas.work[1 - axis], canvas.padded[1 - axis]
        scale = length / worked
        parts: list[Any] = []
        for begin in range(0, padded, factor):
            first = min(math.floor(begin * scale), length - 1)
            last = max(first + 1, min(math.ceil((begin + factor) * scale), length))
            parts.append(np.take(levels, range(first, last), axis=axis).max(axis=axis))
        levels = np.stack(parts, axis=axis)
    return levels


def blending_generator(seed: int) -> torch.Generator:
    """Where blending takes its noise from, apart from what a solver draws: that is then what it is without a mask."""
    return torch.Generator("cpu").manual_seed((seed ^ _APART) & MAX_SEED)


def blend_of(
    area: Masked,
    edit: Edit,
    scheduler: Scheduler,
    grid: Grid,
    start: int,
    x0_BCHW: Tensor,
    noise_BCHW: Tensor,
    blending: Generators,
) -> Blend | None:
    """What brings the latents of a masked picture back to the input after each step of a run from `start` on; None
    where there is nothing to bring back. `edit` is one round, as strong as it is where the mask is white."""
    if edit.mask_mode == "blend":
        if area.levels_HW.min() == _FULL:
            return None
        weights_HW = torch.from_numpy(area.levels_HW.astype(np.float32) / _FULL).to(x0_BCHW.device)
        return Blended(scheduler, grid, x0_BCHW, weights_HW, blending)
    starts_HW = starts(grid, edit.strength)[area.levels_HW]
    last = int(starts_HW.max())
    if last <= start:
        return None
    return Held(scheduler, grid, x0_BCHW, noise_BCHW, torch.from_numpy(starts_HW).to(x0_BCHW.device), last)


@dataclass(frozen=True, eq=False)
class Held:
    """Cells that have not started yet are the input under the noise of the node that the others have come to."""

    scheduler: Scheduler
    grid: Grid
    x0_BCHW: Tensor
    noise_BCHW: Tensor
    starts_HW: Tensor
    last: int

    def __call__(self, i: int, x_BCHW: Tensor) -> Tensor:
        if i > self.last or not _is_whole(self.scheduler, self.grid, i):
            return x_BCHW
        input_BCHW = _noised(self.scheduler, self.grid, i, self.x0_BCHW, lambda: self.noise_BCHW)
        return torch.where(self.starts_HW >= i, input_BCHW.to(x_BCHW.dtype), x_BCHW)


@dataclass(frozen=True, eq=False)
class Blended:
    """Every cell is a mean of the step's result and of the input under fresh noise."""

    scheduler: Scheduler
    grid: Grid
    x0_BCHW: Tensor
    weights_HW: Tensor
    generator: Generators

    def __call__(self, i: int, x_BCHW: Tensor) -> Tensor:
        if not _is_whole(self.scheduler, self.grid, i):
            return x_BCHW
        x0 = self.x0_BCHW
        input_BCHW = _noised(
            self.scheduler, self.grid, i, x0, lambda: normal(x0.shape, self.generator, x0.device, x0.dtype)
        )
        return torch.lerp(input_BCHW.to(x_BCHW.dtype), x_BCHW, self.weights_HW.to(x_BCHW.dtype))


def _is_whole(scheduler: Scheduler, grid: Grid, i: int) -> bool:
    """Whether a step ends at node `i`: between the two calls of a second-order solver nothing is touched."""
    return i % scheduler.order == 0 or i >= len(grid.timesteps)


def _noised(scheduler: Scheduler, grid: Grid, i: int, x0: Tensor, noise: Callable[[], Tensor]) -> Tensor:
    return x0 if i >= len(grid.timesteps) else scheduler.add_noise(grid, i, x0, noise())
