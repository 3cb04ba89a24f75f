"""The gamma that a PNG states in place of a colour profile (PNG, third edition, 11.3.2.2), as a profile of that gamma.

So it goes the way of every profile: the file's own numbers stay, and mean in its edit what they meant in it.
"""

from __future__ import annotations

import struct

# How the chunk counts, and what is as good as sRGB: numbers within a twentieth of that look the same.
_ONE, _OF_SRGB, _NEAR = 100_000, 45_455, 0.05
# Light is a power of the number; beyond these powers there is no picture.
_POWERS = (0.1, 10.0)
# Primaries of sRGB and its white as profiles have them, adapted to D50 (ICC.1, annex E).
_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
_WHITE = (0.9642, 1.0, 0.8249)
_HEAD, _ENTRY = 128, 12


def profile_of_gamma(chunk: bytes) -> bytes:
    """The profile (ICC.1:2001-04, matrix and curves) for the content of a gAMA chunk; b'' where that is as sRGB has it,
    or says nothing of use."""
    if len(chunk) != 4:
        return b""
    (stated,) = struct.unpack(">I", chunk)
    power = _ONE / stated if stated else 0.0
    if not _POWERS[0] <= power <= _POWERS[1] or abs(stated / _OF_SRGB - 1) <= _NEAR:
        return b""
    curve = struct.pack(">4s4xIH2x", b"curv", 1, round(power * 256))
    name = f"gamma {power:.4g}".encode() + b"\0"
    bodies: dict[tuple[bytes, ...], bytes] = {
        (b"desc",): _padded(struct.pack(f">4s4xI{len(name)}s78x", b"desc", len(name), name)),
        (b"cprt",): _padded(struct.pack(">4s4x5s", b"text", b"none\0")),
        (b"wtpt",): _xyz(_WHITE),
        **{(kind,): _xyz(place) for kind, place in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _PRIMARIES, strict=True)},
        (b"rTRC", b"gTRC", b"bTRC"): curve,
    }
    return _assembled(bodies)


def _xyz(place: tuple[float, float, float]) -> bytes:
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
    white = (round(value * 65536) for value in _WHITE)
    head = struct.pack(">I4xI4s4s4s12x4s28x3i", at, 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp", *white)
    return head.ljust(_HEAD, b"\0") + table + b"".join(bodies.values())
