"""What a batch has done, in lines that are only ever added: `DEST/.sdedit/journal.jsonl`.

    {"event": "intent", "output": "a/b.png", "key": ..., "sha256": ...}     before a file gets its name
    {"event": "done", "output": "a/b.png", "key": ..., "sha256": ..., "facts": {...}, ...}
    {"event": "failed", "output": "a/b.png", "key": ..., "error": ..., "word": ...}
    {"event": "pruned", "output": "a/b.png"}

Lines count up (`n`), over all journals of a destination; the last line of an output counts. Each is on the disk before
the next thing happens, so that after a kill at any moment the outputs and the lines agree: an intent without an end is
settled by the hash of the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from ..disk.own import check_own, open_own
from ..disk.stamps import NOWHERE, Stamp
from ..disk.whole import cannot_write
from ..errors import OutputError, first_line, shortened, shown
from .garbage import uncollected

FOLDER = ".sdedit"
PLACED = ("done", "intent")  # the events after which a file may be there
SCHEMA = 1
_MOST_BYTES = 2 << 30
_LONGEST_LINE = 1 << 20  # bytes; what is longer is none of ours, and read in pieces
_SHORTEST = len('{"event":"x","output":"y"}')
_LONGEST_ERROR = 1000  # characters
_LARGEST = 1 << 62  # of a number that means something
_INTENT, _DONE = (f'{{"v": {SCHEMA}, "event": "{event}", "output": '.encode() for event in ("intent", "done"))
_TEXTS = ("event", "output", "key", "sha256", "input", "input_sha256", "error", "word", "safety")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of an output. `facts` tell by parts what its key was made of; `in_place`: it was its own
    input, whose path counted from where the command was given; `safety`: what the checker said (`ledger.safety_of`)."""

    event: str
    output: str
    n: int = 0
    key: str = ""
    sha256: str = ""
    input: str = ""
    input_sha256: str = ""
    in_place: bool = False
    input_stamp: Stamp = NOWHERE
    output_stamp: Stamp = NOWHERE
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, Any] = field(default_factory=dict[str, Any])
    seconds: float = 0.0
    safety: str = ""
    error: str = ""
    word: str = ""


_WRITTEN = (*(name for name in Entry.__slots__ if name != "n"), "n")


def text_of(error: object) -> str:
    """What a journal says of an error: its first line, which may quote what a list says at any length, in short."""
    return shown(first_line(error), _LONGEST_ERROR)


@dataclass(frozen=True, slots=True)
class Known:
    """What all journals say of an output: the last entry, the hashes of all that was ever written to it, and where the
    last entry places nothing there (a try that failed), the last `before` it that does."""

    last: Entry
    written: frozenset[str]
    before: Entry | None = None

    @property
    def placed(self) -> Entry | None:
        """Of what was last placed there; None where nothing was, or it was pruned."""
        if self.last.event == "pruned":
            return None
        return self.last if self.last.event in PLACED else self.before


def known_after(known: Known | None, entry: Entry) -> Known:
    """What is known of an output when an entry is added to what was."""
    written = known.written if known else frozenset[str]()
    return Known(entry, written | {entry.sha256} if entry.sha256 else written, known.placed if known else None)


@uncollected()
def read_all(folder: Path) -> dict[str, Known]:
    """What is known of each output of a destination, from all its journals. Lines that are none are passed over.

    A line is half there when a machine lost power while it was written; nothing had happened yet. Raises OutputError
    for a journal that cannot be read.
    """
    last: dict[str, tuple[int, dict[str, Any]]] = {}
    placed: dict[str, tuple[int, dict[str, Any]]] = {}
    pruned: dict[str, int] = {}
    written: dict[str, set[str]] = {}
    for path in journals_of(folder):
        for table in _tables(path):
            output, number = table["output"], table.get("n")
            n = number if isinstance(number, int) and abs(number) < _LARGEST else 0
            if output not in last or n >= last[output][0]:
                last[output] = (n, table)
            if table["event"] == "pruned":
                pruned[output] = max(n, pruned.get(output, n))
            if table["event"] in PLACED:
                written.setdefault(output, set()).add(table.get("sha256", ""))
                if output not in placed or n >= placed[output][0]:
                    placed[output] = (n, table)
    there = {output: entry for output, entry in placed.items() if output not in pruned or entry[0] > pruned[output]}
    return {
        output: Known(
            _entry(n, table),
            frozenset(written.get(output, ())),
            None if table["event"] in PLACED or output not in there else _entry(*there[output]),
        )
        for output, (n, table) in last.items()
    }


def journals_of(folder: Path) -> list[Path]:
    """The journals of a destination: its own, and those of shards. Raises OutputError where nobody may look."""
    place = folder / FOLDER
    try:
        names = os.listdir(place)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:
        raise OutputError(f"{shortened(place)}: cannot be read ({problem.strerror})") from None
    return sorted(place / name for name in names if name.startswith("journal") and name.endswith(".jsonl"))


def _tables(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal that tell of an output."""
    check_own(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise OutputError(f"{path}: has more than {_MOST_BYTES:,} bytes; move it away to begin anew")
        with path.open("rb") as file:  # a line at a time: all at once would take many times their bytes
            yield from _told(iter(lambda: file.readline(_LONGEST_LINE), b""))
    except OSError as problem:
        raise OutputError(f"{path}: cannot be read ({problem.strerror})") from None


def _told(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """What lines tell of outputs."""
    held = b""
    for line in lines:
        if len(line) < _SHORTEST:
            continue
        # Most intents are carried out by the next line, which says all that they say, and are not read.
        is_intent = line.startswith(_INTENT)
        told = None if is_intent else _table(line)
        if held and not (told and _carries_out(line, held)) and (intent := _table(held)):
            yield intent
        held = line if is_intent else b""
        if told:
            yield told
    if held and (intent := _table(held)):
        yield intent


def _carries_out(line: bytes, intent: bytes) -> bool:
    same = intent[len(_INTENT) : intent.find(b', "input": ')]
    return line.startswith(_DONE) and line.startswith(same + b', "input": ', len(_DONE))


def _table(line: bytes) -> dict[str, Any] | None:
    try:
        told: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    table = cast("dict[str, Any]", told)
    if not table.get("event") or not table.get("output"):
        return None
    return table if all(isinstance(table.get(name, ""), str) for name in _TEXTS) else None


def _entry(n: int, table: dict[str, Any]) -> Entry:
    facts, environment, seconds = table.get("facts", {}), table.get("environment", {}), table.get("seconds", 0.0)
    return Entry(
        **{name: table.get(name, "") for name in _TEXTS},
        n=n,
        in_place=table.get("in_place") is True,
        input_stamp=_stamp(table.get("input_stamp")),
        output_stamp=_stamp(table.get("output_stamp")),
        facts=cast("dict[str, str]", facts) if isinstance(facts, dict) else {},
        environment=cast("dict[str, Any]", environment) if isinstance(environment, dict) else {},
        seconds=float(seconds) if isinstance(seconds, (int, float)) and abs(seconds) < _LARGEST else 0.0,
    )


def _stamp(value: object) -> Stamp:
    items = cast("list[Any]", value) if isinstance(value, list) else []
    known = len(items) == len(NOWHERE) and all(isinstance(item, int) for item in items)
    return cast("Stamp", tuple(items)) if known else NOWHERE


def _line(entry: Entry) -> bytes:
    told = {name: value for name in _WRITTEN if (value := getattr(entry, name)) not in ("", NOWHERE, {}, 0.0)}
    return json.dumps({"v": SCHEMA, **told}, default=dict).encode("ascii") + b"\n"


class JournalLost(OutputError):
    """What is done from now on could be told to nobody: the run ends."""


class Journal:
    """A journal that is added to; `n` is that of the last line of the destination so far."""

    def __init__(self, path: Path, n: int) -> None:
        self._path = path
        self._n = n
        self._torn = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)
            # What a power cut left of a line must not become the beginning of the next one.
            self._end = self._file.tell()
            self._torn = self._end > 0 and not _ends_in_line(path)
            # Some mounts give a name and an open file different numbers.
            self._has_identity = self._is(os.stat(path))
        except OSError as problem:
            raise cannot_write(path, problem) from None

    def add(self, entry: Entry) -> Entry:
        """Writes a line, and returns when it is on the disk: the entry with its number. Raises OutputError."""
        return self.add_all([entry])[0]

    def add_all(self, entries: Sequence[Entry]) -> list[Entry]:
        """As `add`, of entries between which nothing happens: a disk takes as long for a thousand lines as for one."""
        self._check_there()
        added = [replace(entry, n=self._n + place) for place, entry in enumerate(entries, 1)]
        self._n += len(added)
        try:
            for entry in added:
                self._write(_line(entry))
            os.fsync(self._file.fileno())
            self._end = self._file.tell()
        except OSError as problem:
            self._torn = True
            raise cannot_write(self._path, problem) from None
        return added

    def _check_there(self) -> None:
        """Raises JournalLost where the lines so far are not under the journal's name: nobody would ever read them, and
        what they say is made would count as somebody else's."""
        try:
            there = os.stat(self._path)
            if there.st_size >= self._end and (not self._has_identity or self._is(there)):
                return
        except OSError:
            pass
        raise JournalLost(
            f"{self._path}: was removed, moved away or replaced while the batch was at work, which ends it; put it "
            "back and run the same command again, or without it give --on-exists overwrite: what is there counts as "
            "somebody else's then"
        )

    def _is(self, there: os.stat_result) -> bool:
        return os.path.samestat(os.fstat(self._file.fileno()), there)

    def _write(self, line: bytes) -> None:
        # A disk that fills up takes a part of a line, and says so only of the rest.
        rest = memoryview(b"\n" + line if self._torn else line)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        self._torn = False

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


def _ends_in_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def journal_of(folder: Path, shard: tuple[int, int] | None, known: Mapping[str, Known]) -> Journal:
    """The journal of a destination of which so much is `known`, or of a shard (i of n). Raises OutputError."""
    name = "journal.jsonl" if shard is None else f"journal-{shard[0]}-of-{shard[1]}.jsonl"
    return Journal(folder / FOLDER / name, max((entry.last.n for entry in known.values()), default=0))
