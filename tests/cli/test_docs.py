"""docs/command-line.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.cli import QUICK, ROOT, events, photo

from sdedit_cli import errors
from sdedit_cli.batch.templates import PLACEHOLDERS
from sdedit_cli.cli.main import run

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")


def documented(event: str) -> set[str]:
    """The fields that the page lists for an event."""
    row = re.search(rf"^\| `{event}` \| (.*) \|$", PAGE, re.MULTILINE)
    assert row is not None, event
    return set(re.findall(r"`(\w+)`", row[1]))


def test_every_exit_code_is_documented() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.SdeditError)]
    codes = {kind.exit_code for kind in kinds} | {0}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)} == codes


def test_every_placeholder_of_a_template_is_documented() -> None:
    for name in PLACEHOLDERS:
        assert f"{{{name}" in PAGE


def test_events_have_the_fields_that_the_page_lists(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photo(folder / "a.png")
    (folder / "b.png").touch()
    (folder / "c.png").touch()
    (folder / "c.edited.png").touch()
    words = ["?.png", "-p", "apple " * 100, "--on-exists", "skip", "--save-every", "1", "--steps-dir", "s", "--json"]
    assert run(["run", *words, *QUICK]) == 4
    told = events(capfd.readouterr().out)
    assert run(["run", "a.png", "-o", "d.png", "--dry-run", "--json"]) == 0
    told += events(capfd.readouterr().out)
    assert run(["batch", "?.png", "out", "--check", "--json"]) == 6
    told += events(capfd.readouterr().out)
    (folder / "a.edited.png").unlink()
    for source in ("?.png", "d.png"):
        (folder / "d.png").write_bytes((folder / "a.png").read_bytes())
        run(["batch", source, "out", "--prune", "--json", *QUICK])
        (folder / "b.png").unlink(missing_ok=True)
        (folder / "c.png").unlink(missing_ok=True)
        told += events(capfd.readouterr().out)
    assert run(["run", "a.png", "--sweep", "cfg-scale=1,2", "--sweep-page", "p.html", "--json", *QUICK]) == 0
    told += events(capfd.readouterr().out)
    assert {event["event"] for event in told} == set(re.findall(r"^\| `(\w+)` \| `", PAGE, re.MULTILINE))
    for event in told:
        fields = set(event) - {"schema", "event"}
        assert fields <= documented(event["event"]), event
