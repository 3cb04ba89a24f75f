"""What runs on a node: one process with one model, which makes the pictures that the driver orders."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Condition

from ...errors import Interrupted, ModelError, SdeditError, as_error
from ...waiting import have_them_sleep
from ..keys import Contents
from ..request import Request
from ..versions import torch_version
from ..worker import EditedPicture, Host, Late, OnStep, Preview, Task, Worker
from .messages import Introduction, Loaded, News, Order

# How long the driver waits for news of steps, in seconds: a picture that has ended is told of at once.
_OFTEN = 0.5
# How long those under way wait for company that the driver is reading yet.
_LULL = 1.0


class Station:
    """`make` gives who loads models here; `folder` is where the driver works, as paths are relative to it.

    One call is answered at a time. All work on the model is done in one thread of its own, while calls ask for news.
    """

    def __init__(self, make: Callable[[], Host], folder: str) -> None:
        have_them_sleep()  # nothing has imported torch yet
        with contextlib.suppress(OSError):  # not there: full paths are found all the same
            os.chdir(folder)
        self._host = make()
        self._worker: Worker | None = None
        self._desk = ThreadPoolExecutor(1)
        self._changed = Condition()
        self._orders: deque[Order] = deque()
        self._numbers: dict[Task, int] = {}
        self._more = False
        self._halted = False
        self._news = News()

    def introduce(self) -> Introduction:
        from ... import __version__

        return Introduction(socket.gethostname(), __version__, torch_version())

    def load(self, request: Request, contents: Mapping[str, str]) -> Loaded | SdeditError:
        """Has the model of a request here, or says why not. `contents`: the hashes of its files where the driver is."""
        return self._desk.submit(self._load, request, contents).result()

    def _load(self, request: Request, contents: Mapping[str, str]) -> Loaded | SdeditError:
        try:
            _compare(contents)  # first, as a check opens what it looks at
            self._host.check(request)
            self._worker = self._host.load(request, self._warn, lambda facts: None)
        except Exception as problem:
            return _told(problem)
        with self._changed:
            warnings, self._news.warnings = self._news.warnings, []
        return Loaded(dict(self._worker.facts), warnings)

    def exchange(self, orders: Sequence[Order], size: int | None, more: bool) -> News:
        """Takes orders, to be made `size` at a time, and gives the news as soon as there are any. `more`: whether there
        may be further ones."""
        with self._changed:
            if not self._halted:
                self._orders.extend(orders)
            self._more = more
            self._changed.notify_all()
        if orders:
            self._desk.submit(self._make, size)
        with self._changed:
            self._changed.wait_for(lambda: self._news.urgent, _OFTEN)
            news, self._news = self._news, News()
            return news

    def recall(self) -> None:
        """Gives up all that was ordered and has not been told of."""
        with self._changed:
            self._halt()
        self._desk.submit(lambda: None).result()  # behind what is under way, which ends with its next step
        with self._changed:
            self._news = News()
            self._halted = False

    def _halt(self) -> None:
        self._orders.clear()
        self._more, self._halted = False, True
        self._changed.notify_all()

    def _make(self, size: int | None) -> None:
        """Makes what is ordered until there is nothing more, or what is under way has to be given up."""
        if not self._orders:  # those before have taken all
            return
        assert self._worker is not None, "orders come after a model"
        try:
            for task, outcome in self._worker.edits(self._feed(), size):
                whole = _whole(outcome)
                with self._changed:
                    self._news.ended.append((self._numbers.pop(task), whole))
                    self._changed.notify_all()
        except Interrupted:
            self._numbers.clear()
        except Exception as problem:
            with self._changed:
                self._numbers.clear()
                self._halt()
                self._news.stopped = _told(problem)
                self._changed.notify_all()

    def _feed(self) -> Iterator[Task]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._orders or not self._more, _LULL)
                if not self._orders:
                    return
                order = self._orders.popleft()
            task = replace(order.task, on_step=self._watch(order.number))
            self._numbers[task] = order.number
            yield task

    def _watch(self, number: int) -> OnStep:
        def on_step(done: int, steps: int, preview: Preview) -> bool:
            with self._changed:
                self._news.steps[number] = (done, steps)
                return self._halted

        return on_step

    def _warn(self, text: str) -> None:
        with self._changed:
            self._news.warnings.append(text)


def contents_of(request: Request) -> dict[str, str]:
    """The hashes of the files that make a request's model what it is, by path. Raises ModelError."""
    hashes: dict[str, str] = {}
    known = Contents()

    def hash_of(path: str) -> str:
        return hashes.setdefault(path, known.hash_of(path))

    # A mask travels with its picture.
    request.edit.varied({"mask": None}).identity(hash_of)
    if request.model.path is not None:  # the built-in model is that of the version
        hash_of(str(request.model.path))
    return hashes


def _compare(contents: Mapping[str, str]) -> None:
    """Raises ModelError for a file that is another here than where the driver is."""
    known = Contents()
    for path, wanted in contents.items():
        if known.hash_of(path) != wanted:
            there = "is another file" if Path(path).exists() else "is missing"
            raise ModelError(f"{path}: {there} on this node; every node needs the driver's files at the same paths")


def _whole(outcome: EditedPicture | SdeditError) -> EditedPicture | SdeditError:
    """A picture with its bytes, or why it has none."""
    if isinstance(outcome, SdeditError) or not isinstance(outcome.data, Late):
        return outcome
    try:
        return replace(outcome, data=outcome.data.value())
    except SdeditError as problem:
        return problem


def _told(problem: Exception) -> SdeditError:
    """What was raised, as it can be sent; where it came from goes to the worker's log."""
    if not isinstance(problem, SdeditError):
        traceback.print_exception(problem, file=sys.stderr)
    error = as_error(problem)
    return type(error)(*error.args)
