"""Files made to run code or to exhaust the machine: each is refused, with the name of what it wanted."""

from __future__ import annotations

import builtins
import functools
import io
import os
import pickle
import runpy
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.weights import Call, unpickled, write

from sdedit_cli.errors import ModelError, UnsafeFileError
from sdedit_cli.weights.formats.torchfile.source import PickleSource
from sdedit_cli.weights.formats.torchfile.values import BadPickle

TOUCH = "touch pwned"

REQUESTS: dict[str, tuple[Callable[[], Any], str]] = {
    "os.system": (lambda: Call(os.system, TOUCH), "posix.system"),
    "subprocess": (lambda: Call(subprocess.check_output, TOUCH), "subprocess.check_output"),
    "eval": (lambda: Call(eval, "open('pwned', 'w')"), "builtins.eval"),
    "exec": (lambda: Call(exec, "open('pwned', 'w')"), "builtins.exec"),
    "open": (lambda: Call(open, "pwned", "w"), "io.open"),
    "import": (lambda: Call(__import__, "this"), "builtins.__import__"),
    "getattr chain": (lambda: Call(getattr, Call(__import__, "os"), "system"), "builtins.getattr"),
    "runpy": (lambda: Call(runpy.run_path, "pwned.py"), "runpy.run_path"),
    "partial": (lambda: functools.partial(os.system, TOUCH), "functools.partial"),
    "map": (lambda: Call(builtins.map, os.system, [TOUCH]), "map"),
    "nested pickle": (lambda: Call(pickle.loads, pickle.dumps(Call(os.system, TOUCH))), "pickle.loads"),
    "nested torch file": (lambda: Call(torch.storage._load_from_bytes, b"x"), "torch.storage._load_from_bytes"),
    "torch.hub": (lambda: Call(torch.hub.load, "a/b", "c"), "torch.hub.load"),
    "torch.load": (lambda: Call(torch.load, "pwned"), "torch.serialization.load"),
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "root": lambda attack: attack,
    "beside the weights": lambda attack: {"state_dict": {"a": torch.ones(1)}, "callbacks": [{"x": (attack,)}]},
    "among the weights": lambda attack: OrderedDict(a=torch.ones(1), b=attack),
    "in an attribute": lambda attack: {"a": torch.ones(1), "m": Holder(attack)},
}


class Holder:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.mark.parametrize("style", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("request_", REQUESTS)
def test_code_is_refused_by_name_and_not_run(
    request_: str, place: str, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, wanted = REQUESTS[request_]
    root = PLACES[place](make())
    if style == "bare":
        root = root if place in ("root",) else {"x": make()}
        (tmp_path / "f").write_bytes(pickle.dumps(root))
    else:
        torch.save(root, tmp_path / "f", _use_new_zipfile_serialization=style == "zip")
    with pytest.raises(UnsafeFileError) as error:
        PickleSource(tmp_path / "f")
    assert wanted in str(error.value).replace("_io.open", "io.open").replace("nt.system", "posix.system")
    assert str(tmp_path / "f") in str(error.value)
    assert len(str(error.value).splitlines()) <= 2
    assert sorted(os.listdir(tmp_path)) == ["f"]


def stack_global(module: str, name: str) -> bytes:
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


T = b"\x8c" + bytes([len(TOUCH)]) + TOUCH.encode() + b"\x85"
HAND_MADE = {
    "INST": (b"(S'touch pwned'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch pwned'\no.", "os.system"),
    "NEWOBJ": (b"\x80\x02cos\nsystem\n" + T + b"\x81.", "os.system"),
    "NEWOBJ_EX": (b"\x80\x04" + stack_global("os", "system") + T + b"}\x92.", "os.system"),
    "memo trick": (b"\x80\x02U\x02osq\x00U\x06systemq\x010h\x00h\x01\x93" + T + b"R.", "os.system"),
    "python 2 names": (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
    "python 2 commands": (b"ccommands\ngetoutput\n(S'1'\ntR.", "subprocess.getoutput"),
    "dotted name": (b"\x80\x04" + stack_global("torch", "serialization.os.system") + T + b"R.", "os.system"),
    "through a harmless class": (
        b"\x80\x04" + stack_global("collections", "OrderedDict.__init__.__globals__") + b".",
        "collections.OrderedDict.__init__.__globals__",
    ),
    "through our own package": (
        b"\x80\x04" + stack_global("sdedit_cli.weights.formats.open", "Path") + b".",
        "sdedit_cli",
    ),
    "submodule of the standard library": (b"cimportlib.util\nfind_spec\n.", "importlib.util.find_spec"),
    "a name that is no name": (b"\x80\x04" + stack_global("a b", "c;d") + b".", "a b.c;d"),
    "an empty name": (b"\x80\x04" + stack_global("", "") + b".", "asks for ."),
    "change a class": (b"ccollections\nOrderedDict\n}(S'keys'\nS'x'\nub.", "collections.OrderedDict"),
}


@pytest.mark.parametrize("case", HAND_MADE)
def test_hand_made_opcodes_are_refused_by_name(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, wanted = HAND_MADE[case]
    with pytest.raises(UnsafeFileError) as error:
        PickleSource(write(tmp_path / "f", content))
    assert wanted in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["f"]


HUGE = {
    "BINBYTES8 of 8 EB": b"\x8e" + struct.pack("<Q", 2**63),
    "BINUNICODE of 4 GB": b"X\xff\xff\xff\xff",
    "BYTEARRAY8 of 16 EB": b"\x96" + b"\xff" * 8,
    "LONG4 of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "LONG4 below zero": b"\x8b\xff\xff\xff\xff",
    "memo place of 4 G": b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff.",
    "long decimal": b"I" + b"9" * 3000 + b"\n.",
    "decimal of 5,000 digits": b"L" + b"9" * 5000 + b"L\n.",
    "decimal of a megabyte": b"F" + b"9" * 2**20 + b"\n.",
    "no decimal": b"Ix\n.",
    "line without end": b"c" + b"a" * 10_000,
    "text without end": b"V" + b"a" * 10_000,
    "text that is no UTF-8": b"X\x01\0\0\0\xff.",
    "text of half an escape": b"V\\u12\n.",
    "text of an unknown escape": b"S'\\d'\n0N.",
    "text without quotes": b"Sa\n.",
    "read-only buffer": b"\x80\x05\x98.",
    "unknown operation": b"\xff.",
    "extension registry": b"\x80\x02\x82\x01.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "persistent id of text": b"Pa\n.",
    "persistent id unknown": b"NQ.",
    "pop from nothing": b"0.",
    "unmark nothing": b"N1t.",
    "no end": b"N",
    "a list as a key": b"}]Ns.",
    "a deep tuple as a key": b"}N" + b"\x85" * 100_000 + b"Ns.",
    "call of a number": b"K\x01)R.",
    "call without a tuple": b"ccollections\nOrderedDict\nNR.",
    "items for a number": b"K\x01Na.",
    "entries for a list": b"]NNs.",
    "tensor without a storage": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "bytes made again and again": b"c_codecs\nencode\nq\x000X\x00\x00\x80\x00"
    + b"a" * 2**23
    + b"U\x06latin1\x86q\x010h\x00h\x01R." * 2
    + b"h\x00h\x01R0" * 4
    + b".",
}


@pytest.mark.parametrize("case", HUGE)
def test_claims_that_no_file_can_keep_are_refused(case: str, tmp_path: Path) -> None:
    """In time and memory bounded by the file: nothing is allocated on a file's word."""
    with pytest.raises(ModelError) as error:
        PickleSource(write(tmp_path / "f", HUGE[case]))
    assert len(str(error.value)) < 400


def test_containers_nested_without_end_do_not_overflow_the_stack(tmp_path: Path) -> None:
    for body in (b"]" * 100_000 + b"a" * 99_999, b"N" + b"\x85" * 100_000, b"}" + b"U\x01a}" * 50_000 + b"s" * 50_000):
        with pytest.raises(ModelError):
            PickleSource(write(tmp_path / "f", b"\x80\x02" + body + b"."))


def test_more_operations_than_any_checkpoint_needs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdedit_cli.weights.formats.torchfile.budget.OPERATION_LIMIT", 1000)
    with pytest.raises(BadPickle, match="operations"):
        unpickled(b"N0" * 1000 + b"N.")


def tensor_pickle(count: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> bytes:
    """A pickle {'a': tensor} over a storage '0' that claims `count` floats."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj == "STORAGE" else None

    file = io.BytesIO()
    rebuild = Call(torch._utils._rebuild_tensor_v2, "STORAGE", offset, size, stride, False, OrderedDict())
    Pickler(file, 2).dump({"a": rebuild})
    return file.getvalue()


def archive(path: Path, pickled: bytes, data: bytes, **kwargs: Any) -> Path:
    with zipfile.ZipFile(path, "w", **kwargs) as target:
        target.writestr("archive/data.pkl", pickled)
        target.writestr("archive/data/0", data)
        target.writestr("archive/version", b"3\n")
    return path


def test_the_hand_made_archive_is_sound(tmp_path: Path) -> None:
    source = PickleSource(archive(tmp_path / "f", tensor_pickle(4, 1, (3,), (1,)), struct.pack("<4f", 1, 2, 3, 4)))
    assert source.get("a").tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride"),
    [
        (4, 0, (5,), (1,)),
        (4, 4, (1,), (1,)),
        (4, -1, (1,), (1,)),
        (4, 0, (2,), (-1,)),
        (4, 0, (2, 2), (4, 1)),
        (4, 0, (2**40,), (0,)),
        (4, 0, (2**62, 4), (1, 1)),
        (4, 0, (0, 2**31, 2**61), (1, 1, 1)),
        (4, 0, (10**400,), (0,)),
        (4, 10**400, (1,), (1,)),
        (10**400, 0, (1,), (1,)),
        (4, 0, (2,), (2**63,)),
        (4, 0, (2,), (1, 1)),
        (4, 0, (1.5,), (1,)),
        (4, 0, (True,), (1,)),
        (4, 0, (1,) * 33, (1,) * 33),
        (5, 0, (4,), (1,)),
        (2**70, 0, (4,), (1,)),
        (-1, 0, (0,), (1,)),
    ],
)
def test_tensors_that_leave_their_storage_are_refused(
    count: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...], tmp_path: Path
) -> None:
    path = archive(tmp_path / "f", tensor_pickle(count, offset, size, stride), bytes(16))
    with pytest.raises(ModelError):
        PickleSource(path).get("a")


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "f", tensor_pickle(2**22, 0, (2**22,), (1,)), bytes(2**24), compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(ModelError, match="is compressed"):
        PickleSource(path)


def test_a_zip_of_other_things_is_named_as_such(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f", "w") as target:
        target.writestr("word/document.xml", b"<x/>")
    with pytest.raises(ModelError, match="no torch checkpoint"):
        PickleSource(tmp_path / "f")


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(archive(tmp_path / "f", tensor_pickle(4, 0, (4,), (1,)), bytes(16)), "a") as target:
        target.writestr("archive/constants.pkl", b"N.")
    with pytest.raises(UnsafeFileError, match="TorchScript"):
        PickleSource(tmp_path / "f")


def patched(tmp_path: Path, edit: Callable[[bytearray, int], None]) -> Path:
    """The sound archive with its first directory entry (at the given place) changed."""
    content = bytearray(archive(tmp_path / "f", tensor_pickle(4, 0, (4,), (1,)), bytes(16)).read_bytes())
    edit(content, content.index(b"PK\x01\x02"))
    return write(tmp_path / "g", bytes(content))


def put(offset: int, value: bytes) -> Callable[[bytearray, int], None]:
    def edit(content: bytearray, entry: int) -> None:
        content[entry + offset : entry + offset + len(value)] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (put(20, b"\xfe\xff\xff\x7f" * 2), "ends at byte"),
        (put(42, b"\xfe\xff\xff\x7f"), "where the directory says"),
        (put(42, b"\x01\0\0\0"), "where the directory says"),
        (put(8, b"\x01\0"), "encrypted"),
        (put(46, b"X"), "another name"),
        (put(28, b"\xff\xff"), "cut short"),
        (put(0, b"PK\0\0"), "no directory entry"),
    ],
)
def test_directories_that_lie_are_refused(edit: Callable[[bytearray, int], None], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=problem):
        PickleSource(patched(tmp_path, edit))


def test_overlapping_and_repeated_members_are_refused(tmp_path: Path) -> None:
    """Many members over the same bytes make a small file claim a large model."""

    def grow(content: bytearray, entry: int) -> None:
        put(20, struct.pack("<II", *(struct.unpack_from("<I", content, entry + 20) * 2)))(content, entry)
        size = struct.unpack_from("<I", content, entry + 20)[0] + 1
        put(20, struct.pack("<II", size, size))(content, entry)

    with pytest.raises(ModelError, match="overlaps"):
        PickleSource(patched(tmp_path, grow))
    with zipfile.ZipFile(tmp_path / "f", "a") as target, pytest.warns(UserWarning, match="Duplicate"):
        target.writestr("archive/data/0", bytes(16))
    with pytest.raises(ModelError, match="is there twice"):
        PickleSource(tmp_path / "f")
