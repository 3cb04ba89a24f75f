"""Bytes, texts and JSON of strangers: sound ones with something changed, drawn from a `random.Random`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

# What readers of numbers and words stumble over.
AWKWARD = (
    *(b"9" * 400, b"-1", b"0", b"1e400", b"-1e-400", b"NaN", b"Infinity", b"0x10", b"1_000", b"18446744073709551616"),
    *(b"\0", b"\x1b[2J", b"\r", b"\n", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b'"', b"\\", b"\\u0000"),
    *(b"BREAK " * 300, b"(" * 600, b"[a:b:" * 300, b"{" * 600, b"a/-" * 2000, b"x" * 70_000, b"\xe2\x80\xae"),
    *(b"null", b"true", b"[]", b"{}", b"Steps: 20, ", b"Negative prompt:", b", Seed: -1", b"<lora:x:1>", b"../../x"),
)
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")


def changed(data: bytes, draw: random.Random) -> bytes:
    """`data` with one to four changes of any kind."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        data = draw.choice(_CHANGES)(data, draw)
    return data


def changed_bytes(data: bytes, draw: random.Random, most: int = 6) -> bytes:
    """`data` with one to `most` of its bytes changed, or now and then cut."""
    content = bytearray(data)
    for _ in range(draw.randint(1, most)):
        at = draw.randrange(len(content))
        content[at] = draw.choice((draw.randrange(256), content[at] ^ 1 << draw.randrange(8), 0, 255))
    return bytes(content[: draw.randrange(len(content))] if draw.random() < 0.03 else content)


def _place(data: bytes, draw: random.Random) -> int:
    return draw.randint(0, len(data))


def _overwritten(data: bytes, draw: random.Random) -> bytes:
    return changed_bytes(data, draw, 3) if data else b"\0"


def _inserted(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.randbytes(draw.randint(1, 8)) + data[at:]


def _awkward(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.choice(AWKWARD) + data[at:]


def _removed(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.choice((1, 2, 4, 16, 64)) :]


def _repeated(data: bytes, draw: random.Random) -> bytes:
    at, length = _place(data, draw), draw.choice((1, 4, 32))
    return data[:at] + data[at : at + length] * draw.choice((2, 3, 500)) + data[at + length :]


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: _place(data, draw)]


def _numbers(data: bytes, draw: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return _awkward(data, draw)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(AWKWARD) + data[one.end() :]


_CHANGES: Sequence[Callable[[bytes, random.Random], bytes]] = (
    *(_overwritten, _overwritten, _inserted, _awkward, _awkward, _removed, _repeated, _cut, _numbers, _numbers),
)


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if levels % 2 else {"a": value}
    return value


VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        1.5,
        10**400,
        -(10**400),
        2**64,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "9" * 400,
    ),
    *("\ud800", "\0", "x" * 200_000, [], {}, [1, 2], {"a": 1}, [[]] * 2000, _deep(200), _deep(901), "BREAK " * 30_000),
    *("/etc/passwd", "owner/name", "https://huggingface.co/a/b/blob/main/c.ckpt", "cuda:99", "\x1b]0;x\x07"),
)


def changed_tree(value: Any, draw: random.Random, names: Sequence[str]) -> Any:
    """A JSON value with something in it replaced, removed, renamed to one of `names`, or added under one."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        made = dict(value)
        key = draw.choice(list(made))
        match draw.randrange(5):
            case 0:
                made[draw.choice(names)] = made.pop(key)
            case 1:
                del made[key]
            case 2:
                made[draw.choice(names)] = draw.choice(VALUES)
            case _:
                made[key] = changed_tree(made[key], draw, names)
        return made
    return draw.choice(VALUES)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
