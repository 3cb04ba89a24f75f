"""A command line with a signal at a line of its way: `python -m helpers.signal_lines COUNT ARGUMENT...`.

The command line is run once to see which lines of Python it comes by, from where it catches signals, and without those
of torch; then once for each of COUNT of them, drawn, with a signal as it first comes by. Every run has a working folder
of its own, with two pictures. Prints for each, as a line of JSON, which signal and where, the exit code, what it wrote,
and the files that it left. Runs are copies of one process that has imported what the command needs, and so take no
longer than their own work.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from sdedit_cli.__main__ import main

from .cli import photo

Line = tuple[str, int]
SIGNALS = itertools.cycle((signal.SIGINT, signal.SIGTERM))


class Ended(NamedTuple):
    """How a command line ended."""

    code: int
    stdout: str
    stderr: str
    files: list[str]


def copied(work: Callable[[], object]) -> Ended:
    """What became of this work in a copy of this process, in a folder of its own."""
    folder = Path(tempfile.mkdtemp())  # TemporaryDirectory would have the copy remove it at its end
    try:
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            for name in ("a.png", "b.png"):
                photo(folder / name)
            copy = os.fork()
            if not copy:
                os.chdir(folder)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                _leave_after(work)
            code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
            said = [os.pread(stream.fileno(), 1_000_000, 0).decode() for stream in (out, err)]
            return Ended(code, *said, sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
    finally:
        shutil.rmtree(folder)


def _leave_after(work: Callable[[], object]) -> None:
    """Ends the process as Python ends, but for taking modules apart."""
    code: Any = 70
    try:
        work()
        code = 0
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()  # of this copy: what the libraries have registered may fail too
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def followed(by: Callable[[Line], object]) -> None:
    """Runs the command line of `sys.argv`; calls `by` with each line as it comes by it first."""
    met: set[Line] = set()

    def by_line(frame: FrameType, event: str, argument: Any) -> Any:
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line not in met and signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
            met.add(line)
            by(line)
        return by_line

    def by_call(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        return None if name.startswith("<") or name == __file__ or "/torch/" in name else by_line

    sys.settrace(by_call)
    main()


def import_what_it_imports() -> None:
    """Imports here what the command line of `sys.argv` imports of ours, torch with it."""
    with tempfile.NamedTemporaryFile("r") as noted:

        def work() -> None:
            try:
                followed(lambda line: None)
            finally:
                Path(noted.name).write_text("\n".join(name for name in sys.modules if name.startswith("sdedit_cli.")))

        copied(work)
        for name in noted.read().split():
            import_module(name)


def lines_met() -> list[Line]:
    """The lines that the command line of `sys.argv` comes by, in order."""
    with tempfile.NamedTemporaryFile() as noted:
        # By its descriptor, for a copy comes by lines until its very end.
        ended = copied(lambda: followed(lambda line: os.write(noted.fileno(), f"{json.dumps(line)}\n".encode())))
        assert ended.code == 0, ended
        noted.seek(0)
        return [(name, number) for name, number in map(json.loads, noted)]


def signalled_at(line: Line, number: signal.Signals) -> Ended:
    """The command line of `sys.argv` with a signal at that line."""
    return copied(lambda: followed(lambda met: os.kill(os.getpid(), number) if met == line else None))


if __name__ == "__main__":
    count, sys.argv = int(sys.argv[1]), ["sdedit", *sys.argv[2:]]
    import_what_it_imports()
    met = lines_met()
    for line, number in zip(random.Random(0).sample(met, min(count, len(met))), SIGNALS, strict=False):
        print(json.dumps({"at": line, "signal": number, **signalled_at(line, number)._asdict()}), flush=True)
