"""The options of masks: which of a picture is edited, and how far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..errors import UsageError
from .declared import declare, declared
from .files import FileOptions

ALPHA = "alpha"
_GROUP = "Mask"
_FARTHEST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions(FileOptions):
    """Part of `Edit`, above those of files, as slots have one line of ancestors.

    Without a `mask` the others say nothing, and are neither kept nor counted.
    """

    mask: str | None = declare(
        None,
        "What to edit: a picture of the input's size, white to edit in full, black to keep, gray for a share of"
        " --strength; or alpha: the input's own opaqueness.",
        _GROUP,
        metavar="FILE|alpha",
        path=True,
        words=(ALPHA,),
    )
    invert_mask: bool = declare(False, "Edit what is black and keep what is white.", _GROUP)
    mask_grow: int = declare(
        0, "Let the white grow by so many pixels; below 0 it shrinks.", _GROUP, low=-_FARTHEST, high=_FARTHEST
    )
    mask_blur: float = declare(
        0.0, "Soften the mask's edges by a Gaussian of this radius in pixels.", _GROUP, low=0.0, high=_FARTHEST
    )
    mask_mode: str = declare(
        "map",
        "What gray means: the strength there, or a blend with the noised input at every step.",
        _GROUP,
        choices=("map", "blend"),
    )
    mask_feather: int = declare(
        0,
        "Blend so many pixels inside the edge of what is kept when the result is laid over the input.",
        _GROUP,
        low=0,
        high=_FARTHEST,
    )
    masked_area: str = declare(
        "whole",
        "What the model works on: the picture, or a crop around what is edited, at the size that it was trained at.",
        _GROUP,
        choices=("whole", "crop"),
    )
    mask_padding: int = declare(
        32, "Pixels around what is edited that --masked-area crop shows the model.", _GROUP, low=0, high=_FARTHEST
    )

    @property
    def lacks_mask(self) -> bool:
        """Whether something is said of a mask, and none is given."""
        usual = {field.name: field.default for field in declared(MaskOptions)}
        return self.mask is None and any(getattr(self, name) != usual[name] for name in NAMES)


def check_masked(given: Mapping[str, Any], masked: bool) -> None:
    """Raises UsageError for what a command line says of masks where there is none."""
    stray = () if masked else sorted(name for name in NAMES if given.get(name) is not None)
    if stray:
        raise UsageError(f"--{stray[0].replace('_', '-')} says something of a mask; give that too: --mask FILE")


NAMES = frozenset(field.name for field in fields(MaskOptions)) - {field.name for field in fields(FileOptions)}
