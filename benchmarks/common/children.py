"""Work in processes of its own: a program is loaded in one, and nothing of the others is in its memory.

A function is named as `module:function`, and takes and gives what JSON can say.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import others

ROOT = Path(__file__).parents[2]
Answer = dict[str, Any]


class Server:
    """A process that has called a function with these arguments, and answers by what the function returned: a callable
    of keywords. It is ready, and at rest, when it has been made.

    Raises RuntimeError with the end of what it printed where it ends or fails.
    """

    def __init__(self, function: str, *args: object, env: dict[str, str] | None = None) -> None:
        self.function = function
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.common.children", function, json.dumps(args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(env),
            text=True,
        )
        others.alive.add(self._process.pid)
        self._read()

    def ask(self, **request: object) -> Answer:
        assert self._process.stdin is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._failed() from None
        return self._read()

    def _read(self) -> Answer:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise self._failed()

    def close(self) -> None:
        self._process.communicate()
        others.alive.discard(self._process.pid)
        self._errors.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _failed(self) -> RuntimeError:
        self._process.wait()
        self._errors.seek(0)
        last = self._errors.read().strip()[-2000:]
        return RuntimeError(f"{self.function} ended with code {self._process.returncode}\n{last}")


def once(function: str, *args: object, env: dict[str, str] | None = None) -> Answer:
    """What a function returns, called in a process that then ends."""
    with Server("benchmarks.common.children:calling", function, *args, env=env) as server:
        return server.ask()


def calling(function: str, *args: object) -> Callable[[], Answer]:
    """For a server: calls the function when it is asked, and not before."""
    return lambda: named(function)(*args)


def named(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    """This process's, the package on the path, with `env` over it; an empty value takes a variable away."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {name: value for name, value in {**os.environ, "PYTHONPATH": path, **(env or {})}.items() if value}


def main() -> None:
    function, args = sys.argv[1:]
    answer = named(function)(*json.loads(args))
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
