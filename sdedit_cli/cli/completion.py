"""sdedit completion: the script that teaches a shell the commands, options and names."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import get_completion_class

from .shells import register

VARIABLE = "_SDEDIT_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")

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
