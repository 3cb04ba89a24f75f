"""Pictures on their way: shown while they form, as far as that costs next to nothing, and kept for an animation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..disk.whole import write_bytes
from ..options.files import EDIT
from ..pictures.animation import animated, framed
from ..pictures.readers import pillow
from ..pictures.transparency import seen
from .request import Animating
from .worker import Preview, Reporter

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ..pictures.codec import Picture
    from .targets import Job, Target

# What a look may cost of the time of the steps.
SHARE = 0.05


class Sparing:
    """Whether there is time for a look: not until the last one is a twentieth of all that went by since it began."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = self._cost = 0.0
        self._looks = 0

    def look(self, wait: Callable[[], Callable[[], object]]) -> bool:
        """Looks if there is time, by what `wait` gives when there is something to see; whether it did."""
        if self._looks and self._clock() - self._since < self._cost / SHARE:
            return False
        look = wait()
        began = self._clock()
        look()
        self._looks += 1
        # The first one also prepares the others, and says nothing of them.
        self._since, self._cost = began, 0.0 if self._looks == 1 else self._clock() - began
        return True


@dataclass(eq=False)
class Frames:
    """What was seen of one picture, by the step that it was seen after."""

    seen: dict[int, Image.Image] = field(default_factory=dict[int, "Image.Image"])


class Looking:
    """Shows pictures under way to `to`, and keeps them for `animating`, where each is wanted."""

    def __init__(self, to: Reporter, *, shown: bool, animating: Animating | None) -> None:
        self._to = to
        self._sparing = Sparing() if shown else None
        self._watched: Frames | None = None
        self._animating = animating

    def step(self, frames: Frames, done: int, steps: int, preview: Preview) -> None:
        """A step is done. The last one is followed by the picture itself."""
        if done >= steps:
            self._watched = None if self._watched is frames else self._watched
            return
        animating = self._animating
        if animating is not None:
            images = (preview() if animating.full else []) or [preview.sketch()]
            frames.seen[done] = framed(images[0])
        # Of those that are edited together, one until it is done.
        if self._sparing is not None and self._watched in (None, frames):
            self._watched = frames
            self._sparing.look(lambda: self._shower(preview))

    def _shower(self, preview: Preview) -> Callable[[], None]:
        draw = preview.glimpse()
        return lambda: self._to.look(draw())

    def write(
        self, job: Job, target: Target, frames: Frames, picture: Picture, data: Callable[[], bytes]
    ) -> Path | None:
        """Writes the animation that ends with the picture of a file; its path, None where none is wanted.

        Raises OutputError.
        """
        if self._animating is None:
            return None
        path = self._animating.paths[job.index, target.seed]
        last: Any = pillow(data())
        if job.request.edit.alpha == EDIT and picture.alpha:  # which nothing but the last one has
            last, picture = _opaque(last, picture), replace(picture, alpha=None)
        images = [*(image for _, image in sorted(frames.seen.items())), framed(last)]
        made = animated(images, picture, self._animating.format)
        write_bytes(path, made, replace=self._animating.replace)
        return path


def _opaque(image: Image.Image, picture: Picture) -> Image.Image:
    """A made picture on the ground that it was made on."""
    whole = image.convert("RGBA")
    return seen(whole.convert("RGB"), whole.getchannel("A"), picture.ground)
