"""A virtual machine for pickles that imports nothing and calls nothing but our own rebuilders.

Every operation of protocols 0 to 5 (documented by `pickletools` of the standard library) works on inert values. Work
and memory are bounded by the length of the input: operations are counted, those that leave something behind for more
than one, and bytes are made of text only as many as the file has. Nothing of a file is hashed or compared but text,
whose hash nobody can foresee: keys are text, sets are kept as lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from .budget import Budget
from .opcodes import PickleStream
from .rebuilders import build, call, resolve_global
from .values import BadPickle, Global, Placeholder, as_dict, short

_SET = Global("builtins", "set")
_FROZEN_SET = Global("builtins", "frozenset")
# A limit of operations is one of memory (about 100 bytes each) when what leaves a container, a mark, an object or a
# name behind counts for several, and an entry of the memo for two.
_COSTLY = 4
_MEMO_GAP = 1024
_KEY_UNIT = 64  # characters of a key that are compared in the time of an operation
_BIT_LIMIT = 8 * 1024

# Operations whose argument is the value that they push.
_VALUES = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
"""
_REFUSED = {
    "PERSID": "references as text (pickle protocol 0), which torch does not read either: save with protocol 2",
}

PersistentLoad = Callable[[object], object]


class PickleMachine:
    """Reads the next pickle of a stream, and leaves the stream behind its end."""

    def __init__(self, stream: PickleStream, persistent_load: PersistentLoad | None = None) -> None:
        self._stream = stream
        self._persistent_load = persistent_load
        self._stack: list[object] = []
        self._marks: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._budget = Budget(stream.size)

    def load(self) -> object:
        """The object in the pickle. Raises BadPickle for what no pickler writes, UnsafeFileError for what runs code."""
        for name, argument in self._stream.operations():
            if name not in self.OPERATIONS:
                raise BadPickle(_REFUSED.get(name, f"the operation {name}, which no weights need"))
            cost, operation = self.OPERATIONS[name]
            self._budget.spend(cost)
            operation(self, argument)
        return self._pop()

    # Stack

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _push_decoded(self, value: object) -> None:
        if isinstance(value, int) and value.bit_length() > _BIT_LIMIT:
            raise BadPickle(f"an integer of {value.bit_length()} bits")
        if isinstance(value, str) and not value.isascii():  # halves of characters cannot be printed or written
            value = value.encode("utf-8", "backslashreplace").decode("utf-8")
        self._push(bytes(value) if isinstance(value, bytearray) else value)

    def _pops(self, count: int) -> list[object]:
        """The last `count` values, in the order in which they were pushed."""
        if len(self._stack) < count:
            raise BadPickle(f"nothing on the stack before byte {self._stream.tell()}")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _pop(self) -> object:
        return self._pops(1)[0]

    def _top(self) -> object:
        self._stack += (value := self._pops(1))
        return value[0]

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[object]:
        if not self._marks:
            raise BadPickle(f"no mark on the stack before byte {self._stream.tell()}")
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _remember(self, place: int) -> None:
        # Picklers count upwards; places as the file likes could be chosen to collide in the dictionary.
        if not 0 <= place <= len(self._memo) + _MEMO_GAP:
            raise BadPickle(f"something to remember as {short(place)}")
        self._memo[place] = self._top()

    def _recall(self, place: int) -> None:
        if place not in self._memo:
            raise BadPickle(f"nothing remembered as {short(place)}")
        self._push(self._memo[place])

    # Containers

    def _append(self, items: list[object]) -> None:
        target = self._top()
        if isinstance(target, list):
            cast("list[object]", target).extend(items)
        elif isinstance(target, Placeholder):
            target.items.extend(items)
        else:
            raise BadPickle(f"items for {short(target)}")

    def _key(self, value: object) -> str | None:
        """A key as text, or None for one that cannot be part of a tensor's name (a class, a tuple)."""
        if isinstance(value, int) and -(2**63) <= value < 2**64:
            return str(value)
        if not isinstance(value, str):
            return None
        self._budget.spend(len(value) // _KEY_UNIT)
        return value

    def _set_items(self, items: list[object]) -> None:
        target = self._top()
        entries = target.entries if isinstance(target, Placeholder) else as_dict(target)
        if entries is None or len(items) % 2:
            raise BadPickle(f"entries for {short(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            name = self._key(key)
            if name is not None:
                entries[name] = value

    def _dict(self) -> None:
        items = self._since_mark()
        self._push({})
        self._set_items(items)

    # Names and calls

    def _global(self, names: Sequence[object]) -> None:
        module, name = names
        if not isinstance(name, str) or not isinstance(module, str):
            raise BadPickle("a name that is not text")
        self._push(resolve_global(module, name))

    def _call(self, target: object, args: object, keywords: object = None) -> None:
        made = call(self._budget, target, args)
        if keywords is not None and isinstance(made, Placeholder):
            made.state = keywords
        self._push(made)

    def _instance(self, names: str) -> None:
        """INST: the class is named in the stream, the arguments are since the mark."""
        self._global(names.split(" ", 1))
        target = self._pop()
        self._call(target, tuple(self._since_mark()))

    def _object(self) -> None:
        """OBJ: the class is the first thing since the mark."""
        items = self._since_mark()
        if not items:
            raise BadPickle("an object without a class")
        self._call(items[0], tuple(items[1:]))

    def _build(self) -> None:
        state = self._pop()
        build(self._top(), state)

    def _persistent(self) -> None:
        if self._persistent_load is None:
            raise BadPickle("a reference to something outside the pickle")
        self._push(self._persistent_load(self._pop()))

    # What each operation costs, and does with its argument.
    OPERATIONS: ClassVar[dict[str, tuple[int, Callable[[PickleMachine, Any], object]]]] = {
        **dict.fromkeys(("PROTO", "FRAME", "STOP"), (1, lambda m, _: None)),
        **dict.fromkeys(_VALUES.split(), (1, _push_decoded)),
        "NONE": (1, lambda m, _: m._push(None)),
        "NEWTRUE": (1, lambda m, _: m._push(True)),
        "NEWFALSE": (1, lambda m, _: m._push(False)),
        "EMPTY_TUPLE": (1, lambda m, _: m._push(())),
        "EMPTY_LIST": (_COSTLY, lambda m, _: m._push([])),
        "EMPTY_DICT": (_COSTLY, lambda m, _: m._push({})),
        "EMPTY_SET": (_COSTLY, lambda m, _: m._push(Placeholder(_SET))),
        "MARK": (_COSTLY, lambda m, _: m._mark()),
        "POP": (1, lambda m, _: m._pop() if m._stack else m._since_mark()),
        "POP_MARK": (1, lambda m, _: m._since_mark()),
        "DUP": (1, lambda m, _: m._push(m._top())),
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), (2, _remember)),
        "MEMOIZE": (2, lambda m, _: m._remember(len(m._memo))),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), (1, _recall)),
        "TUPLE1": (1, lambda m, _: m._push(tuple(m._pops(1)))),
        "TUPLE2": (1, lambda m, _: m._push(tuple(m._pops(2)))),
        "TUPLE3": (1, lambda m, _: m._push(tuple(m._pops(3)))),
        "TUPLE": (1, lambda m, _: m._push(tuple(m._since_mark()))),
        "LIST": (_COSTLY, lambda m, _: m._push(m._since_mark())),
        "DICT": (_COSTLY, lambda m, _: m._dict()),
        "FROZENSET": (_COSTLY, lambda m, _: m._push(Placeholder(_FROZEN_SET, items=m._since_mark()))),
        "APPEND": (1, lambda m, _: m._append(m._pops(1))),
        **dict.fromkeys(("APPENDS", "ADDITEMS"), (1, lambda m, _: m._append(m._since_mark()))),
        "SETITEM": (1, lambda m, _: m._set_items(m._pops(2))),
        "SETITEMS": (1, lambda m, _: m._set_items(m._since_mark())),
        "GLOBAL": (8 * _COSTLY, lambda m, names: m._global(names.split(" ", 1))),
        "STACK_GLOBAL": (8 * _COSTLY, lambda m, _: m._global(m._pops(2))),
        # NEWOBJ is a call of the class, as far as we are concerned.
        **dict.fromkeys(("REDUCE", "NEWOBJ"), (_COSTLY, lambda m, _: m._call(*m._pops(2)))),
        "NEWOBJ_EX": (_COSTLY, lambda m, _: m._call(*m._pops(3))),
        "OBJ": (_COSTLY, lambda m, _: m._object()),
        "INST": (_COSTLY, _instance),
        "BUILD": (1, lambda m, _: m._build()),
        "BINPERSID": (_COSTLY, lambda m, _: m._persistent()),
    }
