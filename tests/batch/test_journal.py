"""The journal: what is half written counts for nothing, the last line counts, and what it says decides."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.batch.books import Books
from sdedit_cli.batch.freshness import changed, judge
from sdedit_cli.batch.journal import Entry, Journal, Known, journal_of, read_all
from sdedit_cli.batch.lost_rows import note_lost
from sdedit_cli.batch.request import Model, Request
from sdedit_cli.batch.rows import LostRow, Row
from sdedit_cli.batch.survey import Item, prunable, survey
from sdedit_cli.batch.targets import Job, Target
from sdedit_cli.disk.stamps import stamp_of
from sdedit_cli.errors import JobFileError, OutputError
from sdedit_cli.options import Edit

DONE = Entry("done", "a.png", key="k", sha256=hashlib.sha256(b"picture").hexdigest(), facts={"prompt": "p"})


def journal(folder: Path, shard: tuple[int, int] | None = None) -> Journal:
    return journal_of(folder, shard, read_all(folder))


def test_of_many_facts_that_changed_a_few_are_named() -> None:
    facts = {"prompt": "p", "clip_skip": "2", **{f"a\n{n}" + "x" * 100_000: "1" for n in range(1000)}}
    told = changed({}, facts)
    assert told.startswith("the prompt changed, clip-skip changed, a\\n0xxx")
    assert told.endswith(" and 997 more")
    assert len(told) < 1000
    assert changed(facts, {**facts, "clip_skip": "1"}) == "clip-skip changed"


def test_what_somebody_wrote_into_a_journal_is_told_in_short(tmp_path: Path) -> None:
    long = "\x1b[2J" + "x" * 1_000_000
    tried = Known(replace(DONE, event="failed", error=long), frozenset())
    assert judge(tmp_path / "a.png", "k", {}, tried).reason.startswith("failed: \\x1b[2Jxxx")
    (tmp_path / "a.png").write_bytes(b"picture")
    for key in ("backend", "device"):
        made = replace(DONE, environment={key: long, "together": [long] * 1000})
        for known in (tried, Known(made, frozenset([made.sha256]))):
            reason = judge(tmp_path / "a.png", "k", DONE.facts, known, {key: "torch", "together": 1}).reason
            assert len(reason) < 1100
            assert reason.isprintable()


def test_a_journal_of_empty_lines_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / ".sdedit").mkdir()
    (tmp_path / ".sdedit" / "journal.jsonl").write_bytes(b"\n" * 1_000_000)
    tracemalloc.start()
    assert read_all(tmp_path) == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_line_of_a_journal_that_nobody_wrote_takes_no_memory(tmp_path: Path) -> None:
    book = journal(tmp_path)
    book.add(DONE)
    book.close()
    with (tmp_path / ".sdedit" / "journal.jsonl").open("ab") as file:
        file.write(b'{"event": [' + b"[]," * 1_500_000)
    tracemalloc.start()
    assert list(read_all(tmp_path)) == ["a.png"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80_000_000


def test_rows_that_cannot_be_meant_wait_for_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [LostRow(n, Row(f"{n}.png", f"{n}.png"), JobFileError("no")) for n in range(50)]
    book, waits = journal(tmp_path), list[int]()
    monkeypatch.setattr(os, "fsync", waits.append)
    noted = note_lost(rows, {}, book)
    assert len(waits) == 1
    book.close()
    assert read_all(tmp_path) == noted
    assert [known.last.n for known in noted.values()] == list(range(1, 51))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    book = journal(tmp_path)
    book.add(DONE)
    book.add(replace(DONE, output="b.png", event="failed", error="no", word="input-unusable"))
    book.close()
    known = read_all(tmp_path)
    assert known["a.png"].last == replace(DONE, n=1)
    assert known["b.png"].last.error == "no"


def test_the_last_line_counts_whichever_journal_it_is_in(tmp_path: Path) -> None:
    for shard, key in ((None, "1"), ((2, 2), "2"), (None, "3")):
        book = journal(tmp_path, shard)
        book.add(replace(DONE, key=key))
        book.close()
    assert read_all(tmp_path)["a.png"].last.key == "3"


@given(cut=st.integers(1, 400), junk=st.binary(max_size=20))
def test_a_half_written_line_costs_itself_alone(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    book = journal(folder)
    book.add(DONE)
    book.add(replace(DONE, output="b.png"))
    book.close()
    path = folder / ".sdedit" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut] + junk.replace(b"\n", b""))
    book = journal(folder)
    book.add(replace(DONE, output="c.png"))
    book.close()
    known = read_all(folder)
    assert known["c.png"].last.output == "c.png"
    assert ("a.png" in known) or cut > len(whole.split(b"\n")[1])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_journal_of_nothing_or_something(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("journal")
    (folder / ".sdedit").mkdir()
    (folder / ".sdedit" / "journal.jsonl").write_bytes(data)
    assert isinstance(read_all(folder), dict)


@pytest.mark.parametrize(
    "line",
    [
        {"event": "done", "output": 7},
        {"event": "done", "output": "a.png", "n": "x", "facts": 3, "environment": [], "seconds": "long"},
        {"event": "done", "output": "a.png", "input_stamp": [1], "output_stamp": "now"},
        {"event": "done", "output": "a.png", "seconds": 10**400, "n": 10**400},
        [1, 2],
    ],
)
def test_a_line_of_other_types_breaks_nothing(tmp_path: Path, line: object) -> None:
    (tmp_path / ".sdedit").mkdir()
    (tmp_path / ".sdedit" / "journal.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    known = read_all(tmp_path)
    judge(tmp_path / "a.png", "k", {}, known.get("a.png"))


def test_an_intent_is_settled_by_the_file(tmp_path: Path) -> None:
    book = journal(tmp_path)
    book.add(replace(DONE, event="intent"))
    book.close()
    known = read_all(tmp_path)["a.png"]
    output = tmp_path / "a.png"
    assert judge(output, "k", DONE.facts, known).reason == "it was not finished"
    output.write_bytes(b"picture")
    assert judge(output, "k", DONE.facts, known).fresh
    output.write_bytes(b"another")
    assert not judge(output, "k", DONE.facts, known).ours


def test_what_was_pruned_is_not_there_after_a_try_that_failed(tmp_path: Path) -> None:
    """For a process that was there all the time, and for the next one."""
    book = journal(tmp_path)
    for entry in (DONE, Entry("pruned", "a.png"), Entry("failed", "a.png", error="no")):
        book.add(entry)
    book.close()
    assert read_all(tmp_path)["a.png"].placed is None
    book = journal(tmp_path)
    book.add(DONE)
    book.add(Entry("failed", "a.png", error="no"))
    book.close()
    assert read_all(tmp_path)["a.png"].placed is not None


def test_what_is_there_as_it_was_made_is_fresh_whatever_was_tried_since(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    output.write_bytes(b"picture")
    book = journal(tmp_path)
    book.add(DONE)
    book.add(Entry("failed", "a.png", key="another", error="no"))
    book.close()
    known = read_all(tmp_path)["a.png"]
    assert known.last.error == "no"
    assert known.placed == replace(DONE, n=1)
    assert judge(output, "k", DONE.facts, known).fresh
    for key, data in (("another", b"picture"), ("k", b"another"), ("k", None)):
        output.unlink()
        if data is not None:
            output.write_bytes(data)
        verdict = judge(output, key, DONE.facts, known)
        assert (verdict.reason, verdict.failed, verdict.ours) == ("failed: no", True, data != b"another")


def test_an_interrupted_replacement_may_be_finished(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    output.write_bytes(b"picture")
    book = journal(tmp_path)
    book.add(DONE)
    book.add(replace(DONE, event="intent", key="k2", sha256="0" * 64))
    book.close()
    verdict = judge(output, "k2", DONE.facts, read_all(tmp_path)["a.png"])
    assert (verdict.fresh, verdict.ours) == (False, True)


def test_a_file_written_anew_in_the_same_size_is_seen(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    output.write_bytes(b"picture")
    book = journal(tmp_path)
    book.add(replace(DONE, output_stamp=stamp_of(output)))
    book.close()
    known = read_all(tmp_path)["a.png"]
    assert judge(output, "k", DONE.facts, known).fresh
    output.unlink()
    output.write_bytes(b"pictura")
    assert judge(output, "k", DONE.facts, known).reason == "the output was edited by hand"


def test_no_journal_has_files_outside_removed(tmp_path: Path) -> None:
    victim = tmp_path / "victim.png"
    victim.write_bytes(b"picture")
    folder = tmp_path / "out"
    book = journal(folder)
    for output in ("../victim.png", str(victim)):
        book.add(replace(DONE, output=output))
    book.close()
    known = read_all(folder)
    assert prunable(folder, list(known), known) == []


@pytest.mark.parametrize("read", [b"as it was", b"as somebody saved it meanwhile"], ids=["before", "after"])
@pytest.mark.parametrize("stays", [b"as it was", b"as somebody saved it meanwhile"], ids=["changed back", "stays"])
def test_an_output_is_that_of_the_input_as_it_was_read(tmp_path: Path, read: bytes, stays: bytes) -> None:
    """Whatever it was before and is afterwards."""
    source, known = tmp_path / "in.png", dict[str, Known]()
    source.write_bytes(b"as it was")
    job = Job(Request(Edit(seed=1), Model("m", None)), str(source), 1, (Target(1, tmp_path / "a.png"),), "png")

    def look() -> Item:
        (item,) = survey([job], tmp_path, known, lambda _: tmp_path / "no model")
        return item

    item = look()
    book = journal(tmp_path)
    books = Books(book, tmp_path, known, "2")
    books.accounts["a.png"] = item.account
    source.write_bytes(stays)
    Path(tmp_path / "a.png").write_bytes(b"picture")
    books.intends(item.target, DONE.sha256, hashlib.sha256(read).hexdigest())
    books.did(item.target, DONE.sha256, 1.0, "clean")
    book.close()
    assert look().verdict.reason == ("" if read == stays else "the input changed")


def test_names_that_no_file_can_have_are_not_pruned(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(b"data")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "x.png").write_bytes(b"data")
    names = ("a" * 5000, "a\0b.png", "\ud800.png", "link/x.png", "x.png")
    known = {name: Known(Entry("done", name), frozenset({hashlib.sha256(b"data").hexdigest()})) for name in names}
    assert prunable(tmp_path / "out", names, known) == [tmp_path / "out" / "x.png"]


def test_what_an_error_says_is_noted_in_short_and_once(tmp_path: Path) -> None:
    lost = [LostRow(1, Row("a.png", "a.png"), JobFileError("x" * 100_000))]
    book = journal(tmp_path)
    assert note_lost(lost, {}, book)
    (known,) = read_all(tmp_path).values()
    assert len(known.last.error) == 1000
    assert not note_lost(lost, read_all(tmp_path), book)
    book.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of the size of files")
def test_a_line_that_a_full_disk_cuts_is_an_error_and_costs_itself_alone(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = journal_of(tmp_path, None, {})
    journal.add(Entry("done", "first"))
    size = (tmp_path / ".sdedit" / "journal.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            journal.add(Entry("done", "cut"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    journal.add(Entry("done", "last"))
    journal.close()
    assert sorted(read_all(tmp_path)) == ["first", "last"]


@pytest.mark.skipif(sys.platform == "win32", reason="open files stay where they are there")
@pytest.mark.parametrize("lost", ["folder", "own folder", "file", "lines", "moved", "link"])
def test_nothing_is_noted_where_nobody_would_read_it(tmp_path: Path, lost: str) -> None:
    folder = tmp_path / "out"
    journal = journal_of(folder, None, {})
    journal.add(DONE)
    path = folder / ".sdedit" / "journal.jsonl"
    {
        "folder": lambda: shutil.rmtree(folder),
        "own folder": lambda: shutil.rmtree(folder / ".sdedit"),
        "file": path.unlink,
        "lines": lambda: os.truncate(path, 0),
        "moved": lambda: folder.rename(tmp_path / "elsewhere"),
        "link": lambda: (folder.rename(tmp_path / "elsewhere"), folder.symlink_to(tmp_path, target_is_directory=True)),
    }[lost]()
    with pytest.raises(OutputError, match=r"journal\.jsonl: was removed, moved away or replaced"):
        journal.add(replace(DONE, output="b.png"))
    journal.close()


@pytest.mark.parametrize("end", ["done", "torn", "failed", "nothing", "another"])
def test_every_hash_that_was_to_be_written_is_known_however_the_line_behind_its_intent_ends(
    tmp_path: Path, end: str
) -> None:
    """An intent is read only where the next line does not say all that it says."""
    path = tmp_path / ".sdedit" / "journal.jsonl"
    journal = Journal(path, 0)
    facts = {"key": "k", "input": "in/a.png", "facts": {"prompt": "x"}}
    journal.add(Entry("intent", "a.png", sha256="1" * 64, **facts))
    if end == "failed":
        journal.add(Entry("failed", "a.png", key="k", error="e"))
    elif end != "nothing":
        journal.add(Entry("done", "b.png" if end == "another" else "a.png", sha256="1" * 64, **facts))
    journal.close()
    if end == "torn":
        path.write_bytes(path.read_bytes()[:-9] + b"}")  # a line that looks whole
    known = read_all(tmp_path)["a.png"]
    assert known.written == {"1" * 64}
    assert known.last.event == {"done": "done", "failed": "failed"}.get(end, "intent")
