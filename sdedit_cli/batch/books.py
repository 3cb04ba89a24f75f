"""The ledger of a batch: what its run does goes into the journal before the next thing happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ..disk.stamps import NOWHERE, Stamp, stamp_of
from ..errors import SdeditError
from .journal import Entry, Journal, Known, known_after, text_of
from .keys import key_of
from .ledger import Ledger
from .targets import Job, Target


@dataclass(frozen=True, slots=True)
class Account:
    """What the journal is to say of an output besides what happens to it. `input_stamp` is of before it was read: who
    writes the input meanwhile makes another one."""

    key: str
    facts: Mapping[str, str]
    input: str
    input_stamp: Stamp


def name_of(folder: Path | str, output: Path) -> str:
    """How the journal of a destination calls an output."""
    root, path = os.path.join(folder, ""), os.fspath(output)
    inside = path[len(root) :] if path.startswith(root) else os.path.relpath(path, folder)
    return inside if os.sep == "/" else PurePath(inside).as_posix()


class Books(Ledger):
    """Keeps the journal of a destination, and `known` up to it; `accounts` are by the names of outputs."""

    def __init__(self, journal: Journal, folder: Path, known: dict[str, Known], torch: str) -> None:
        self.accounts: dict[str, Account] = {}
        self.known = known
        self._journal = journal
        self._lock = threading.Lock()
        self._folder = folder
        self._environment: dict[str, Any] = {"torch": torch}
        self._intent = Entry("intent", "?")
        self._done: dict[str, Account] = {}

    def loaded(self, facts: Mapping[str, Any]) -> None:
        told = {name: facts.get(name) for name in ("device", "dtype", "threads", "backend")}
        self._environment = {**self._environment, **told}

    def shaped(self, pictures: int) -> None:
        self._environment = {**self._environment, "together": pictures}

    def intends(self, target: Target, sha256: str, input_sha256: str) -> None:
        assert target.path is not None, "a batch writes files"
        output = name_of(self._folder, target.path)
        account = self.accounts[output]
        in_place = self._is_in_place(output)
        key, facts, stamp = account.key, account.facts, account.input_stamp
        # Who writes the input meanwhile has another picture made. One edited in its place counts by what was first, for
        # all that is made of it.
        if input_sha256 != facts.get("input") and not self._is_edited_in_place(account.input):
            facts = {**facts, "input": input_sha256}
            key, stamp = key_of(facts), NOWHERE
        self._intent = Entry(
            "intent",
            output,
            key=key,
            sha256=sha256,
            input=account.input,
            input_sha256=input_sha256,
            in_place=in_place,
            input_stamp=stamp,
            facts=facts,
            environment=self._environment,
        )
        self._add(self._intent)

    def _is_in_place(self, output: str) -> bool:
        return os.path.realpath(self.accounts[output].input) == os.path.realpath(self._folder / output)

    def _is_edited_in_place(self, source: str) -> bool:
        return any(one.input == source and self._is_in_place(output) for output, one in self.accounts.items())

    def did(self, target: Target, sha256: str, seconds: float, safety: str) -> None:
        assert target.path is not None, "a batch writes files"
        stamp = stamp_of(target.path)
        self._add(replace(self._intent, event="done", output_stamp=stamp, seconds=round(seconds, 3), safety=safety))
        self._done[self._intent.output] = self.accounts[self._intent.output]

    def failed(self, job: Job, error: SdeditError) -> None:
        text = text_of(error)
        outputs = [name_of(self._folder, target.path) for target in job.targets if target.path is not None]
        for output in outputs:
            account = self.accounts[output]
            if self._done.get(output) is not account:  # of several pictures of a job, some are made
                self._add(Entry("failed", output, key=account.key, error=text, word=error.word))

    def _add(self, entry: Entry) -> None:
        with self._lock:  # a thread writes pictures while another finds that some cannot be made
            entry = self._journal.add(entry)
            self.known[entry.output] = known_after(self.known.get(entry.output), entry)
