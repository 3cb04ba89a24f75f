"""Models whose workers come to harm as prompts say: for tests of what runs in other processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from sdedit_cli.batch.request import Request
from sdedit_cli.batch.worker import EditedPicture, Task, Worker
from sdedit_cli.cli.host import Models
from sdedit_cli.errors import OutOfMemory, SdeditError

DEADLY, HUGE = "deadly", "huge"
MOST = 2  # pictures at a time


class _Fragile:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.facts: Mapping[str, Any] = worker.facts

    def edits(
        self, tasks: Iterable[Task], size: int | None = None
    ) -> Iterator[tuple[Task, EditedPicture | SdeditError]]:
        given: dict[Task, Task] = {}
        for task, outcome in self._worker.edits(_harmful(tasks, size, given), size):
            yield given.pop(task), outcome


def _harmful(tasks: Iterable[Task], size: int | None, given: dict[Task, Task]) -> Iterator[Task]:
    for task in tasks:
        if task.edit.prompt == DEADLY:
            os._exit(1)
        if (size or 1) > MOST:
            raise _too_much(task)
        harmful = replace(task, on_step=partial(_no_memory, task)) if task.edit.prompt == HUGE else task
        given[harmful] = task
        yield harmful


def _no_memory(task: Task, *_: object) -> None:
    raise _too_much(task)


def _too_much(task: Task) -> OutOfMemory:
    return OutOfMemory(f"{task.name}: needs more memory than there is")


class FragileModels(Models):
    """A worker dies of a picture whose prompt is `DEADLY`, and has no memory for `HUGE` or for more than `MOST`."""

    def load(self, request: Request, warn: Callable[[str], None], loaded: Callable[[Mapping[str, Any]], None]) -> Any:
        return _Fragile(super().load(request, warn, loaded))


def fragile_models() -> FragileModels:
    return FragileModels(lambda text: None)


def models_elsewhere() -> Models:
    """Sound models, of a worker that is not in the folder where the driver is."""
    os.chdir("elsewhere")
    return Models(lambda text: None)
