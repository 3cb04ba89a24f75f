"""What a killed process left is told from work in progress by its name, and cleared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import environment

from sdedit_cli.disk.leftovers import clear_leftovers, stage_name
from sdedit_cli.disk.whole import staged

pytestmark = pytest.mark.skipif(os.name != "posix", reason="asks whether a process is there")

_KILLED = """
import os, sys
from pathlib import Path
from sdedit_cli.disk.whole import staged
with staged(Path("target")) as stage:
    stage.write_text(sys.argv[1], "half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("name", ["", "unet/config.json"], ids=["file", "folder"])
def test_what_a_killed_process_left_is_cleared(tmp_path: Path, name: str) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, name], cwd=tmp_path, env=environment(), check=False)
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    assert clear_leftovers(tmp_path) == left
    assert not list(tmp_path.iterdir())


def test_work_in_progress_stays(tmp_path: Path) -> None:
    with staged(tmp_path / "target") as stage:
        stage.write_text("", "half")
        assert clear_leftovers(tmp_path) == []
        with subprocess.Popen(["sleep", "60"]) as other:
            theirs = stage_name("x").replace(f"-{os.getpid()}-", f"-{other.pid}-")
            (tmp_path / theirs).touch()
            assert clear_leftovers(tmp_path) == []
            other.kill()
        assert clear_leftovers(tmp_path) == [theirs]
    assert (tmp_path / "target").read_text() == "half"


def test_a_run_before_us_that_had_our_number_is_dead(tmp_path: Path) -> None:
    name = stage_name("x")
    (tmp_path / (name.replace(name[-16:-4], "0" * 12))).touch()
    assert len(clear_leftovers(tmp_path)) == 1


@pytest.mark.parametrize(
    "name", ["a.tmp", ".a.0123456789ab.tmp", ".a.00000000-999999999-0123456789ab.tmp", ".a.tmp", "photo.png"]
)
def test_what_is_not_ours_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert clear_leftovers(tmp_path) == []


def test_a_link_of_such_a_name_goes_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").touch()
    link = tmp_path / stage_name("x").replace(f"-{os.getpid()}-", "-999999999-")
    link.symlink_to("precious")
    assert clear_leftovers(tmp_path) == [link.name]
    assert (tmp_path / "precious" / "a").exists()


def test_folders_that_are_not_there_have_nothing_to_clear(tmp_path: Path) -> None:
    assert clear_leftovers(tmp_path / "none") == []
