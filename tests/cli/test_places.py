"""Inputs that are no files, and names and places that trip a careless program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.cli import QUICK, environment, events, one_line, photo, sdedit, start

from sdedit_cli.batch.names import fitting
from sdedit_cli.cli.main import run
from sdedit_cli.disk.leftovers import stage_name

Errors = pytest.CaptureFixture[str]
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, devices and users are those of Unix")


@posix
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/dev/zero", "is a device"),
        ("/dev/urandom", "is a device"),
        ("/dev/full", "is a device"),
        ("link.png", "is a device"),
        ("/proc/kmsg", "is a file of the kernel"),
        ("/proc/self/mem", "is a file of the kernel"),
        ("/dev/null", "is empty"),
        ("sparse.png", "has 100,000 MB, over the limit of 1024 MB"),
    ],
)
def test_inputs_that_never_end_are_refused_without_a_byte_read(
    folder: Path, capfd: Errors, source: str, told: str
) -> None:
    if source.startswith("/") and not Path(source).exists():
        pytest.skip(f"there is no {source}")
    (folder / "link.png").symlink_to("/dev/zero")
    os.truncate(photo(folder / "sparse.png"), 10**11)
    photo(folder / "a.png")
    assert run(["run", source, "-o", "x.png", *QUICK]) == 3
    assert told in one_line(capfd.readouterr().err)
    if told.startswith(("is a device", "is a file")):
        for words in (["info", source], ["run", "a.png", "--like", source], ["run", "a.png", "-m", source]):
            assert run(words) == 3
            assert told in one_line(capfd.readouterr().err)


@posix
def test_endless_pipes_end_at_the_limit(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    line = f"yes | {sys.executable} -m sdedit_cli run - -o x.png; yes > pipe & {sys.executable} -m sdedit_cli run pipe"
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=environment(SDEDIT_MAX_MEGABYTES="0.5"),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stderr.decode().count("has more than 0.5 MB, over the limit of 0.5 MB") == 2
    assert done.returncode == 3


@posix
def test_a_picture_comes_through_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    data = photo(folder / "a.png").read_bytes()
    writer = threading.Thread(target=lambda: (folder / "pipe.png").write_bytes(data))
    writer.start()
    assert run(["run", "pipe.png", "-o", "x.png", *QUICK]) == 0
    writer.join()


@posix
@pytest.mark.parametrize("option", ["-m", "--vae", "--tiny-vae", "--lora", "--embedding", "--upscaler", "--ip-adapter"])
def test_a_pipe_is_no_model_nor_a_part_of_one(folder: Path, capfd: Errors, option: str) -> None:
    os.mkfifo(folder / "pipe.pt")
    photo(folder / "a.png")
    words = [option, "pipe.pt", *(["--upscale", "2"] if option == "--upscaler" else [])]
    words += ["--ip-image", "a.png"] if option == "--ip-adapter" else []
    for more in (["--dry-run"], ["-o", "x.png"]):
        assert run(["run", "a.png", "-p", "a cat", *words, *more]) == 3
        assert "pipe.pt: is a pipe; expected a file or a folder" in one_line(capfd.readouterr().err)


@posix
@pytest.mark.parametrize("words", [["info"], ["lora", "inspect"], ["embed", "inspect"]], ids=" ".join)
def test_a_pipe_says_nothing_of_a_model(folder: Path, capfd: Errors, words: list[str]) -> None:
    os.mkfifo(folder / "pipe.pt")
    assert run([*words, "pipe.pt"]) == 3
    assert "pipe.pt: is a pipe; expected a file or a folder" in one_line(capfd.readouterr().err)


@posix
@pytest.mark.parametrize("value", ["x", "0", "-1", "nan", "1e400", "9" * 400, "\x1b[2J"])
@pytest.mark.parametrize("name", ["SDEDIT_MAX_MEGABYTES", "SDEDIT_MAX_MEGAPIXELS"])
def test_a_limit_that_is_none_is_a_usage_error(
    folder: Path, capfd: Errors, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    photo(folder / "a.png")
    assert run(["run", "a.png", "--dry-run"]) == 2
    assert f"{name} is" in one_line(capfd.readouterr().err)


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("words", [["pipe", "-o", "x.png"], ["a.png", "-o", "pipe.png"]], ids=["input", "output"])
def test_waiting_for_the_other_end_of_a_pipe_ends_by_a_signal(
    folder: Path, words: list[str], number: signal.Signals, code: int
) -> None:
    photo(folder / "a.png")
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.png")
    with start("run", *words, *QUICK, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        until_it_sleeps_in(process, "wait_for_partner", "fifo_open")
        process.send_signal(number)
        assert process.wait(60) == code


def until_it_sleeps_in(process: subprocess.Popen[bytes], *calls: str) -> None:
    """Returns when the process waits in one of the kernel's functions, as far as the kernel says so."""
    for _ in range(600):
        where = Path(f"/proc/{process.pid}/wchan")
        if where.exists() and where.read_text() in calls:
            return
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        return


def test_a_tilde_in_an_inputs_name_is_a_letter(folder: Path) -> None:
    for name in ("~tilde.png", "~root.png", "~.png"):
        photo(folder / name)
        assert run(["run", name, *QUICK]) == 0
    made = sorted(path.name for path in folder.glob("*.edited.png"))
    assert made == ["~.edited.png", "~root.edited.png", "~tilde.edited.png"]


def test_a_tilde_that_was_typed_is_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    photo(folder / "a.png")
    assert run(["run", "a.png", "-o", "~/x.png", *QUICK]) == 0
    assert (folder / "x.png").exists()


@pytest.mark.parametrize("letter", ["d", "é", "☕"])
def test_long_names_are_shortened_and_stay_apart(folder: Path, letter: str) -> None:
    stem = letter * (246 // len(letter.encode()))
    names = [photo(folder / f"{stem}{end}.png").name for end in "ab"]
    assert run(["run", *names, *QUICK]) == 0
    made = [path.name for path in folder.glob("*.edited.png")]
    assert len(made) == 2
    assert all(len(name.encode()) <= 255 and name.startswith(letter * 50) for name in made)
    assert run(["run", *names, "--on-exists", "suffix", *QUICK]) == 0
    assert len([path for path in folder.iterdir() if "~" in path.name]) == 4


def test_names_that_fit_are_left_alone() -> None:
    assert fitting("a" * 250, lambda stem: f"{stem}.png") == "a" * 250 + ".png"
    assert len(fitting("a" * 252, lambda stem: f"{stem}.png")) == 255
    assert fitting("a", lambda stem: stem + "b" * 300) == "a" + "b" * 300


@pytest.mark.parametrize(
    ("policy", "event", "output"),
    [("suffix", "saved", "x-3.png"), ("skip", "skipped", "x.png")],
    ids=["suffix", "skip"],
)
def test_a_name_that_another_run_took_meanwhile_is_not_the_end(
    folder: Path, capfd: Errors, policy: str, event: str, output: str
) -> None:
    """The other run comes while this one waits for its input, after it has looked at the names."""
    os.mkfifo(folder / "in.png")
    photo(folder / "a.png")

    def other() -> None:
        with (folder / "in.png").open("wb") as pipe:
            (folder / "x.png").write_bytes(b"theirs")
            (folder / "x-2.png").write_bytes(b"theirs")
            pipe.write((folder / "a.png").read_bytes())

    writer = threading.Thread(target=other)
    writer.start()
    assert run(["run", "in.png", "-o", "x.png", "--on-exists", policy, "--json", *QUICK]) == 0
    writer.join()
    ends = [(one["event"], one["output"]) for one in events(capfd.readouterr().out) if "output" in one]
    assert ends == [(event, output)]
    assert (folder / "x.png").read_bytes() == b"theirs"


@posix
def test_an_output_that_is_a_loop_of_links_is_left_alone(folder: Path, capfd: Errors) -> None:
    photo(folder / "a.png")
    (folder / "loop.png").symlink_to("loop.png")
    assert run(["run", "a.png", "-o", "loop.png", "--on-exists", "overwrite", *QUICK]) == 3
    assert "loop.png: cannot be written (Too many levels of symbolic links)" in one_line(capfd.readouterr().err)
    assert (folder / "loop.png").is_symlink()


_NOBODY = """
import os, sys
from sdedit_cli.cli.main import run
run(["run", "a.png", "-o", "warm.png", *sys.argv[2:]])  # imports all of it while we may read it
sys.stdout.flush()
os.environ.clear()
os.setgid(54321)
os.setuid(54321)
sys.exit(run(["run", "a.png", "-o", sys.argv[1], *sys.argv[2:]]))
"""


@posix
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("output", ["enter/", "linked/", "enter/x.png", "linked/{stem}.png"])
def test_nobody_without_a_home_writes_into_a_folder_that_may_be_entered_alone(folder: Path, output: str) -> None:
    photo(folder / "a.png").chmod(0o644)
    (folder / "enter").mkdir()
    (folder / "enter").chmod(0o333)
    (folder / "linked").symlink_to("enter")
    for above in (folder, *folder.parents[:3]):
        above.chmod(0o755)
    words = [sys.executable, "-c", _NOBODY, output, *QUICK]
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, check=False)
    assert b"no home folder is known" in done.stderr
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "enter").iterdir())) == 1


@posix
@pytest.mark.parametrize(
    ("words", "code"), [("run {}/a.png", 3), ("run {}/a.png -o x.png", 3), ("info", 3), ("convert m n", 3), ("-h", 0)]
)
def test_a_working_folder_that_was_removed_is_told(folder: Path, words: str, code: int) -> None:
    photo(folder / "a.png")
    script = "from sdedit_cli.__main__ import main; main()"
    line = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -c '{script}' {words.format(folder)}"
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == code
    if code:
        assert one_line(done.stderr) == "sdedit: the working folder is gone; change to one that is there"


@posix
def test_the_next_run_clears_what_a_killed_one_left_and_says_so(folder: Path, capfd: Errors) -> None:
    photo(folder / "a.png")
    name = stage_name("a.edited.png").replace(f"-{os.getpid()}-", "-999999999-")
    (folder / name).touch()
    assert run(["run", "a.png", "--dry-run"]) == 0
    assert (folder / name).exists()
    assert run(["run", "a.png", *QUICK]) == 0
    assert f"{name}: removed; a run that was killed left it unfinished" in capfd.readouterr().err
    assert not (folder / name).exists()


@posix
@pytest.mark.parametrize("words", [["-p", "café ☕"], ["-n", "café ☕"]])
def test_a_prompt_in_utf8_is_taken_where_the_locale_knows_ascii_alone(folder: Path, words: list[str]) -> None:
    photo(folder / "a.png")
    more = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = sdedit("run", "a.png", "--dry-run", "--json", *words, cwd=folder, more=more)
    assert done.returncode == 0
    edit = events(done.stdout)[0]["edit"]
    assert "café ☕" in (edit["prompt"], edit["negative_prompt"])
    done = sdedit("run", "a.png", "--dry-run", "--json", cwd=folder, more={**more, "SDEDIT_PROMPT": words[1]})
    assert events(done.stdout)[0]["edit"]["prompt"] == "café ☕"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_output_never_fails_for_a_character(folder: Path, encoding: str) -> None:
    photo(folder / "☕.png")
    more = {"PYTHONIOENCODING": f"{encoding}:strict", "PYTHONUTF8": "1"}
    done = sdedit("run", "☕.png", *QUICK, cwd=folder, more=more)
    assert done.returncode == 0
    assert b"\\u2615.edited.png" in done.stderr
    for words in (["info", "☕.png"], ["info", "none-☕"], ["convert", "none-☕", "x"]):
        done = sdedit(*words, cwd=folder, more=more)
        assert done.returncode == (0 if words[1] == "☕.png" else 3)
        # click writes UTF-8 where the terminal claims to know ASCII alone.
        assert b"\\u2615" in done.stdout + done.stderr or "☕".encode() in done.stdout + done.stderr


def test_no_result_takes_the_place_of_an_input_that_is_edited_after_it(folder: Path, capfd: Errors) -> None:
    names = ("1.png", "2.png", "3.png")
    for name in names:
        photo(folder / name)
    before = {name: (folder / name).read_bytes() for name in names}
    more = ("-p", "x", *QUICK, "--on-exists", "overwrite")
    assert run(["run", *reversed(names), "-o", "{index}.png", *more]) == 2
    assert "the picture of 3.png would replace 1.png, which is an input too" in capfd.readouterr().err
    rows = [{"input": name, "output": f"{n}.png"} for n, name in enumerate(reversed(names), 1)]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(["batch", "jobs.jsonl", ".", *more]) == 4
    words = capfd.readouterr().err
    assert words.count("it is the input of another job, so it is left as it is") == 2
    assert {name: (folder / name).read_bytes() for name in ("1.png", "3.png")} == {
        n: before[n] for n in ("1.png", "3.png")
    }
    assert run(["run", *names, "-o", "{stem}.png", *more]) == 0
