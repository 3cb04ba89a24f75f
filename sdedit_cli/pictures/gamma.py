"""What a PNG states of its colours in place of a colour profile (PNG, third edition, 11.3.2), as a profile of that.

So it goes the way of every profile: the file's own numbers stay, and mean in its edit what they meant in it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from .primaries import BY_CODE, COLORANTS_OF_SRGB, SRGB, WHITE, Places, colorants, is_srgb, places_of

GAMMA, PLACES, CODES, IS_SRGB = b"gAMA", b"cHRM", b"cICP", b"sRGB"
STATED = (GAMMA, PLACES, CODES, IS_SRGB)
# How the chunk counts, and what is as good as sRGB: numbers within a twentieth of that look the same.
_ONE, _OF_SRGB, _NEAR = 100_000, 45_455, 0.05
# Light is a power of the number; beyond these powers there is no picture.
_POWERS = (0.1, 10.0)
# What follows the primaries in a cICP chunk whose curve is that of sRGB: the curve, no matrix, the full range.
_CURVE_OF_SRGB = b"\x0d\0\x01"
_CODE_OF_SRGB = b"\x01"
# Points of the curve of sRGB, which has no form of its own in profiles of this version.
_POINTS = 1024
_HEAD, _ENTRY = 128, 12


def profile_of(chunks: Mapping[bytes, bytes]) -> bytes:
    """The profile (ICC.1:2001-04, matrix and curves) for the contents of these chunks of a PNG; b'' where they are as
    sRGB has it, or say nothing of use."""
    codes = chunks.get(CODES, b"")
    if codes or IS_SRGB in chunks:
        coded = BY_CODE.get(codes[0], SRGB) if codes[1:] == _CURVE_OF_SRGB else SRGB
        return _profile(0.0, coded)
    return _profile(_power(chunks.get(GAMMA, b"")), places_of(chunks.get(PLACES, b"")))


def of_gray(chunks: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The chunks without what they say of primaries, which gray does not have."""
    kept = {kind: body for kind, body in chunks.items() if kind != PLACES}
    codes = kept.get(CODES, b"")
    return {**kept, CODES: _CODE_OF_SRGB + codes[1:]} if codes and codes[0] in BY_CODE else kept


def unsaid(chunks: Mapping[bytes, bytes]) -> str:
    """What these chunks say of colours that `profile_of` makes no profile of, in words; '' for nothing."""
    codes = chunks.get(CODES, b"")
    if not codes or (codes[1:] == _CURVE_OF_SRGB and codes[0] in BY_CODE):
        return ""
    return f"what its chunk cICP says of its colours ({', '.join(map(str, codes[:4]))}): they are taken for sRGB"


def _power(chunk: bytes) -> float:
    """The power that a gAMA chunk states; 0 for the curve of sRGB."""
    stated = struct.unpack(">I", chunk)[0] if len(chunk) == 4 else 0
    power = _ONE / stated if stated else 0.0
    return power if _POWERS[0] <= power <= _POWERS[1] and abs(stated / _OF_SRGB - 1) > _NEAR else 0.0


def _profile(power: float, places: Places) -> bytes:
    matrix = None if is_srgb(places) else colorants(places)
    if matrix is None:
        matrix, places = COLORANTS_OF_SRGB, SRGB
    if not power and places == SRGB:
        return b""
    name = _name(power, places)
    bodies: dict[tuple[bytes, ...], bytes] = {
        (b"desc",): _padded(struct.pack(f">4s4xI{len(name)}s78x", b"desc", len(name), name)),
        (b"cprt",): _padded(struct.pack(">4s4x5s", b"text", b"none\0")),
        (b"wtpt",): _xyz(WHITE),
        **{(kind,): _xyz(place) for kind, place in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix, strict=True)},
        (b"rTRC", b"gTRC", b"bTRC"): _curve(power),
    }
    return _assembled(bodies)


def _name(power: float, places: Places) -> bytes:
    curve = f"gamma {power:.4g}" if power else "curve of sRGB"
    own = "" if places == SRGB else ", primaries " + ", ".join(f"{x:.4g} {y:.4g}" for x, y in places[1:])
    return (curve + own).encode() + b"\0"


def _curve(power: float) -> bytes:
    if power:
        return struct.pack(">4s4xIH2x", b"curv", 1, round(power * 256))
    numbers = (n / (_POINTS - 1) for n in range(_POINTS))
    light = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in numbers)
    return struct.pack(f">4s4xI{_POINTS}H", b"curv", _POINTS, *(round(value * 65535) for value in light))


def _xyz(place: tuple[float, ...]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in place))


def _padded(body: bytes) -> bytes:
    return body + bytes(-len(body) % 4)


def _assembled(bodies: dict[tuple[bytes, ...], bytes]) -> bytes:
    """A profile of these bodies, each under its tags."""
    count = sum(map(len, bodies))
    at = _HEAD + 4 + _ENTRY * count
    table = struct.pack(">I", count)
    for tags, body in bodies.items():
        table += b"".join(struct.pack(">4sII", tag, at, len(body)) for tag in tags)
        at += len(body)
    white = (round(value * 65536) for value in WHITE)
    head = struct.pack(">I4xI4s4s4s12x4s28x3i", at, 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp", *white)
    return head.ljust(_HEAD, b"\0") + table + b"".join(bodies.values())
