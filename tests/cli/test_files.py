"""Files are whole or absent, and nothing is overwritten by accident."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import ROOT, leftovers

from sdedit_cli.disk.files import check_folder, settle, write_whole
from sdedit_cli.errors import OutputError
from sdedit_cli.signals import Stop, held, stoppable


def test_a_file_is_written_whole_with_the_users_mode(folder: Path) -> None:
    old = os.umask(0o027)
    try:
        write_whole(folder / "new" / "a.png", b"data", replace=False)
    finally:
        os.umask(old)
    assert (folder / "new" / "a.png").read_bytes() == b"data"
    assert stat.S_IMODE((folder / "new" / "a.png").stat().st_mode) == 0o640
    assert not leftovers(folder)


def test_a_file_that_turned_up_meanwhile_is_left_alone(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"theirs")
    with pytest.raises(OutputError, match=r"a\.png: was created by another program"):
        write_whole(folder / "a.png", b"ours", replace=False)
    assert (folder / "a.png").read_bytes() == b"theirs"
    assert not leftovers(folder)


def test_a_link_stays_a_link(folder: Path) -> None:
    (folder / "real.png").write_bytes(b"old")
    (folder / "link.png").symlink_to("real.png")
    write_whole(folder / "link.png", b"new", replace=True)
    assert (folder / "link.png").is_symlink()
    assert (folder / "real.png").read_bytes() == b"new"


def test_a_device_is_written_in_place(folder: Path) -> None:
    assert settle(Path("/dev/null"), "fail", set()) == Path("/dev/null")
    write_whole(Path("/dev/null"), b"x", replace=False)


def test_the_longest_names_work(folder: Path) -> None:
    write_whole(folder / ("a" * 251 + ".png"), b"x", replace=False)
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(folder / ("a" * 252 + ".png"), b"x", replace=False)


_FULL = """
import signal, sys, resource
from pathlib import Path
from sdedit_cli.disk.files import write_whole
from sdedit_cli.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_whole(Path(sys.argv[1]), b"x" * 5000, replace=True)
except OutputError as error:
    print(error)
"""


def test_a_file_over_the_systems_limit_leaves_the_old_one(folder: Path) -> None:
    assert resource.RLIM_INFINITY
    (folder / "a.png").write_bytes(b"old")
    out = subprocess.run(
        [sys.executable, "-c", _FULL, "a.png"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert b"a.png: cannot be written (File too large)" in out.stdout
    assert (folder / "a.png").read_bytes() == b"old"
    assert not leftovers(folder)


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


def test_a_folder_is_no_file(folder: Path) -> None:
    (folder / "a.png").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        settle(Path("a.png"), "overwrite", set())


def test_a_folder_below_a_file_cannot_be(folder: Path) -> None:
    (folder / "a.png").touch()
    with pytest.raises(OutputError, match=r"cannot be a folder, as .*a\.png is a file"):
        check_folder(folder / "a.png" / "b")


def test_signals_wait_for_a_file_in_the_making() -> None:
    reached: list[str] = []

    def work() -> None:
        with held():
            os.kill(os.getpid(), 15)
            reached.append("the end of the file")
        reached.append("never")

    with stoppable(), pytest.raises(Stop) as caught:
        work()
    assert reached == ["the end of the file"]
    assert caught.value.as_error().exit_code == 143
