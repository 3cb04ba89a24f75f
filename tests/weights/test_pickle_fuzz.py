"""Pickles changed at random: they are read or refused in words, and nothing else comes out."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ends import reached, reaches
from helpers.weights import unpickled, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdedit_cli.errors import ModelError
from sdedit_cli.weights import open_weights

FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

STATE = OrderedDict(
    a=torch.arange(6.0).reshape(2, 3),
    b=torch.arange(12.0).half().reshape(3, 4).t()[1:],
    empty=torch.empty(0, 3),
    array=np.arange(4, dtype=np.float32),
    number=np.float64(2.5),
)
ROOT = {"state_dict": STATE, "global_step": 10**400, "betas": (0.9, {1, 2}), "stopped": ValueError("x"), 2**80: -1}


def stored(root: Any, protocol: int, style: str) -> bytes:
    file = io.BytesIO()
    torch.save(root, file, pickle_protocol=protocol, _use_new_zipfile_serialization=style == "zip")
    return file.getvalue()


ARRAYS = {name: value for name, value in STATE.items() if not isinstance(value, torch.Tensor)}
FILES = {
    **{f"{style} {protocol}": stored(ROOT, protocol, style) for style in ("zip", "legacy") for protocol in (2, 4)},
    "legacy 1": stored(STATE, 1, "legacy"),
    **{f"bare {protocol}": pickle.dumps({**ARRAYS, "step": 10**400}, protocol) for protocol in (0, 2, 5)},
}
# Values that are no weights' and no shape's, and text that cannot be printed.
AWKWARD = st.sampled_from(
    [
        *(pickle.dumps(number, 2)[2:-1] for number in (-1, 0, 2**31, 2**61, 2**62 - 1, 2**64, 10**400, -(10**400))),
        *(b"%c%b\n" % (kind, b"9" * 400) for kind in b"ILF"),
        *(pickle.dumps(number, 2)[2:-1] for number in (float("nan"), float("inf"), 1.5, None, True, (), "", "9" * 400)),
        *(b"S'\\d'\n", b"S'\xff'\n", b"V\\ud800\n", b"X\x03\0\0\0\xed\xa0\x80", b"]", b"}", b"\x8f", b""),
    ]
)


def opened(path: Path, content: bytes) -> None:
    """Read all that is in a file. Nothing but a ModelError, in words that a terminal can print, may come of it."""
    refusals: list[str] = []
    try:
        source = open_weights(write(path, content or b"\0"))
        for name in source.names():
            with suppress(ModelError):
                assert tuple(source.get(name).shape) == source.shape(name)
    except ModelError as error:
        refusals.append(str(error))
    assert all(len(words.encode()) < 500 + len(str(path)) for words in refusals)
    reached("refused" if refusals else "read")


def pickles(content: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The pickles in a file, and how to make the file again of others."""
    if not content.startswith(b"PK"):
        return content, lambda changed: changed
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    pickled = next(name for name in members if name.endswith("/data.pkl"))

    def packed(changed: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as target:
            for name, member in members.items():
                target.writestr(name, changed if name == pickled else member)
        return file.getvalue()

    return members[pickled], packed


def operations(content: bytes) -> list[slice]:
    """Where each operation is, in one pickle after another."""
    stream, starts = io.BytesIO(content), list[int]()
    with suppress(ValueError):  # the storages of a legacy file follow its pickles
        while True:
            starts += [pos for _, _, pos in pickletools.genops(stream) if pos is not None]
    return [slice(start, end) for start, end in pairwise(starts)]


@pytest.mark.parametrize("kind", FILES)
@reaches(refused=10)
@settings(FUZZ, max_examples=60)
@given(data=st.data())
def test_awkward_values_in_any_place_are_read_or_refused(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    content, packed = pickles(FILES[kind])
    changed = bytearray(content)
    places = data.draw(st.lists(st.sampled_from(operations(content)), min_size=1, max_size=3))
    for place in sorted(places, key=lambda place: place.start, reverse=True):
        changed[place] = data.draw(AWKWARD)
    opened(tmp_path / "f", packed(bytes(changed)))


@pytest.mark.parametrize("kind", ["zip 2", "legacy 2"])
@reaches(read=4, refused=100)
@FUZZ
@given(data=st.data())
def test_files_with_other_bytes_are_read_or_refused(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    opened(tmp_path / "f", bytes(content))


OPCODES = st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes])


@reaches(value=4, refused=100)
@FUZZ
@given(st.lists(OPCODES | st.binary(max_size=3) | st.sampled_from([b"ctorch\nSize\n", b"cnumpy\ndtype\n", b"h\x00"])))
def test_random_programs_end_in_a_value_or_a_refusal(parts: list[bytes]) -> None:
    try:
        unpickled(b"".join(parts) + b".")
    except ModelError:
        reached("refused")
        return
    reached("value")
