"""Work beside the work: inputs got ready ahead, outputs written behind; bounded, in order, and nothing is lost."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import pytest

from sdedit_cli import signals
from sdedit_cli.batch.ahead import Ahead
from sdedit_cli.batch.writing import Writing
from sdedit_cli.pictures.quiet import quiet


def test_what_is_made_ahead_comes_in_order_with_the_errors_in_their_places() -> None:
    def make(number: int) -> int:
        if number % 3 == 2:
            raise ValueError(number)
        return number * 10

    found = list(Ahead(range(20), make, 4))
    assert [thing for thing, _ in found] == list(range(20))
    assert [outcome for _, outcome in found if isinstance(outcome, int)] == [n * 10 for n in range(20) if n % 3 != 2]
    assert all(isinstance(outcome, ValueError) and outcome.args == (n,) for n, outcome in found if n % 3 == 2)


def test_no_more_is_made_ahead_than_was_said_nor_after_the_end() -> None:
    made: list[int] = []
    most = 3
    filled = threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if len(made) == most + 1:
            filled.set()
        return number

    ahead = Ahead(range(1000), make, most)
    assert filled.wait(60)
    taken = 0
    for _ in ahead:
        taken += 1
        assert len(made) <= taken + most + 1, "those that wait, and the one in hand"
        if taken == 10:
            break
    ahead.close()
    ahead._thread.join(60)
    assert not ahead._thread.is_alive()
    assert len(made) <= taken + most + 1


def test_what_is_written_behind_is_told_once_with_the_errors_of_their_things() -> None:
    written: list[int] = []
    told: list[tuple[int, str]] = []

    def write(number: int) -> str:
        written.append(number)
        if number == 5:
            raise OSError("full")
        return f"{number}.png"

    def hear(number: int, outcome: str | BaseException) -> None:
        told.append((number, str(outcome)))

    work = Writing(write, hear, 2)
    for number in range(10):
        work.give(number)
        assert work.pending <= 2
    work.close()
    assert written == list(range(10))
    assert told == [(n, "full" if n == 5 else f"{n}.png") for n in range(10)]
    assert not [thread for thread in threading.enumerate() if thread.name == "writing"]


def test_who_is_told_may_raise_and_the_others_are_told_before_it_comes_out() -> None:
    told: list[int] = []

    def hear(number: int, outcome: object) -> None:
        told.append(number)
        if number == 1:
            raise RuntimeError("the first failure ends it")

    work = Writing(lambda number: number, hear, 100)
    for number in range(4):
        work.give(number)
    with pytest.raises(RuntimeError):
        work.close()
    assert told == [0, 1, 2, 3]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_signal_while_something_is_written_loses_nothing() -> None:
    told: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def write(number: int) -> int:
        begun.set()
        assert go.wait(60)
        return number

    work = Writing(write, lambda number, _: told.append(number), 0)

    def interrupt() -> None:
        assert begun.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)

    with signals.stoppable():
        sender = threading.Thread(target=interrupt)
        sender.start()
        with pytest.raises(signals.Stop):
            work.give(1)  # waits for it to be written
        sender.join()
        go.set()
        with pytest.raises(signals.Stop), signals.held():
            work.close()
    assert told == [1]


def test_quiet_is_of_one_thread() -> None:
    inside, checked = threading.Event(), threading.Event()
    heard: list[str] = []

    def other() -> None:
        with quiet():
            inside.set()
            assert checked.wait(60)
            warnings.warn("of a reader", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(60)
        warnings.warn("of the main thread", UserWarning, stacklevel=1)
        checked.set()
        thread.join()
        heard += [str(one.message) for one in caught]
    assert heard == ["of the main thread"]
