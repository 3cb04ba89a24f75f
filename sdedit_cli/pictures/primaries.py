"""Where the primaries and the white of a picture are, and what profiles say of that."""

from __future__ import annotations

import struct

Places = tuple[tuple[float, ...], ...]

_D65 = (0.3127, 0.3290)
SRGB: Places = (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
# The white, red, green and blue (CIE xy) by their codes in ITU-T H.273, table 2.
BY_CODE: dict[int, Places] = {
    1: SRGB,
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
# The white of profiles, D50, and the colorants of sRGB adapted to it (ICC.1, annex E), to the digits of other programs.
WHITE = (0.9642, 1.0, 0.8249)
COLORANTS_OF_SRGB: Places = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
# How a cHRM chunk counts, and how far rounding takes writers from the places of sRGB.
_ONE, _ROUNDING = 100_000, 0.002
# The cones of Bradford, by which profiles adapt to their white (ICC.1, annex E).
_BRADFORD = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
# What a number of a profile can hold, and more than any real primary has.
_MOST = 8.0


def places_of(chunk: bytes) -> Places:
    """The places that the content of a cHRM chunk states; those of sRGB where it is none."""
    if len(chunk) != 32:
        return SRGB
    numbers = [value / _ONE for value in struct.unpack(">8I", chunk)]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def is_srgb(places: Places) -> bool:
    """Whether these are the places of sRGB as a writer may round them."""
    pairs = zip(places, SRGB, strict=True)
    return all(abs(a - b) <= _ROUNDING for one, other in pairs for a, b in zip(one, other, strict=True))


def colorants(places: Places) -> Places | None:
    """The red, green and blue of a profile (ICC.1, annex E) for these places; None where they make no colours."""
    if any(y <= 0 for _, y in places):
        return None
    import numpy as np  # for the few files that state others

    white, *primaries = (np.array((x / y, 1.0, (1 - x - y) / y)) for x, y in places)
    cones = np.array(_BRADFORD)
    try:
        matrix = np.stack(primaries, 1)
        matrix = matrix * np.linalg.solve(matrix, white)
        scale = (cones @ np.array(WHITE)) / (cones @ white)
        adapted = np.linalg.inv(cones) @ (scale[:, None] * (cones @ matrix))
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > _MOST:
        return None
    return tuple(tuple(float(adapted[row, column]) for row in range(3)) for column in range(3))
