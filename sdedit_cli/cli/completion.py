"""sdedit completion: the script that teaches a shell the commands, options and names."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

VARIABLE = "_SDEDIT_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")

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
_INSTRUCTIONS = """\b
Add the line of your shell to its start-up file:
  bash (~/.bashrc)
      eval "$(sdedit completion bash)"
  zsh (~/.zshrc)
      eval "$(sdedit completion zsh)"
  fish (~/.config/fish/config.fish)
      sdedit completion fish | source
  powershell ($PROFILE)
      sdedit completion powershell | Out-String | Invoke-Expression"""


class PowerShellComplete(ShellComplete):
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
    """Makes PowerShell known to click; the shell asks for completions in a process of its own."""
    add_completion_class(PowerShellComplete)


class _Shell(click.Choice[str]):
    """One of our shells; that none was named is told in one line."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "Name your shell"


@click.command(epilog=_INSTRUCTIONS)
@click.argument("shell", type=_Shell(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    register()
    kind: Any = get_completion_class(shell)
    click.echo(kind(ctx.find_root().command, {}, "sdedit", VARIABLE).source())
