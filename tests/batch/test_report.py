"""The reports of a batch: nothing that a name or a prompt holds does anything, and all of the batch is in them."""

from __future__ import annotations

import contextlib
import gc
import html
import os
import re
import signal
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers.cli import QUICK, leftovers, photo, sdedit
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdedit_cli import signals
from sdedit_cli.batch import report_html, report_junit
from sdedit_cli.batch.report import FAILED, LEFT, MADE, STALE, STATES, UNCHANGED, Line, Report, clean, settings_of
from sdedit_cli.batch.report_files import check_reports, write_report
from sdedit_cli.batch.request import Model, Request
from sdedit_cli.batch.thumbnails import side_of, thumbnail
from sdedit_cli.cli.reports import annotation
from sdedit_cli.errors import OutputError, UsageError
from sdedit_cli.options import Edit
from sdedit_cli.options.adapters import LoraFile

HOSTILE = "</bdi><script>alert(1)</script><img src=x onerror='alert(2)'>\" & \0 \x1b[2J \u202e \udcff ]]> --> \ud800"
ANY_TEXT = st.text(st.characters(), max_size=30)  # control characters and halves of pairs too


class Page(HTMLParser):
    """Which tags a page has, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(*lines: Line, folder: str = "out", checked: bool = False) -> str:
    return b"".join(report_html.pieces(Report(Path(folder), lines, checked), ".")).decode()


def junit(*lines: Line, folder: str = "out", checked: bool = False) -> ElementTree.Element:
    suite = ElementTree.fromstring(b"".join(report_junit.pieces(Report(Path(folder), lines, checked), "."))).find("*")
    assert suite is not None
    return suite


def hostile_line(state: str, text: str) -> Line:
    path = text.replace("\ud800", "").replace("\0", "")  # which no system takes
    return Line(state, text, path, path, text, text, text, text, ((text, text),), 1.5)


def test_hostile_texts_are_text() -> None:
    plain, hostile = (Page(page(hostile_line(FAILED, text))) for text in ("word", HOSTILE))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert not [name for _, attributes in hostile.tags for name in attributes if name.startswith("on")]
    assert "alert(2)" in hostile.text
    assert "\x1b" not in hostile.text
    assert "\0" not in hostile.text


def test_a_page_fetches_nothing_and_runs_its_own_script_alone(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    source = page(Line(MADE, "a.png", str(tmp_path / "a.png"), str(tmp_path / "a.png")))
    read = Page(source)
    (policy,) = [meta["content"] for meta in read.all("meta") if meta.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    images = [image["src"] or "" for image in read.all("img")]
    assert len(images) == 2
    assert all(image.startswith("data:image/webp;base64,") for image in images)
    assert len(read.all("script")) == len(read.all("style")) == 1
    assert not read.all("link")
    assert "style" not in {name for _, attributes in read.tags for name in attributes}, "the policy would drop it"


@pytest.mark.parametrize("name", ["javascript:alert(1)", "//elsewhere/x.png", 'a"b<c>#?%.png', "\udcff.png"])
def test_links_stay_within_the_disk(name: str) -> None:
    (link,) = Page(page(Line(MADE, "a", name))).all("a")
    assert link["href"] is not None
    assert not re.match(r"[a-z]+:|//", link["href"])
    assert re.fullmatch(r"[\w./%~-]+", link["href"])


def test_failures_come_first_and_the_rest_in_the_order_of_the_jobs() -> None:
    lines = [Line(state, f"{state}-{n}") for n in range(2) for state in reversed(STATES)]
    shown = [item["data-state"] for item in Page(page(*lines)).all("li")]
    assert shown == [state for state in STATES for _ in range(2)]
    assert shown[0] == FAILED
    assert re.findall(r"<h2><bdi>(.*?)</bdi>", page(*lines))[:2] == ["failed-0", "failed-1"]


def test_without_a_script_all_is_there() -> None:
    """What the script makes use of is hidden until it runs, and no job is."""
    read = Page(page(Line(FAILED, "a"), Line(MADE, "b")))
    assert [form for form in read.all("form") if "hidden" in form] == read.all("form")
    assert not [item for item in read.all("li") if "hidden" in item]
    assert "1 failed, 1 made" in read.text


def test_thumbnails_are_bounded_and_keep_transparency(tmp_path: Path) -> None:
    large = photo(tmp_path / "large.jpg", (900, 300))
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (30, 20), (255, 0, 0, 0)).save(clear)
    one, small = thumbnail(str(large), 256), thumbnail(str(clear), 256)
    assert one is not None
    assert small is not None
    assert (one.width, one.height, one.is_pixels) == (256, 85, False)
    assert (small.width, small.height, small.is_pixels) == (30, 20, True)
    assert len(one.uri) < 20_000
    assert thumbnail(str(tmp_path / "none.png"), 256) is None
    (tmp_path / "text.png").write_text("no picture")
    assert thumbnail(str(tmp_path / "text.png"), 256) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert thumbnail(str(tmp_path / "pipe"), 256) is None


def test_more_jobs_get_smaller_pictures() -> None:
    sides = [side_of(jobs) for jobs in (1, 100, 2000, 5000, 100_000)]
    assert sides == sorted(sides, reverse=True)
    assert sides[2] == 256


def test_texts_are_bounded() -> None:
    assert len(page(Line(MADE, "a", prompt="x" * 1_000_000))) < len(page(Line(MADE, "a"))) + 5000


def test_equal_batches_give_equal_pages() -> None:
    assert page(Line(MADE, "a", seconds=1.0)) == page(Line(MADE, "a", seconds=2.0))


@given(ANY_TEXT, st.sampled_from(STATES))
def test_any_text_makes_well_formed_xml(text: str, state: str) -> None:
    (case,) = junit(hostile_line(state, text), folder="o", checked=state == STALE)
    failure = case.find("failure")
    assert (failure is not None) == (state in (FAILED, STALE))
    if failure is not None:
        assert failure.get("message") == clean(text)


@given(ANY_TEXT, st.sampled_from((FAILED, STALE)))
def test_any_text_makes_one_annotation(text: str, state: str) -> None:
    """A text that holds a command of the runner must not become one."""
    told = annotation(hostile_line(state, "\n::add-mask::x\r\n" + text))
    assert re.fullmatch(r"::(error|warning) file=[^,:\r\n]*,title=sdedit [^,:\r\n]*::[^\r\n]*", told)
    assert told.splitlines()[0].startswith("::")


@given(ANY_TEXT)
def test_clean_texts_are_utf_8(text: str) -> None:
    assert html.unescape(html.escape(clean(text))).encode().decode() == clean(text)


def test_junit_tells_states_and_times_by_folder() -> None:
    lines = [
        Line(MADE, "sub/a.png", seconds=1.25),
        Line(FAILED, "b.png", "in/b.png", word="input-unusable", reason="is no picture"),
        Line(UNCHANGED, "c.png"),
        Line(LEFT, "d.png", reason="not made yet"),
    ]
    suite = junit(*lines)
    assert [suite.get(name) for name in ("tests", "failures", "skipped", "time")] == ["4", "1", "2", "1.250"]
    made, failed, same, left = suite
    assert (made.get("classname"), made.get("name"), made.get("time"), len(made)) == ("out/sub", "a.png", "1.250", 0)
    failure = failed.find("failure")
    assert failure is not None
    assert (failure.get("type"), failure.get("message")) == ("input-unusable", "is no picture")
    assert same.find("skipped") is not None
    assert left.find("skipped") is not None


def test_in_a_check_what_is_fresh_has_passed_and_what_is_stale_says_why() -> None:
    suite = junit(Line(UNCHANGED, "a.png"), Line(STALE, "b.png", reason="the input changed"), checked=True)
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["2", "1", "0"]
    failure = suite[1].find("failure")
    assert failure is not None
    assert (len(suite[0]), failure.get("type"), failure.get("message")) == (0, "stale", "the input changed")


def test_settings_are_those_asked_for_and_what_is_not_as_usual() -> None:
    edit = Edit(strength=0.5, steps=10, clip_skip=1, lora=(LoraFile("/home/me/ink.safetensors", 0.7),))
    told = dict(settings_of(Request(edit, Model("m", None)), 7))
    assert told["steps"] == "5 of 10"
    assert (told["model"], told["seed"], told["strength"], told["clip-skip"]) == ("m", "7", "0.5", "1")
    assert "ink.safetensors" in told["lora"]
    assert "/home/me" not in told["lora"], "a page is passed on"
    assert "freeu" not in told


def test_only_reports_are_replaced(tmp_path: Path) -> None:
    mine, ours = tmp_path / "mine.html", tmp_path / "ours.html"
    mine.write_text("<!doctype html>\n<p>mine")
    write_report(ours, Report(tmp_path, ()))
    check_reports([ours], overwrite=False)
    check_reports([mine], overwrite=True)
    with pytest.raises(OutputError, match="no report of ours"):
        check_reports([mine], overwrite=False)
    (tmp_path / "folder.xml").mkdir()
    with pytest.raises(OutputError, match="no file"):
        check_reports([tmp_path / "folder.xml"], overwrite=True)
    for paths in ([tmp_path / "a.txt"], [ours, tmp_path / "." / "ours.html"]):
        with pytest.raises(UsageError):
            check_reports(paths, overwrite=True)


class _Signalled(tuple[Line, ...]):
    """Lines on whose way into a report a signal comes, `times` times."""

    times = 1

    def __iter__(self) -> Iterator[Line]:
        if self.times:
            self.times -= 1
            signal.raise_signal(signal.SIGTERM)
        return super().__iter__()


@pytest.mark.parametrize(("times", "written"), [(1, True), (2, False)])
def test_a_signal_does_not_lose_the_report_and_a_second_one_ends_it(tmp_path: Path, times: int, written: bool) -> None:
    lines = _Signalled([Line(MADE, "a.png")])
    lines.times = times
    with signals.stoppable():
        with contextlib.nullcontext() if written else pytest.raises(signals.Stop):
            write_report(tmp_path / "r.xml", Report(tmp_path, lines))
        signals.settle()
    assert [path.name for path in tmp_path.iterdir()] == (["r.xml"] if written else [])


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/c.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "bad.png").write_text("no picture")
    return tmp_path


def batch(folder: Path, *more: str, **variables: str) -> tuple[int, str]:
    """The exit code of a batch with both reports, and what it said to people."""
    words = ("batch", "in", "out", "--recursive", "-p", "a <b>face</b>", *QUICK)
    done = sdedit(*words, *more, "--report", "r.html", "--report", "r.xml", cwd=folder, more=variables)
    return done.returncode, done.stderr.decode()


def states(folder: Path) -> dict[str, str]:
    source = (folder / "r.html").read_text(encoding="utf-8")
    return dict(reversed(pair) for pair in re.findall(r"data-state=(\w+) tabindex=-1><h2><bdi>(.*?)</bdi>", source))


def cases(folder: Path) -> dict[str, list[str]]:
    return {
        f"{case.get('classname')}/{case.get('name')}": [child.tag for child in case]
        for case in ElementTree.parse(folder / "r.xml").iter("testcase")
    }


def test_a_whole_batch_reports_what_became_of_every_output(jobs: Path) -> None:
    code, told = batch(jobs, GITHUB_ACTIONS="true")
    assert code == 4
    assert states(jobs) == {"bad.png": "failed", "a.png": "made", "sub/c.png": "made"}
    assert cases(jobs) == {"out/a.png": [], "out/bad.png": ["failure"], "out/sub/c.png": []}
    assert [line for line in told.splitlines() if line.startswith("::")] == [
        line for line in told.splitlines() if line.startswith("::error file=in/bad.png,title=sdedit input-unusable::")
    ]
    assert told.count("::error") == 1
    page = (jobs / "r.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;face" in page
    assert "not made yet" not in page
    # Again: what is unchanged is there with its pictures, and our own reports are replaced.
    code, told = batch(jobs)
    assert (code, "::" in told) == (4, False)
    assert states(jobs) == {"bad.png": "failed", "a.png": "unchanged", "sub/c.png": "unchanged"}
    assert len(Page((jobs / "r.html").read_text(encoding="utf-8")).all("img")) == 4
    assert cases(jobs)["out/a.png"] == ["skipped"]
    # A check says what is stale, and why.
    photo(jobs / "in" / "a.png", (64, 40))
    code, told = batch(jobs, "--check", GITHUB_ACTIONS="true")
    assert code == 6
    assert states(jobs) == {"bad.png": "stale", "a.png": "stale", "sub/c.png": "unchanged"}
    assert cases(jobs)["out/sub/c.png"] == []
    assert "::warning file=in/a.png,title=sdedit stale::out/a.png: the input changed" in told
    assert "the input changed" in (jobs / "r.xml").read_text(encoding="utf-8")
    assert batch(jobs)[0] == 4
    assert "made anew: the input changed" in (jobs / "r.html").read_text(encoding="utf-8")
    assert not leftovers(jobs)


def test_a_limit_and_a_first_failure_leave_the_rest_and_report_it(jobs: Path) -> None:
    assert batch(jobs, "--limit", "1")[0] == 0
    assert states(jobs) == {"a.png": "made", "bad.png": "left", "sub/c.png": "left"}
    assert batch(jobs, "--fail-fast", "--batch-size", "1")[0] == 4
    assert states(jobs)["bad.png"] == "failed"


def test_nothing_runs_for_a_report_that_cannot_be_written(jobs: Path) -> None:
    (jobs / "r.xml").write_text("<mine/>")
    code, told = batch(jobs)
    assert code == 3
    assert "no report of ours" in told
    assert not (jobs / "out").exists()
    assert not (jobs / "r.html").exists()


def test_programs_that_read_stdout_get_no_annotations(jobs: Path) -> None:
    assert "::" not in batch(jobs, "--check", "--json", GITHUB_ACTIONS="true")[1]


@pytest.fixture
def _no_collections() -> Iterator[None]:
    """Callbacks of the collector, as hypothesis has one, lose exceptions; the program itself raises those of signals
    again (`sys.unraisablehook`)."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collections")
def test_an_interrupted_batch_reports_what_it_came_to(
    jobs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A signal while the first picture is saved ends the run after it."""
    from sdedit_cli.batch.books import Books
    from sdedit_cli.cli.main import run

    def did(self: Books, *rest: Any) -> None:
        honest(self, *rest)
        signal.raise_signal(signal.SIGTERM)

    honest = Books.did
    monkeypatch.chdir(jobs)
    monkeypatch.setattr(Books, "did", did)
    words = [
        "batch",
        "in",
        "out",
        "--recursive",
        *QUICK,
        "--batch-size",
        "1",
        "--report",
        "r.html",
        "--report",
        "r.xml",
    ]
    assert run(words) == 143
    found = states(jobs)
    assert (len(found), found["a.png"], found["sub/c.png"]) == (3, "made", "left")
    assert set(cases(jobs)) == {"out/a.png", "out/bad.png", "out/sub/c.png"}
    assert not leftovers(jobs)
