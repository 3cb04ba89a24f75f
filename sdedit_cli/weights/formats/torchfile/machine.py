"""A virtual machine for pickles that imports nothing and calls nothing but the rebuilders of `pickle_policy`.

Every opcode of protocols 0 to 5 (documented by `pickletools` of the standard library) works on inert values. Work and
memory are bounded by the length of the input: lengths are checked before anything is read, operations are counted,
those that leave something behind for more than one, and bytes are made of text only as many as the file has. Nothing
of a file is hashed or compared but text, whose hash nobody can foresee: keys are text, sets are kept as lists.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, Protocol, cast, overload

from .rebuilders import build, call, resolve_global
from .values import BadPickle, Global, Placeholder, as_dict, short

OPERATION_LIMIT = 4_000_000  # 1.x weights take 34,000; with EMA weights and the state of AdamW, 116,000
_LINE_LIMIT = 4096
STOP = 0x2E
_SET = Global("builtins", "set")
_FROZEN_SET = Global("builtins", "frozenset")
# A limit of operations is one of memory (about 100 bytes each) when what leaves a container, a mark, an object or a
# name behind counts for several, and an entry of the memo for two.
_COSTLY = 4
_COSTS: dict[int, int] = {
    **dict.fromkeys(b"(]}\x8fld\x91R\x81\x92ioQ", _COSTLY),
    **dict.fromkeys(b"pqr\x94", 2),
    **dict.fromkeys(b"c\x93", 8 * _COSTLY),
}
_MEMO_GAP = 1024
_KEY_UNIT = 64  # characters of a key that are compared in the time of an operation


class Buffer(Protocol):
    def __len__(self) -> int: ...

    @overload
    def __getitem__(self, place: int, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> bytes: ...

    def find(self, sub: bytes, start: int, end: int, /) -> int: ...


PersistentLoad = Callable[[object], object]


class PickleMachine:
    """Reads the pickle that begins at `position` of `data`; afterwards `position` is behind its end."""

    def __init__(self, data: Buffer, position: int = 0, persistent_load: PersistentLoad | None = None) -> None:
        self._data = data
        self._size = len(data)
        self.position = position
        self._persistent_load = persistent_load
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._budget = OPERATION_LIMIT
        self._copyable = self._size

    def load(self) -> object:
        """The object in the pickle. Raises BadPickle for what no pickler writes, UnsafeFileError for what runs code."""
        while True:
            if self.position >= self._size:
                raise BadPickle(f"cut short: no end in {self._size} bytes")
            opcode = self._data[self.position]
            self.position += 1
            if opcode == STOP:
                return self._pop()
            operation = self.OPERATIONS.get(opcode)
            if operation is None:
                raise BadPickle(f"the unknown or refused operation 0x{opcode:02X} at byte {self.position - 1}")
            operation(self)
            self.spend(_COSTS.get(opcode, 1))

    def spend(self, amount: int) -> None:
        """Count work that a few bytes of the file can ask for again and again."""
        self._budget -= amount
        if self._budget < 0:
            raise BadPickle(
                f"more than {OPERATION_LIMIT} operations, which no weights need; load it where it "
                "was made and save the weights alone"
            )

    def copies(self, count: int) -> None:
        """Count bytes made of text of the file; a pickler makes each once."""
        self._copyable -= count
        if self._copyable < 0:
            raise BadPickle("the same bytes made again and again")

    def _key(self, value: object) -> str | None:
        """A key as text, or None for one that cannot be part of a tensor's name (a class, a tuple)."""
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            return str(value)
        if not isinstance(value, str):
            return None
        self.spend(len(value) // _KEY_UNIT)
        return value

    # Input

    def _take(self, count: int) -> bytes:
        end = self.position + count
        if end > self._size:
            raise BadPickle(f"cut short: {count} bytes wanted at byte {self.position} of {self._size}")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(width), "little", signed=signed)

    def _line(self, limit: int = _LINE_LIMIT, encoding: str = "latin1") -> str:
        end = self._data.find(b"\n", self.position, min(self.position + limit, self._size))
        if end < 0:
            raise BadPickle(f"a line without an end at byte {self.position}")
        line = self._take(end - self.position)
        self.position += 1
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            raise BadPickle(f"text with a broken escape before byte {self.position}") from None

    def _text(self, width: int) -> None:
        self._push(self._take(self._number(width)).decode("utf-8", "backslashreplace"))

    def _bytes(self, width: int) -> None:
        self._push(self._take(self._number(width)))

    def _python_2_text(self, width: int) -> None:
        self._push(self._take(self._number(width)).decode("latin1"))

    # Stack

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        if not self._stack:
            raise BadPickle(f"nothing on the stack at byte {self.position - 1}")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack:
            raise BadPickle(f"nothing on the stack at byte {self.position - 1}")
        return self._stack[-1]

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[object]:
        if not self._marks:
            raise BadPickle(f"no mark on the stack at byte {self.position - 1}")
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _pop_or_unmark(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise BadPickle(f"nothing on the stack at byte {self.position - 1}")
        items = tuple(self._stack[-count:])
        self._stack[-count:] = [items]

    def _remember(self, place: int) -> None:
        # Picklers count upwards; places as the file likes could be chosen to collide in the dictionary.
        if not 0 <= place <= len(self._memo) + _MEMO_GAP:
            raise BadPickle(f"something to remember as {short(place)}")
        self._memo[place] = self._top()

    def _recall(self, place: int) -> None:
        if place not in self._memo:
            raise BadPickle(f"nothing remembered as {short(place)}")
        self._push(self._memo[place])

    # Numbers

    def _integer_line(self, *, long: bool) -> None:
        text = self._line()
        if not long and text in ("00", "01"):
            self._push(text == "01")
            return
        self._push(_parse(int, text.rstrip("L"), len(text) < 1000))

    def _float_line(self) -> None:
        text = self._line()
        self._push(_parse(float, text, len(text) < 1000))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def _long(self, width: int) -> None:
        length = self._number(width, signed=width == 4)
        if not 0 <= length <= 1024:
            raise BadPickle(f"an integer of {length} bytes")
        self._push(self._number(length, signed=True))

    def _persistent(self) -> None:
        if self._persistent_load is None:
            raise BadPickle("a reference to something outside the pickle")
        self._push(self._persistent_load(self._pop()))

    def _textual_reference(self) -> None:
        raise BadPickle(
            "references as text (pickle protocol 0), which torch does not read either: save with protocol 2"
        )

    # Containers

    def _append(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            cast("list[object]", target).extend(items)
        elif isinstance(target, Placeholder):
            target.items.extend(items)
        else:
            raise BadPickle(f"items for {short(target)}")

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        entries = target.entries if isinstance(target, Placeholder) else as_dict(target)
        if entries is None or len(items) % 2:
            raise BadPickle(f"entries for {short(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = self._key(key)
            if name is not None:
                entries[name] = value

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _add_items(self) -> None:
        items = self._since_mark()
        target = self._top()
        if isinstance(target, Placeholder):
            target.items.extend(items)
        else:
            raise BadPickle(f"members for {short(target)}")

    def _dict_since_mark(self) -> None:
        items = self._since_mark()
        self._push({})
        self._set_items(items)

    def _frozen_set(self) -> None:
        self._push(Placeholder(_FROZEN_SET, items=self._since_mark()))

    # Names and calls

    def _global_lines(self) -> None:
        module = self._line()
        self._push(resolve_global(module, self._line()))

    def _global_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise BadPickle("a name that is not text")
        self._push(resolve_global(module, name))

    def _reduce(self) -> None:
        args = self._pop()
        self._push(call(self, self._pop(), args))

    def _new(self) -> None:
        keywords, args = self._pop(), self._pop()
        made = call(self, self._pop(), args)
        if isinstance(made, Placeholder):
            made.state = keywords
        self._push(made)

    def _instance(self) -> None:
        """INST: the class is named in the stream, the arguments are since the mark."""
        module = self._line()
        target = resolve_global(module, self._line())
        self._push(call(self, target, tuple(self._since_mark())))

    def _object(self) -> None:
        """OBJ: the class is the first thing since the mark."""
        items = self._since_mark()
        if not items:
            raise BadPickle("an object without a class")
        self._push(call(self, items[0], tuple(items[1:])))

    def _build(self) -> None:
        state = self._pop()
        build(self._top(), state)

    # By the byte that stands for the operation; EXT1-4 (a registry of classes) and out-of-band buffers are not there.
    OPERATIONS: ClassVar[dict[int, Callable[[PickleMachine], object]]] = {
        0x80: lambda m: m._take(1),
        0x95: lambda m: m._take(8),
        0x28: _mark,
        0x30: _pop_or_unmark,
        0x31: _since_mark,
        0x32: lambda m: m._push(m._top()),
        0x4E: lambda m: m._push(None),
        0x88: lambda m: m._push(True),
        0x89: lambda m: m._push(False),
        0x49: lambda m: m._integer_line(long=False),
        0x4C: lambda m: m._integer_line(long=True),
        0x4A: lambda m: m._push(m._number(4, signed=True)),
        0x4B: lambda m: m._push(m._number(1)),
        0x4D: lambda m: m._push(m._number(2)),
        0x8A: lambda m: m._long(1),
        0x8B: lambda m: m._long(4),
        0x46: _float_line,
        0x47: _float,
        0x53: lambda m: m._push(m._line(m._size, "unicode_escape").strip("'\"")),
        0x54: lambda m: m._python_2_text(4),
        0x55: lambda m: m._python_2_text(1),
        0x42: lambda m: m._bytes(4),
        0x43: lambda m: m._bytes(1),
        0x8E: lambda m: m._bytes(8),
        0x96: lambda m: m._bytes(8),
        0x56: lambda m: m._push(m._line(m._size, "raw_unicode_escape")),
        0x58: lambda m: m._text(4),
        0x8C: lambda m: m._text(1),
        0x8D: lambda m: m._text(8),
        0x5D: lambda m: m._push([]),
        0x7D: lambda m: m._push({}),
        0x29: lambda m: m._push(()),
        0x8F: lambda m: m._push(Placeholder(_SET)),
        0x6C: lambda m: m._push(m._since_mark()),
        0x64: _dict_since_mark,
        0x74: lambda m: m._push(tuple(m._since_mark())),
        0x85: lambda m: m._tuple(1),
        0x86: lambda m: m._tuple(2),
        0x87: lambda m: m._tuple(3),
        0x91: _frozen_set,
        0x61: lambda m: m._append([m._pop()]),
        0x65: lambda m: m._append(m._since_mark()),
        0x73: _set_item,
        0x75: lambda m: m._set_items(m._since_mark()),
        0x90: _add_items,
        0x70: lambda m: m._remember(cast(int, _parse(int, m._line(), True))),
        0x71: lambda m: m._remember(m._number(1)),
        0x72: lambda m: m._remember(m._number(4)),
        0x94: lambda m: m._remember(len(m._memo)),
        0x67: lambda m: m._recall(cast(int, _parse(int, m._line(), True))),
        0x68: lambda m: m._recall(m._number(1)),
        0x6A: lambda m: m._recall(m._number(4)),
        0x63: _global_lines,
        0x93: _global_stack,
        0x52: _reduce,
        0x81: _reduce,  # NEWOBJ: a call of the class, as far as we are concerned
        0x92: _new,
        0x69: _instance,
        0x6F: _object,
        0x62: _build,
        0x50: _textual_reference,
        0x51: _persistent,
    }


def _parse(kind: Callable[[str], object], text: str, brief: bool) -> object:
    try:
        if brief:
            return kind(text)
    except ValueError:
        pass
    raise BadPickle(f"the number {text[:20]!r}")
