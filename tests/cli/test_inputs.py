"""Which inputs are meant, and where their results go."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.cli import QUICK, photo
from helpers.ends import reached, reaches
from hypothesis import given
from hypothesis import strategies as st

from sdedit_cli.batch.request import Model, Request
from sdedit_cli.batch.targets import expand, plan, settle
from sdedit_cli.cli.main import run
from sdedit_cli.errors import OutputError, UsageError
from sdedit_cli.options import Edit

REQUEST = Request(Edit(), Model("built-in", None))


def targets(*arguments: object) -> list[str]:
    return [str(target.path) for job in plan(REQUEST, *arguments) for target in job.targets]  # pyright: ignore[reportArgumentType]


def test_patterns_expand_in_natural_order_and_each_file_once(folder: Path) -> None:
    for name in ("i10.png", "i2.png", "i1.png", "[x].png"):
        (folder / name).touch()
    assert expand(["i*.png", "i2.png"]) == ["i1.png", "i2.png", "i10.png"]
    assert expand(["[x].png"]) == ["[x].png"]  # a file's name before a pattern
    assert expand(["*.gif", "none.png"]) == ["*.gif", "none.png"]  # reported when they are opened


def test_patterns_find_files_in_folders_below(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x.png").touch()
    assert expand(["**/*.png"]) == [str(Path("a/b/x.png"))]


@pytest.mark.parametrize(
    ("sources", "seeds", "output", "format", "expected"),
    [
        (["p/a.jpg"], [1], None, None, ["p/a.edited.png"]),
        (["p/a.b.jpg"], [1], None, "jpeg", ["p/a.b.edited.jpg"]),
        (["a.jpg"], [1, 2], None, None, ["a.edited-1.png", "a.edited-2.png"]),
        (["a.jpg"], [1, 2], None, "webp", ["a.edited-1.webp", "a.edited-2.webp"]),
        (["a.jpg"], [1], "o/", None, ["o/a.png"]),
        (["a.jpg"], [5, 6], "o/", "jpeg", ["o/a-1.jpg", "o/a-2.jpg"]),
        (["a.jpg"], [1], "x.JPEG", None, ["x.JPEG"]),
        (["a.jpg"], [1, 2], "x.webp", None, ["x-1.webp", "x-2.webp"]),
        (["a.jpg", "b.jpg"], [7], "o/{stem}-{seed}.png", None, ["o/a-7.png", "o/b-7.png"]),
        (["a.jpg"], [7, 8], "o/{seed}.png", None, ["o/7.png", "o/8.png"]),
        (["x/a.jpg"], [7], "{parent}/{index:03}-{n}-{name}.{ext}", "webp", ["x/001-1-a.jpg.webp"]),
        (["{a}.jpg"], [7], "o/", None, ["o/{a}.png"]),
        (["-"], [7], "o/", None, ["o/stdin.png"]),
    ],
)
def test_names_of_results(
    sources: list[str], seeds: list[int], output: str | None, format: str | None, expected: list[str]
) -> None:
    assert targets(sources, seeds, output, format) == [str(Path(name)) for name in expected]


@pytest.mark.parametrize(
    ("sources", "seeds", "output", "format", "words"),
    [
        (["a.jpg", "b.jpg"], [1], "x.png", None, "names one file for 2 inputs"),
        (["p/a.jpg", "q/a.png"], [1], "o/", None, "would both be written to"),
        (["p/a.jpg", "q/A.png"], [1], "o/", None, "would both be written to"),
        (["a.jpg"], [1], "x.bmp", None, "'.bmp' cannot be written"),
        (["a.jpg"], [1], "x", None, "has no ending"),
        (["a.jpg"], [1], "x.png", "jpeg", "--format says jpeg"),
        (["a.jpg"], [1], "{sed}.png", None, "did you mean 'seed'"),
        (["a.jpg"], [1], "{seed", None, "is no template"),
        (["a.jpg"], [1], "{stem:9x}.png", None, "is no template"),
        (["a.jpg"], [1], "{stem.x}.png", None, "has '{stem.x}'"),
        (["a.jpg"], [1, 2], "-", None, "takes one picture, and this run makes 2"),
        (["-"], [1], None, None, "say where the result goes"),
    ],
)
def test_names_that_cannot_work_are_refused_before_any_work(
    sources: list[str], seeds: list[int], output: str | None, format: str | None, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(REQUEST, sources, seeds, output, format)
    assert words in str(caught.value)


def test_stdin_comes_alone() -> None:
    with pytest.raises(UsageError, match="cannot be mixed"):
        expand(["-", "a.png"])


_PIECES = st.sampled_from(["{stem}", "{seed:03}", "{n}", "{", "}", "!", ":", ".x", "/", "a"])
_TEMPLATES = st.lists(_PIECES, max_size=4).map(lambda pieces: "".join(pieces) + ".png")


@reaches(names=5, refused=20)
@given(_TEMPLATES | st.text("{}sted:!.0-/ n", min_size=1, max_size=20))
def test_no_template_ends_in_anything_but_names_or_a_usage_error(template: str) -> None:
    try:
        plan(REQUEST, ["a.jpg"], [1], template, None)
    except UsageError as error:
        assert "-o" in str(error)  # noqa: PT017
        reached("refused")
        return
    reached("names")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("skip", None), ("overwrite", "a.png"), ("suffix", "a-3.png")],
    ids=["skip", "overwrite", "suffix"],
)
def test_policies_for_taken_names(folder: Path, policy: str, expected: str | None) -> None:
    (folder / "a.png").touch()
    (folder / "a-2.png").touch()
    got = settle(Path("a.png"), policy, set())
    assert got == (Path(expected) if expected else None)


def test_a_name_promised_to_an_earlier_picture_is_taken(folder: Path) -> None:
    assert settle(Path("a.png"), "suffix", {Path("a.png"), Path("a-2.png")}) == Path("a-3.png")


def test_failing_is_the_policy_that_names_the_others(folder: Path) -> None:
    (folder / "a.png").touch()
    with pytest.raises(
        OutputError, match="exists already; choose another -o, or --on-exists overwrite, skip or suffix"
    ):
        settle(Path("a.png"), "fail", set())


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--animate", "there.webp"], "--animate"),
        (["--sweep", "seed=1,2", "--sweep-page", "there.html"], "--sweep-page"),
        (["--sweep", "seed=1,2", "--sweep-dir", "."], "--sweep-dir"),
    ],
    ids=lambda one: one if isinstance(one, str) else None,
)
def test_what_exists_is_refused_with_the_option_that_names_it(
    folder: Path, capfd: pytest.CaptureFixture[str], words: list[str], flag: str
) -> None:
    photo(folder / "a.png", (16, 16))
    for name in ("there.webp", "there.html", "a-seed-1.png", "a-seed-2.png"):
        (folder / name).touch()
    assert run(["run", "a.png", "-p", "x", "-o", "out.png", *words, *QUICK[:4]]) in (3, 5)
    assert f"exists already; choose another {flag}, or" in capfd.readouterr().err


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "a.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        settle(Path("a.png"), "overwrite", set())


def test_a_device_is_never_taken() -> None:
    assert settle(Path("/dev/null"), "fail", set()) == Path("/dev/null")


@pytest.mark.parametrize("seeds", [[1], [1, 2]])
@pytest.mark.parametrize(
    "sources",
    [
        ["a.jpg", "a.png"],
        ["p/a.jpg", "q/a.png"],
        ["a.jpg", "./a.jpg"],
        ["../a.jpg", "../a.png"],
        ["/x/a.png", "/y/a.png"],
        ["p/a.jpg", "p/a.png", "q/a.png"],
        ["p/a.jpg", "p/A.jpg"],
    ],
)
def test_the_hint_at_a_clash_works(sources: list[str], seeds: list[int]) -> None:
    with pytest.raises(UsageError, match="would both be written to") as caught:
        plan(REQUEST, sources, seeds, "o/", None)
    hint = re.search(r"such as -o '(out/.*)'", str(caught.value))
    assert hint is not None
    assert len({target.shown for job in plan(REQUEST, sources, seeds, hint[1], None) for target in job.targets}) == len(
        sources
    ) * len(seeds)
