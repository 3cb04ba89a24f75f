"""The `Worker` that is a crew: tasks go out to whoever has least to do, bounded, and come back as they end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import InternalError, OutOfMemory, SdeditError, WorkerLost
from ..worker import EditedPicture, Task
from .crew import Crew, Member, Stage
from .messages import News, Order

if TYPE_CHECKING:
    from PIL import Image

# How many workers may be lost at one picture.
_ATTEMPTS = 3
# After how many it is made alone, so that it takes no others with it.
_COMPANY = 2

_Ended = tuple[Task, "EditedPicture | SdeditError"]


class RayWorker:
    """One model, loaded at every worker of a crew. See `batch.worker.Worker`."""

    def __init__(self, crew: Crew, facts: Mapping[str, Any]) -> None:
        self.facts = facts
        self._crew = crew
        self._warned: set[str] = set()

    def edits(
        self, tasks: Iterable[Task], size: int | None = None
    ) -> Iterator[tuple[Task, EditedPicture | SdeditError]]:
        """See `Worker.edits`. Each worker takes `size` at a time, so the bytes do not depend on how many there are."""
        self._crew.recall()  # of the last time, when it was left in the middle
        return _Round(self._crew, iter(tasks), size, self._warn).ended()

    def _warn(self, text: str) -> None:
        if text not in self._warned:  # each worker says it
            self._warned.add(text)
            self._crew.warn(text)


class _Round:
    """The tasks of one call of `edits`, from the first that is taken to the last that ends."""

    def __init__(self, crew: Crew, tasks: Iterator[Task], size: int | None, warn: Any) -> None:
        self._crew = crew
        self._tasks = tasks
        self._size = size
        self._warn = warn
        self._next = next(tasks, None)
        self._again: deque[Order] = deque()
        self._suspects: deque[Order] = deque()
        self._under_way: dict[int, Task] = {}
        self._told: dict[int, int] = {}
        self._losses: Counter[int] = Counter()
        # Enough for a company without guidance, whose pictures take half of the room, and one that waits.
        self._limit = 2 * (size or 1) + 1 if size else 2

    def ended(self) -> Generator[_Ended, None, None]:
        while True:
            self._hand_out()
            if not self._under_way and self._next is None:
                return
            for member, answer in self._crew.answers():
                if answer is None:
                    yield from self._lost(member)
                elif isinstance(answer, SdeditError):  # one that came later has no model
                    self._warn(f"a new worker on {member.node} cannot help: {answer}")
                else:
                    yield from self._heard(member, answer)

    def _hand_out(self) -> None:
        """Gives what is to be done to those who have least to do, and asks all who have something for news."""
        free = [member for member in self._crew.members if member.stage is Stage.READY]
        given: dict[Member, list[Order]] = {member: [] for member in free}
        for member in free:
            if self._suspects and not member.orders:
                given[member].append(self._suspects.popleft())
        # Whoever has a suspect gets nothing beside it.
        open_ = [member for member in free if not any(map(self._suspected, [*member.orders, *_numbers(given[member])]))]

        def load(member: Member) -> int:
            return len(member.orders) + len(given[member])

        while open_ and load(least := min(open_, key=load)) < self._limit and (order := self._order()):
            given[least].append(order)
        more = self._next is not None or bool(self._again)
        for member, orders in given.items():
            if orders or member.orders:
                self._crew.give(member, orders, self._size, more=more and member in open_)

    def _suspected(self, number: int) -> bool:
        return self._losses[number] >= _COMPANY

    def _order(self) -> Order | None:
        if self._again:
            return self._again.popleft()
        task, number = self._next, len(self._told)
        if task is None:
            return None
        self._next = next(self._tasks, None)
        self._under_way[number], self._told[number] = task, 0
        return Order(number, replace(task, on_step=None))

    def _heard(self, member: Member, news: News) -> Iterator[_Ended]:
        for text in news.warnings:
            self._warn(text)
        for number, (done, steps) in news.steps.items():
            self._tell(number, done, steps)
        for number, outcome in news.ended:
            del member.orders[number]
            yield self._under_way.pop(number), outcome
        if news.stopped is not None:
            yield from self._stopped(member, news.stopped)

    def _tell(self, number: int, done: int, steps: int) -> None:
        """Tells of the steps since the last news."""
        on_step = self._under_way[number].on_step
        for step in range(self._told[number] + 1, done + 1):
            if on_step is not None:
                on_step(step, steps, _NoPreview())
        self._told[number] = max(done, self._told[number])

    def _stopped(self, member: Member, problem: SdeditError) -> Iterator[_Ended]:
        """Of a worker without enough memory one picture fails where each is made alone; else all begin anew, fewer at a
        time. Raises OutOfMemory then, and whatever else stopped it."""
        if not isinstance(problem, OutOfMemory) or self._size not in (None, 1):
            raise problem
        (first, *others) = member.orders.values()
        self._again.extend(others)
        self._crew.recall(member)
        yield self._under_way.pop(first.number), problem

    def _lost(self, member: Member) -> Iterator[_Ended]:
        """What a lost worker had goes to others, but for what took too many with it."""
        for number, order in member.orders.items():
            self._losses[number] += 1
            if self._losses[number] < _ATTEMPTS:
                (self._suspects if self._suspected(number) else self._again).append(order)
                continue
            yield (
                self._under_way.pop(number),
                WorkerLost(
                    f"{order.task.name}: {_ATTEMPTS} workers were lost while they had it; "
                    "their logs ('ray logs', or /tmp/ray on their machines) may say why"
                ),
            )


def _numbers(orders: Iterable[Order]) -> list[int]:
    return [order.number for order in orders]


class _NoPreview:
    """Pictures on their way stay where they are."""

    def __call__(self) -> list[Image.Image]:
        return []

    def glimpse(self) -> Callable[[], Image.Image]:
        raise InternalError("a picture on another machine cannot be looked at")

    def sketch(self) -> Image.Image:
        return self.glimpse()()
