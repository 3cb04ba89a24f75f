"""What people and caches see."""

from __future__ import annotations

import json
import re
import sys
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from helpers.cli import events
from rich.cells import cell_len
from rich.console import Console

from sdedit_cli.batch.events import Events, ended
from sdedit_cli.cli.bars import Bars, cut, lines_on, time_text
from sdedit_cli.cli.channels import reporter
from sdedit_cli.cli.render import Reporter
from sdedit_cli.disk import hashes
from sdedit_cli.disk.hashes import file_hash
from sdedit_cli.errors import InternalError, OutOfMemory, OutputError, PictureError, SdeditError, Terminated, as_error
from sdedit_cli.signals import Stop


@pytest.mark.parametrize(
    ("verbosity", "seen"),
    [(-1, {"error"}), (0, {"error", "warning", "note"}), (1, {"error", "warning", "note", "detail"})],
)
def test_verbosity_decides_what_is_said(verbosity: int, seen: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    to = Reporter(verbosity)
    to.error("error")
    to.warn("warning")
    to.note("note")
    to.detail("detail")
    out, err = capsys.readouterr()
    assert out == ""
    assert {line.split()[-1] for line in err.splitlines()} == seen


def test_bars_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(reporter(0)) is Reporter
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert type(reporter(0)) is Bars
    assert type(reporter(-1)) is Reporter


def test_bars_go_through_a_run_and_leave_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    to = Bars()
    to.loading("the [bold]x model")
    for number in (1, 2):
        to.picture("a.png", number, 2)
        to.step(1, 2)
    to.note("[red]a.png -> b.png")
    to.close()
    to.close()
    assert "[red]a.png -> b.png" in capsys.readouterr().err


@pytest.mark.parametrize("width", [18, 24, 40, 47, 48, 60, 80, 200])
@pytest.mark.parametrize("name", ["a.png", f"{'x' * 150}-end.png", "写真" * 40 + ".png", "a\x1b[2J\nb.png"])
def test_a_line_of_any_width_keeps_its_numbers(name: str, width: int) -> None:
    stream = StringIO()
    console = Console(file=stream, width=width, force_terminal=True, highlight=False, markup=False, soft_wrap=True)
    to = Bars(0, console)
    to.picture(name, 2, 12)
    to.step(18, 50)
    to.ended(1, 12)
    assert to._progress is not None
    seen = StringIO()
    inked = Console(file=seen, width=width, force_terminal=True, color_system="standard")
    inked.print(to._progress.get_renderable())
    to.picture(name, 3, 12)
    to.ended(2, 12)
    inked.print(to._progress.get_renderable())
    to.close()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen.getvalue())
    *lines, pictures, encoding = plain.rstrip("\n").split("\n")
    assert "2/12" in pictures
    assert "encoding" in encoding
    assert len(lines) == 2
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    assert "1/12" in lines[0]
    assert "18/50" in lines[1]
    assert lines[1].count("━") + lines[1].count("╸") + lines[1].count("╺") >= 4
    if width >= 40 and name.isprintable():
        assert lines[1].split("━")[0].rstrip().endswith("png")


@pytest.mark.parametrize("width", [24, 40, 50, 80])
def test_bytes_are_counted_on_one_line_with_the_time_left_labelled(width: int) -> None:
    """What `convert` shows of two gigabytes."""
    lines = lines_on(Console(file=StringIO(), width=width, force_terminal=True))
    task = lines.add_task("a-model-of-some-name.safetensors", total=None, what="reading")
    seen = StringIO()
    inked = Console(file=seen, width=width)
    inked.print(lines.get_renderable())
    lines.update(task, total=4_265_000_000, bytes=True)
    lines.advance(task, 2_130_000_000)
    inked.print(lines.get_renderable())
    reading, counted = seen.getvalue().rstrip("\n").split("\n")
    assert "reading" in reading
    assert "2.1/4.3 GB" in counted
    assert ":" not in counted or "left" in counted


def test_bars_say_what_is_done_while_nobody_can_count() -> None:
    stream = StringIO()
    to = Bars(0, Console(file=stream, width=80, force_terminal=True))
    seen: list[str] = []
    for act in (
        lambda: to.loading("the x model"),
        lambda: to.picture("a.png", 1, 1),
        lambda: to.step(1, 2),
        lambda: to.step(2, 2),
    ):
        act()
        assert to._progress is not None
        (task,) = to._progress.tasks
        seen.append(str(task.fields["what"]) if task.total is None else f"{task.completed:g}/{task.total:g}")
    to.close()
    assert seen == ["loading", "encoding", "1/2", "decoding"]


def test_the_bar_of_steps_has_the_name_of_the_picture_after_that_of_the_model() -> None:
    to = Bars(0, Console(file=StringIO(), width=80, force_terminal=True))
    to.picture("a.png", 1, 1)
    to.loading("the x model")
    to.step(1, 2)
    assert to._progress is not None
    (task,) = to._progress.tasks
    to.close()
    assert task.description == "a.png"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00 left"), (65, "1:05 left"), (7325, "2:02:05 left")])
def test_the_time_left_is_labelled(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_a_name_is_cut_in_its_middle() -> None:
    assert cut("photograph.png", 14) == "photograph.png"
    assert cut("photograph.png", 10) == "pho…ph.png"
    assert cut("写真写真写真.png", 9) == "写…真.png"
    assert [cut("photograph.png", cells) for cells in (1, 0, -3)] == ["", "", ""]


def test_a_closed_stderr_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise OSError("closed")

        def flush(self) -> None:
            raise OSError("closed")

    monkeypatch.setattr(sys, "stderr", Closed())
    Reporter().note("x")


def test_what_a_file_brought_into_a_message_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Of what is told, an error alone has a second line: what to try."""
    for tell, then in ((Reporter().error, "\n"), (Reporter().warn, "\\n"), (Reporter().note, "\\n")):
        tell("m\x1b[2J.ckpt\x07: no.\nsecond line")
        assert capsys.readouterr().err.endswith(f"m\\x1b[2J.ckpt\\x07: no.{then}second line\n")


def test_hashes_of_large_files_are_remembered_until_the_file_changes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 1)
    path = folder / "w.safetensors"
    path.write_bytes(b"one")
    first = hashes.remembered_hash(path)
    assert first == file_hash(path)
    (cache,) = (folder.parent / "home").rglob("hashes.json")
    assert first in cache.read_text()
    monkeypatch.setattr(hashes, "file_hash", lambda path: "read again")
    assert hashes.remembered_hash(path) == first
    path.write_bytes(b"other")
    assert hashes.remembered_hash(path) == "read again"


@pytest.mark.parametrize("text", ["", "[]", "{", json.dumps({"x": 3}), "null hash"])
def test_a_damaged_cache_costs_time_alone(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 1)
    path = folder / "w.safetensors"
    path.write_bytes(b"one")
    hashes.remembered_hash(path)
    (cache,) = (folder.parent / "home").rglob("hashes.json")
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: [*entry[:2], None] for key, entry in known.items()}) if "null" in text else text)
    assert hashes.remembered_hash(path) == file_hash(path)


def test_a_missing_model_has_no_hash(folder: Path) -> None:
    assert hashes.FileHash(folder / "none").value() == ""


@pytest.mark.parametrize(
    ("problem", "kind", "code", "text"),
    [
        (KeyError("x"), InternalError, 1, "internal error: KeyError: 'x'"),
        (
            MemoryError(),
            OutOfMemory,
            3,
            "out of memory; an edit takes less with --max-side 768, or --dtype bf16 or fp16",
        ),
        (OSError(28, "No space left on device"), OutputError, 3, "stdout: cannot be written (No space left on device)"),
        (PictureError("a.png: no such file"), PictureError, 3, "a.png: no such file"),
        (Stop(15), Terminated, 143, "terminated"),
    ],
)
def test_whatever_ends_a_run_is_told_once_to_programs_and_then_to_people(
    problem: BaseException, kind: type[SdeditError], code: int, text: str
) -> None:
    stream = BytesIO()

    def work() -> None:
        with ended(Events(stream)):
            raise problem

    with pytest.raises(kind, match=re.escape(text)) as caught:
        work()
    assert caught.value.reported
    [end] = events(stream.getvalue())
    assert (end["event"], end["exit_code"], end["error"], end["word"]) == ("end", code, text, kind.word)


def test_an_error_is_not_reported_before_it_is() -> None:
    assert not as_error(ValueError()).reported
