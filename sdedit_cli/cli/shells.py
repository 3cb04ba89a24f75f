"""How each shell asks for completions, and what it makes of the answer."""

from __future__ import annotations

import os
from typing import ClassVar

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $line, $position)
    $env:%(complete_var)s = 'powershell_complete'
    $env:COMP_WORDS = $line.ToString().Substring(0, [Math]::Min($position, $line.ToString().Length))
    $env:COMP_WORD = $word
    %(prog_name)s | ForEach-Object {
        $kind, $value, $help = $_ -split "`t", 3
        if ($kind -eq 'plain') {
            [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
        } else {
            Get-ChildItem -Name "$word*" | ForEach-Object { [System.Management.Automation.CompletionResult]::new($_) }
        }
    }
    Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_WORD
}
"""


class Bash(BashComplete):
    """bash takes `--option=value` for three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        return (args[:-1] if args[-1:] == ["="] else args), incomplete


class _OneWord(ShellComplete):
    """A shell that takes `--option=value` for one word, and wants all of it back."""

    _before = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        option, equals, _ = incomplete.partition("=")
        self._before = option + equals if equals and option.startswith("--") else ""
        return args, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        if item.type != "plain":
            return super().format_completion(item)
        return super().format_completion(CompletionItem(self._before + item.value, help=item.help))


class Zsh(_OneWord, ZshComplete):
    """Files are found by zsh, which is told to leave the option alone."""

    def source(self) -> str:
        return super().source().replace("_path_files -f", "compset -P '--*='; _path_files -f", 1)


class Fish(_OneWord, FishComplete):
    """Files are found by a function of fish, which knows nothing of the option."""

    def source(self) -> str:
        paths = "__fish_complete_path $metadata[2]"
        return super().source().replace(paths, f"{paths} | string replace -r -- '^' $metadata[3]", 1)

    def format_completion(self, item: CompletionItem) -> str:
        return super().format_completion(item) + ("" if item.type == "plain" else f",{self._before}")


class PowerShell(ShellComplete):
    """PowerShell, which click does not know."""

    name: ClassVar[str] = "powershell"
    source_template: ClassVar[str] = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"])
        incomplete = os.environ["COMP_WORD"]
        return words[1:-1] if incomplete and words[-1:] == [incomplete] else words[1:], incomplete

    def format_completion(self, item: CompletionItem) -> str:
        # An empty help text is no valid tooltip there.
        return f"{item.type}\t{item.value}\t{item.help or item.value}"


def register() -> None:
    """Has click ask and answer in these ways; a shell asks in a process of its own."""
    for kind in (Bash, Zsh, Fish, PowerShell):
        add_completion_class(kind)
