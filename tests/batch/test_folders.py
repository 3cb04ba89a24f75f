"""Folders and glob patterns as the source of a batch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers.disks import Unlisted
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.batch.patterns import fits, parts_of
from sdedit_cli.batch.sources import rows_of
from sdedit_cli.errors import JobFileError, UsageError
from sdedit_cli.pictures.endings import READ_ENDINGS


def made(folder: Path, *names: str) -> Path:
    """The folder with these files in it."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def names_of(source: object, **choices: object) -> list[str]:
    rows = rows_of(str(source), **choices).rows  # type: ignore[arg-type]
    assert all(not row.place and not row.values and not row.problem for row in rows)
    return [str(row.name) for row in rows]


def test_pictures_come_in_the_order_that_people_expect(tmp_path: Path) -> None:
    made(tmp_path, "img10.png", "img2.png", "img1.png", "img01.png", "b/img3.WebP", "notes.txt", "readme")
    assert names_of(tmp_path) == ["img01.png", "img1.png", "img2.png", "img10.png"]
    assert names_of(tmp_path, recursive=True) == ["b/img3.WebP", "img01.png", "img1.png", "img2.png", "img10.png"]


def test_the_order_is_not_that_of_the_disk(tmp_path: Path) -> None:
    """Names that are one number apart from zeros are in one order wherever they lie."""
    names = [f"img{'0' * zeros}1.png" for zeros in range(9, -1, -1)]
    made(tmp_path, *names[::2], *names[1::2])
    assert names_of(tmp_path) == names


def test_rows_can_be_opened_and_keep_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "art", "a/b/pic.png")
    monkeypatch.chdir(tmp_path)
    for source, root in (("art", "art"), ("art/", "art"), (".", "."), (str(tmp_path / "art"), str(tmp_path / "art"))):
        found = rows_of(source, recursive=True)
        assert [(str(row.name), os.path.exists(row.input)) for row in found.rows] == [
            ("art/a/b/pic.png" if source == "." else "a/b/pic.png", True)
        ]
        assert found.root == Path(root)


def test_hidden_ones_and_results_are_left_out_and_results_are_told(tmp_path: Path) -> None:
    made(
        tmp_path, "a.png", "a.edited.png", "a.edited-2.webp", ".b.png", ".sdedit/c.png", ".git/d.png", "x/e.edited.png"
    )
    found = rows_of(str(tmp_path), recursive=True)
    assert [str(row.name) for row in found.rows] == ["a.png"]
    assert [note[:45] for note in found.notes] == ["3 files left out as results of earlier runs, "]
    assert names_of(tmp_path, include=["*.edited.png"]) == ["a.edited.png"]
    assert names_of(tmp_path / "*.edited*") == ["a.edited-2.webp", "a.edited.png"]


def test_a_folder_of_results_within_the_source_is_left_out(tmp_path: Path) -> None:
    made(tmp_path, "a.png", "out/a.png", "out/deep/b.png", "outer/c.png")
    assert names_of(tmp_path, recursive=True, leave_out=tmp_path / "out") == ["a.png", "outer/c.png"]
    assert names_of(f"{tmp_path}/**/*.png", leave_out=tmp_path / "x" / ".." / "out") == [
        "a.png",
        "out/a.png",
        "out/deep/b.png",
        "outer/c.png",
    ]
    assert names_of(f"{tmp_path}/**/*.png", leave_out=tmp_path / "outer" / ".." / "out") == ["a.png", "outer/c.png"]
    # What is worked on in its place is no result.
    assert names_of(tmp_path, leave_out=tmp_path) == ["a.png"]
    assert names_of(tmp_path, leave_out=tmp_path / "none") == ["a.png"]


def test_include_and_exclude(tmp_path: Path) -> None:
    made(tmp_path, "a1.png", "a2.jpg", "raw/a1.png", "raw/x/a3.png", "fin/a1.png")
    for choices, names in [
        ({"include": ["*1.png"]}, ["a1.png", "fin/a1.png", "raw/a1.png"]),
        ({"include": ["/*1.png"]}, ["a1.png"]),
        ({"include": ["raw/*"]}, ["raw/a1.png"]),
        ({"include": ["raw/**"]}, ["raw/a1.png", "raw/x/a3.png"]),
        ({"exclude": ["raw"]}, ["a1.png", "a2.jpg", "fin/a1.png"]),
        ({"exclude": ["raw/"]}, ["a1.png", "a2.jpg", "fin/a1.png"]),
        ({"exclude": ["**/x/**", "*.jpg"]}, ["a1.png", "fin/a1.png", "raw/a1.png"]),
        ({"include": ["*1.png", "*3.png"], "exclude": ["fin/*"]}, ["a1.png", "raw/a1.png", "raw/x/a3.png"]),
    ]:
        assert names_of(tmp_path, recursive=True, **choices) == names, choices


def test_choosing_of_one_picture_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "a.png")
    for choice in ({"recursive": True}, {"include": ["*.jpg"]}, {"exclude": ["a*"]}):
        with pytest.raises(
            UsageError, match=f"--{next(iter(choice))} chooses pictures of a folder, and .* is one picture"
        ):
            names_of(tmp_path / "a.png", **choice)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_files_are_followed_and_links_to_folders_told(tmp_path: Path) -> None:
    art = made(tmp_path / "art", "deep/b.png")
    made(tmp_path / "store", "c.png")
    (art / "a.png").symlink_to(tmp_path / "store" / "c.png")
    (art / "nowhere.png").symlink_to("gone.png")
    (art / "self.png").symlink_to("self.png")
    (art / "loop").symlink_to(art)
    (art / "unmounted").symlink_to(tmp_path / "share")
    (art / "deep" / "up").symlink_to(art)
    os.mkfifo(art / "pipe.png")
    found = rows_of(str(art), recursive=True)
    # One that leads nowhere fails by its name, where it is opened, and is not passed over.
    assert [str(row.name) for row in found.rows] == ["a.png", "deep/b.png", "nowhere.png", "self.png"]
    links = [str(art / name) for name in ("deep/up", "loop", "unmounted")]
    assert sorted(note.partition(": ")[0] for note in found.notes) == links
    assert sorted(found.unseen.linked) == links
    assert names_of(f"{art}/**/*.png") == ["a.png", "deep/b.png", "nowhere.png", "self.png"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_names_that_are_no_utf8_and_names_that_differ_in_capitals(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"A.png", b"a.PNG", b"new\nline.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    rows = rows_of(str(tmp_path)).rows
    assert {os.fsencode(str(row.name)) for row in rows} == {b"caf\xe9.png", b"A.png", b"a.PNG", b"new\nline.png"}
    assert all(os.path.exists(row.input) for row in rows)


def test_a_folder_that_cannot_be_read_is_told_and_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, "a.png", "closed/b.png", "open/c.png")
    monkeypatch.setattr(os, "scandir", Unlisted(tmp_path / "closed", PermissionError(13, "Permission denied")))
    found = rows_of(str(tmp_path), recursive=True)
    assert [str(row.name) for row in found.rows] == ["a.png", "open/c.png"]
    (row,) = found.unseen.unread
    problem = f"{tmp_path / 'closed'}: the folder cannot be read (Permission denied); make it readable, or leave it out"
    assert (row.input, row.problem) == (str(tmp_path / "closed"), f"{problem} with --exclude '/closed'")
    for pattern in ("**/*.png", "*/b.png"):  # the second one has no other picture
        (tmp_path / "jobs.toml").write_text(f'inputs = ["{pattern}"]\n[[job]]\n[[job]]\nprompt = "x"\n')
        (row,) = rows_of(str(tmp_path / "jobs.toml")).unseen.unread
        assert (row.input, row.problem) == (str(tmp_path / "closed"), problem)
    assert not rows_of(str(tmp_path / "jobs.toml")).rows
    for choice in ({"exclude": ["closed"]}, {"include": ["open/*"]}):
        assert not rows_of(str(tmp_path), recursive=True, **choice).unseen.unread
    monkeypatch.setattr(os, "scandir", Unlisted(tmp_path, PermissionError(13, "Permission denied")))
    with pytest.raises(JobFileError, match="cannot be read"):
        rows_of(str(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", ["a.png", "b/a.png", "b/c/a.png"]),
        ("*/*.png", ["b/a.png"]),
        ("b/**/a.png", ["a.png", "c/a.png"]),
        ("b/?/[a-b].png", ["c/a.png"]),
        ("b*/c/*", ["b/c/a.png"]),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "a.png", "b/a.png", "b/c/a.png", "b/c/a.txt", "d/x.jpg", "b[1].png.d/x.txt")
    assert names_of(tmp_path / pattern) == names
    monkeypatch.chdir(tmp_path)
    found = rows_of(pattern)
    assert [str(row.name) for row in found.rows] == names
    assert all(os.path.exists(row.input) for row in found.rows)


def test_what_exists_is_never_a_pattern(tmp_path: Path) -> None:
    made(tmp_path, "a[1].png", "a1.png", "dir[1]/b.png")
    assert names_of(tmp_path / "a[1].png") == ["a[1].png"]
    assert names_of(tmp_path / "dir[1]") == ["b.png"]
    assert names_of(tmp_path / "a[0-9].png") == ["a1.png"]


def test_one_picture_is_a_source_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "scan.001", "a.edited.png")
    monkeypatch.chdir(tmp_path)
    for name in ("scan.001", "a.edited.png", str(tmp_path / "scan.001")):
        (row,) = rows_of(name).rows
        assert (row.input, str(row.name)) == (name, os.path.basename(name))


def test_a_folder_is_one_whatever_its_name_ends_in(tmp_path: Path) -> None:
    for name in ("x.csv", "x.toml", "x.json"):
        made(tmp_path / name, "a.png")
        assert names_of(tmp_path / name) == ["a.png"]


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    made(tmp_path, "a.txt", "b/c.png", "d.edited.png")
    for source, choices, words in [
        (
            ".",
            {},
            ["no picture in it (0 inputs)", "looked for .png", "1 file left out as", "--recursive looks"],
        ),
        (".", {"recursive": True, "include": ["*.webp"]}, ["(0 inputs)", "--include *.webp"]),
        ("*.txt", {}, ["*.txt': no picture fits it (0 inputs)", "1 file left out that do not end as pictures do"]),
        ("nothere/*.png", {}, []),
        ("nothere", {}, ["no such file or folder"]),
        ("x.json", {}, ["is no list that is read; expected .csv"]),
        ("x.csv", {}, ["x.csv: no such file"]),
    ]:
        with pytest.raises((UsageError, JobFileError)) as caught:
            rows_of(str(tmp_path / source), **choices)
        assert all(word in str(caught.value) for word in words), caught.value
        assert "--recursive" not in str(caught.value) or not choices


def test_pictures_are_told_by_endings_that_the_reader_takes() -> None:
    from PIL import Image

    Image.init()
    formats = Image.registered_extensions()
    known = {ending for ending in READ_ENDINGS if ending in formats}
    assert {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"} <= known
    # An older Pillow lacks some; what it knows, it reads.
    assert len(known) > 40
    assert {formats[ending] for ending in known} <= {*Image.OPEN, "MPO"}  # which the reader of JPEG takes
    assert not {".eps", ".ps", ".pdf", ".csv", ".txt"} & READ_ENDINGS


@given(st.lists(st.sampled_from(["a", "b", "**", "?"]), min_size=1, max_size=6), st.text("ab/", min_size=1, max_size=9))
def test_patterns_mean_what_their_expression_does(pattern: list[str], text: str) -> None:
    """Against a regular expression written from the definition."""
    import re

    name = "/".join(filter(None, text.split("/"))) or "a"
    whole = "".join({"**": "(?:[^/]+/)*", "?": "[^/]/"}.get(part, f"{part}/") for part in pattern)
    assert fits(name, pattern) == (re.fullmatch(whole, f"{name}/") is not None)


def test_a_pattern_of_many_stars_takes_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of a name is held against each part of the pattern at most once, where trying all ways is 2 ** 40."""
    from sdedit_cli.batch import patterns

    calls = 0
    real = patterns.fnmatchcase

    def counted(name: str, pattern: str) -> bool:
        nonlocal calls
        calls += 1
        return real(name, pattern)

    monkeypatch.setattr(patterns, "fnmatchcase", counted)
    pattern = parts_of("/".join(["**", "a"] * 40))
    assert not fits("/".join(["a"] * 79 + ["b"]), pattern)
    assert 80 < calls <= 80 * 40
