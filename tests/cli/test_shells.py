"""bash, zsh and fish themselves, as at a prompt: what a tab makes of the words of each command line."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import sys
from pathlib import Path

import pytest
from helpers.cli import environment

from sdedit_cli.cli.completion import VARIABLE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal of Unix")

PATIENCE = 60.0  # seconds until a shell that does not answer fails the test

STAND_IN = f"""#!/bin/sh
# Shells ask this for completions; a line that was typed to its end is shown.
if [ -n "${VARIABLE}" ] || [ "$1" = completion ]; then exec {sys.executable} -m sdedit_cli "$@"; fi
echo "typed: $*."
"""

SHELLS: dict[str, tuple[list[str], str, str]] = {  # how it starts, its start-up file, what that says
    "bash": (
        ["bash", "--noprofile", "--rcfile", "rc", "-i"],
        "rc",
        "PS1='ready> '\neval \"$(sdedit completion bash)\"",
    ),
    "zsh": (
        ["zsh", "-i"],
        ".zshrc",
        "autoload -Uz compinit && compinit -u -D\nPS1='ready> '\neval \"$(sdedit completion zsh)\"",
    ),
    "fish": (
        ["fish", "-i"],
        ".config/fish/config.fish",
        "set fish_greeting ''\nfunction fish_prompt; echo -n 'ready> '; end\nsdedit completion fish | source",
    ),
}

TYPED = {  # up to the tab: as it is after it
    "inf": "info",
    "run --stre": "run --strength",
    "run --schedule ka": "run --schedule karras",
    "run --sampler dpmpp_2m_k": "run --sampler dpmpp_2m_karras",
    "run --preset qu": "run --preset quick",
    "run -m min": "run -m mine",
    "run pho": "run photo.png",
    "run photo.png wi": "run photo.png with space.png",
    "run inner/de": "run inner/deep.png",
    "run photo.png -o pho": "run photo.png -o photo.png",
    "run --like pho": "run --like photo.png",
    "run --schedule=ka": "run --schedule=karras",
    "run --like=pho": "run --like=photo.png",
    **{
        f"run {option} wei": f"run {option} weights.safetensors"
        for option in ("-m", "--vae", "--config", "--lora", "--embedding")
    },
    "info wei": "info weights.safetensors",
    "convert wei": "convert weights.safetensors",
}


NAMES = ("photo.png", "with space.png", "weights.safetensors", "inner/deep.png")


class Terminal:
    """A shell at a prompt."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str]) -> None:
        import pty

        pid, self._end = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(variables)
            os.execvp(command[0], command)
        self._pid = pid
        self._seen = ""
        self.until("ready> ")

    def type(self, keys: str) -> None:
        self._seen = ""
        os.write(self._end, keys.encode())

    def until(self, words: str) -> str:
        """What was shown since the last keys, up to `words`."""
        while words not in self._seen:
            if not select.select([self._end], [], [], PATIENCE)[0]:
                raise AssertionError(f"no {words!r} within {PATIENCE:.0f} s, but {self._seen!r}")
            told = os.read(self._end, 4096).decode(errors="replace")
            self._seen += re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>]|\(B)", "", told)
        return self._seen

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)  # an interactive shell may ask before it goes
        os.close(self._end)
        os.waitpid(self._pid, 0)


@pytest.fixture
def place(folder: Path) -> Path:
    """Files to complete, and the command that completes."""
    for name in (
        "photo.png",
        "with space.png",
        "weights.safetensors",
        "inner/deep.png",
        "models/mine/model_index.json",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "bin").mkdir()
    (folder / "bin" / "sdedit").write_text(STAND_IN)
    (folder / "bin" / "sdedit").chmod(0o755)
    return folder


@pytest.mark.parametrize("shell", SHELLS)
def test_a_tab_completes_commands_options_values_and_files(shell: str, place: Path) -> None:
    command, file, start_up = SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    (place / file).parent.mkdir(parents=True, exist_ok=True)
    (place / file).write_text(f"{start_up}\n")
    variables = environment(
        TERM="dumb" if shell != "fish" else "xterm",
        PATH=f"{place / 'bin'}:{os.environ['PATH']}",
        HOME=str(place),
        ZDOTDIR=str(place),
        XDG_CONFIG_HOME=str(place / ".config"),
        SDEDIT_MODELS=str(place / "models"),
        COLUMNS="200",
    )
    terminal = Terminal(command, place, variables)
    made: dict[str, str] = {}
    for words in TYPED:
        # The line ends in the tab's own time: what is typed meanwhile waits.
        terminal.type(f"sdedit {words}\t\n")
        shown = terminal.until("typed: ")
        shown = terminal.until(".\r\n")
        made[words] = shown.partition("typed: ")[2].partition(".\r\n")[0]
    terminal.close()
    assert made == TYPED
    assert len(made) == 20
