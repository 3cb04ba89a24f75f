"""What the numbers of a deep picture mean, and the 8 bits that they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Numbers = np.ndarray[Any, Any]

UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # as TIFF's SampleFormat
_BITS, _PHOTOMETRIC, _FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0
# A white is believed when the brightest hundredth of the picture comes this near to it.
_NEAR = 1 / 16
_SLACK = 1.05


@dataclass(frozen=True, slots=True)
class Samples:
    """How a number stands for a level: its width, its kind (as TIFF's SampleFormat), and whether 0 is white."""

    bits: int = 16
    kind: int = UNSIGNED
    inverted: bool = False


def samples_of(image: Image.Image) -> Samples:
    """What the file of an opened picture says of its numbers."""
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None:
        return Samples(kind=FLOAT if image.mode == "F" else UNSIGNED)
    bits, kind = (_first(tags.get(tag), default) for tag, default in ((_BITS, 16), (_FORMAT, UNSIGNED)))
    return Samples(bits, FLOAT if image.mode == "F" else kind, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _first(value: Any, default: int) -> int:
    try:
        return int(value if isinstance(value, int) else value[0])
    except (TypeError, IndexError, ValueError):
        return default


def shallow(image: Image.Image, notes: list[str]) -> Image.Image:
    """A gray picture of more than 8 bits, or of signed ones, in mode L; others as they are."""
    from PIL import Image

    values = _values(image)
    return image if values is None else Image.fromarray(eight_bits(values, samples_of(image), notes))


def deep(image: Image.Image) -> Numbers | None:
    """The numbers (H, W) in 0..1 of a gray picture of more than 8 bits; None for others."""
    values, how = _values(image), samples_of(image)
    return None if values is None or how.bits <= 8 else units(values, how, [])


def _values(image: Image.Image) -> Numbers | None:
    import numpy as np

    how = samples_of(image)
    is_deep = image.mode.startswith("I;16") or image.mode in ("I", "F")
    if not is_deep and not (image.mode == "L" and how.kind == SIGNED):
        return None
    values = np.asarray(image)
    if how.bits == 32 and how.kind == UNSIGNED and values.dtype == np.int32:
        values = values.view(np.uint32)
    if how.bits == 8 and how.kind == SIGNED:
        values = values.view(np.int8)
    return values


def eight_bits(values: Numbers, how: Samples, notes: list[str]) -> Numbers:
    """Levels from 0 to 255. What was guessed on the way is noted. Raises ValueError when no number is finite."""
    import numpy as np

    levels = _levels(values, how, notes)
    return np.clip((levels + 0.5).astype(np.float32), 0, 255).astype(np.uint8)


def units(values: Numbers, how: Samples, notes: list[str]) -> Numbers:
    """As `eight_bits`, in 0..1 and not rounded."""
    import numpy as np

    return np.clip(_levels(values, how, notes) / 255, 0, 1)


def _levels(values: Numbers, how: Samples, notes: list[str]) -> Numbers:
    import numpy as np

    low, high = _range(values, how, notes)
    levels = (values.astype(np.float64) - low) * (255.0 / (high - low))
    return np.nan_to_num(255.0 - levels if how.inverted else levels, nan=0.0, posinf=255.0, neginf=0.0)


def _range(values: Numbers, how: Samples, notes: list[str]) -> tuple[float, float]:
    """The numbers of black and of white."""
    if how.kind == FLOAT:
        return _float_range(values, notes)
    if how.kind == SIGNED and (values < 0).mean() > 0.01:
        notes.append("holds numbers below 0: black is taken to be the least number that its format has")
        return -(2.0 ** (how.bits - 1)), 2.0 ** (how.bits - 1) - 1
    full = 2.0 ** (how.bits - (how.kind == SIGNED)) - 1
    if how.bits <= 16:
        return 0.0, full
    white = _white(values, (255.0, 65535.0, full))
    if white != full:
        notes.append(f"holds numbers of {how.bits} bits and does not say what is white: it is taken to be {white:.15g}")
    return 0.0, white


def _float_range(values: Numbers, notes: list[str]) -> tuple[float, float]:
    import numpy as np

    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("it holds no finite number")
    whole = finite.max() > 1 and bool((finite == np.floor(finite)).all())
    white = _white(finite, (255.0, 65535.0) if whole else (1.0, 255.0, 65535.0))
    outside = int((finite < 0).sum() + (finite > white).sum())
    lost = values.size - finite.size
    told = [f"white is taken to be {white:.6g}"] if white != 1 or outside else []
    told += [f"{outside} numbers beyond black or white are cut"] if outside else []
    told += [f"{lost} that are not finite are left out"] if lost else []
    if told:
        notes.append(f"holds floating-point numbers: {', '.join(told)}")
    return 0.0, white


def _white(values: Numbers, usual: Sequence[float]) -> float:
    """The least usual white that holds all values, or all but a few; the brightest of the rest where none is near."""
    import numpy as np

    most, bright = float(values.max()), float(np.percentile(values, 99, method="lower"))
    for reach in (most, bright / _SLACK):
        white = next((white for white in usual if reach <= white), None)
        if white is not None and (white == usual[0] or bright >= white * _NEAR):
            return white
    return bright if bright > 0 else max(most, usual[0])
