"""Files and folders are whole or absent, and signals wait for them."""

from __future__ import annotations

import hashlib
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.cli import ROOT, leftovers

from sdedit_cli.disk.checks import _limits, check_folder, check_name, check_space
from sdedit_cli.disk.leftovers import abandon
from sdedit_cli.disk.stood import Stood, stamps_of
from sdedit_cli.disk.whole import TakenError, staged, write_bytes
from sdedit_cli.errors import OutputError
from sdedit_cli.signals import Stop, held, stoppable


def tree(folder: Path) -> dict[str, str]:
    """The files below a folder, and what they hold."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_written_whole_with_the_users_mode(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "new" / "a.png", b"data", replace=False)
    finally:
        os.umask(old)
    assert (tmp_path / "new" / "a.png").read_bytes() == b"data"
    assert stat.S_IMODE((tmp_path / "new" / "a.png").stat().st_mode) == 0o640
    assert not leftovers(tmp_path)


def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("a.png", "model/a.json"):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "link.png").symlink_to("a.png")
    write_bytes(tmp_path / "link.png", b"new", replace=True)
    with staged(tmp_path / "model", replace=True) as stage:
        stage.write_text("a.json", "new")
        assert stat.S_IMODE(stage.path("a.json").stat().st_mode) == 0o600
    for name in ("a.png", "model/a.json"):
        assert (tmp_path / name).read_bytes() == b"new"
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("before", [b"", b"ours"], ids=["nothing", "ours"])
@pytest.mark.parametrize("came", ["file", "content", "link", "link to nothing", "pipe"])
def test_what_came_since_it_was_looked_at_is_not_replaced(tmp_path: Path, before: bytes, came: str) -> None:
    path, theirs = tmp_path / "a.png", tmp_path / "theirs"
    theirs.write_bytes(b"mine")
    if before:
        path.write_bytes(before)
    stood = Stood(stamps_of(path), hashlib.sha256(before).hexdigest() if before else "")
    if came == "content":
        times = path.stat().st_mtime_ns if before else 0
        path.write_bytes(b"mine")  # of the size and the time of what was there
        os.utime(path, ns=(times, times))
    else:
        path.unlink(missing_ok=True)
        {
            "file": lambda: theirs.rename(path),
            "link": lambda: path.symlink_to(theirs),
            "link to nothing": lambda: path.symlink_to(tmp_path / "none"),
            "pipe": lambda: os.mkfifo(path),
        }[came]()
    now = stamps_of(path)
    with pytest.raises(TakenError, match=r"a\.png: (another program wrote to it|exists now)"):
        write_bytes(path, b"new", replace=True, still=stood.still)
    assert stamps_of(path) == now
    assert not (tmp_path / "none").exists()
    assert not leftovers(tmp_path)


@pytest.mark.parametrize("since", ["nothing", "times", "a backup", "gone"])
def test_what_is_as_it_was_looked_at_is_replaced(tmp_path: Path, since: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"ours")
    (tmp_path / "link.png").symlink_to("a.png")
    for name in (path, tmp_path / "link.png"):
        stood = Stood(stamps_of(name), hashlib.sha256(path.read_bytes()).hexdigest())
        {
            "nothing": lambda: None,
            "times": lambda: os.utime(path, (0, 0)),
            "a backup": lambda name=name: (tmp_path / f"of {name.name}").hardlink_to(path),
            "gone": lambda name=name: name.unlink(),
        }[since]()
        write_bytes(name, b"new", replace=True, still=stood.still)
        assert name.read_bytes() == b"new"
    assert (tmp_path / "link.png").is_symlink() == (since != "gone")


def test_a_file_that_turned_up_meanwhile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"theirs")
    with pytest.raises(OutputError, match=r"a\.png: exists now, it was created by another program"):
        write_bytes(tmp_path / "a.png", b"ours", replace=False)
    assert (tmp_path / "a.png").read_bytes() == b"theirs"
    assert not leftovers(tmp_path)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    write_bytes(tmp_path / "link.png", b"new", replace=True)
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"new"


def test_a_device_is_written_in_place(tmp_path: Path) -> None:
    write_bytes(Path("/dev/null"), b"x", replace=False)


def test_the_longest_names_work(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("a" * 251 + ".png"), b"x", replace=False)
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / ("a" * 252 + ".png"), b"x", replace=False)


def test_a_limit_that_is_not_told_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "\u6f22" * 84 + ".png"  # 256 bytes, and 88 letters
    _limits.cache_clear()
    with pytest.raises(OutputError, match="too long"):
        check_name(tmp_path / "none" / name)
    for most in (-1, 0, None):
        _limits.cache_clear()
        if most is None:
            monkeypatch.delattr(os, "pathconf")
        else:
            monkeypatch.setattr(os, "pathconf", lambda *_, most=most: most)
        check_name(tmp_path / "none" / name)
    _limits.cache_clear()


_FULL = """
import signal, sys, resource
from pathlib import Path
from sdedit_cli.disk.whole import write_bytes
from sdedit_cli.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bytes(Path(sys.argv[1]), b"x" * 5000, replace=True)
except OutputError as error:
    print(error)
"""


def test_a_file_over_the_systems_limit_leaves_the_old_one(tmp_path: Path) -> None:
    assert resource.RLIM_INFINITY
    (tmp_path / "a.png").write_bytes(b"old")
    out = subprocess.run(
        [sys.executable, "-c", _FULL, "a.png"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    assert b"a.png: cannot be written (File too large)" in out.stdout
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_a_folder_below_a_file_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(OutputError, match=r"cannot be a folder, as .*a\.png is a file; choose another place with -o"):
        check_folder(tmp_path / "a.png" / "b", "-o")


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    with staged(tmp_path / "deep" / "model") as stage:
        stage.write_text("unet/config.json", "{}\n")
        with stage.open("unet/weights") as file:
            file.write(b"1234")
        assert stage.path("unet/weights").read_bytes() == b"1234"
        assert not (tmp_path / "deep" / "model").exists()
    assert tree(tmp_path / "deep") == {"model/unet/config.json": "{}\n", "model/unet/weights": "1234"}


def test_the_files_of_a_folder_take_the_place_of_old_ones_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "model" / "unet").mkdir(parents=True)
    (tmp_path / "model" / "unet" / "config.json").write_text("old")
    (tmp_path / "model" / "README.md").write_text("mine")
    with staged(tmp_path / "model", replace=True) as stage:
        stage.write_text("unet/config.json", "new")
        stage.write_text("vae/config.json", "new")
    assert tree(tmp_path) == {
        "model/README.md": "mine",
        "model/unet/config.json": "new",
        "model/vae/config.json": "new",
    }


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("name", ["", "unet/config.json"], ids=["file", "folder"])
@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
def test_what_ends_early_leaves_nothing(name: str, replace: bool, problem: type[BaseException], tmp_path: Path) -> None:
    def work() -> None:
        with staged(tmp_path / "model", replace=replace) as stage:
            stage.write_text(name, "half")
            raise problem

    with pytest.raises(problem):
        work()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "unet/config.json"], ids=["file", "folder"])
def test_what_appears_meanwhile_is_never_replaced(name: str, tmp_path: Path) -> None:
    target = tmp_path / "model"

    def work() -> None:
        with staged(target) as stage:
            stage.write_text(name, "ours")
            target.mkdir() if name else target.write_text("theirs")

    with pytest.raises(OutputError, match="model: exists now"):
        work()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert name or target.read_text() == "theirs"


def test_a_name_below_a_file_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"model: cannot be written \(.*\); nothing was left behind"),
        staged(tmp_path / "file" / "model") as stage,
    ):
        stage.write_text("config.json", "{}")


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    check_space(tmp_path / "model", 0)
    with pytest.raises(OutputError, match=r"model: needs 1,\S+ GB, the disk has .* left; free some space"):
        check_space(tmp_path / "model", 10**21)


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


def test_a_file_written_by_another_thread_neither_holds_signals_nor_ends_the_thread(tmp_path: Path) -> None:
    written: list[Path] = []

    def work() -> None:
        write_bytes(tmp_path / "a.json", b"{}")
        written.append(tmp_path / "a.json")

    def main() -> None:
        with held():
            os.kill(os.getpid(), 15)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    with stoppable(), pytest.raises(Stop):
        main()
    assert written == [tmp_path / "a.json"]


def test_what_a_signal_left_between_a_block_and_its_way_out_is_removed_at_the_end(tmp_path: Path) -> None:
    blocks = [staged(tmp_path / name) for name in ("file", "folder")]  # kept, as a traceback keeps them
    for block, inside in zip(blocks, ("", "inside"), strict=True):
        with block.__enter__().open(inside) as file:
            file.write(b"half")
    assert len(list(tmp_path.iterdir())) == 2
    abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_can_have_is_known_before_its_folder_is_there(tmp_path: Path) -> None:
    """And so is a path that fits only as long as nothing is written beside it."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    check_name(tmp_path / "new" / ("n" * longest))
    for name in ("n" * (longest + 1), "\u00e9" * (longest // 2 + 1), "n" * (longest + 1) + "/a.png"):
        with pytest.raises(OutputError, match="File name too long"):
            check_name(tmp_path / "new" / name)
    deep = Path(str(tmp_path / "new") + "/d" * ((os.pathconf(tmp_path, "PC_PATH_MAX") - len(str(tmp_path)) - 10) // 2))
    with pytest.raises(OutputError, match="File name too long"):
        check_name(deep)
    check_name(deep.parents[30])
