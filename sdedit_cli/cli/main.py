"""The command `sdedit`: finds the subcommand, runs it, and turns what goes wrong into a line and an exit code."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NoReturn, TextIO

import click

from .. import signals
from ..batch.events import Events, ReaderGone
from ..errors import InternalError, Interrupted, OutputError, SdeditError, UsageError, as_error
from ..signals import Stop, stoppable
from .render import Reporter

# The help of the group must not import the commands, so their lines stand here.
COMMANDS = {
    "run": "Edit pictures under a prompt.",
    "batch": "Edit a folder or a list of pictures, resumable.",
    "lora": "Inspect, merge, convert and extract LoRA adapters.",
    "embed": "Encode prompts; inspect, convert and make embeddings.",
    "convert": "Convert checkpoints between layouts and number formats.",
    "info": "Say what a file or this machine is.",
    "presets": "List the presets, or write out the drawings that come with sdedit.",
    "samplers": "List the samplers.",
    "completion": "Print the completion script of a shell.",
}
HELP_WIDTH = 100
_FOR_HELP = {"-h", "--help", "--version"}


class LazyGroup(click.Group):
    """A group that imports the module of a command when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if _home(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _home(cmd_name) if cmd_name in COMMANDS else None
        return None if home is None else import_module(home).command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from ..errors import did_you_mean

            hint = did_you_mean(name, self.list_commands(ctx))
            if not hint and (os.path.exists(name) or "." in name):
                hint = f"; to edit a picture: sdedit run {name} -p '...'"
            ctx.fail(f"no command is called '{name}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _home(name: str) -> str | None:
    module = f"{__package__}.{name}"
    return module if find_spec(module) else None


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .. import __version__

        click.echo(f"sdedit {__version__}")
        ctx.exit()


@click.command(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_WIDTH},
    epilog="'sdedit COMMAND --help' shows the options of a command.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Edit pictures with Stable Diffusion checkpoints.

    sdedit run photo.jpg -p "a watercolour of a harbour" --strength 0.6
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command line and exits with its code."""
    sys.unraisablehook = _unraisable
    _take_any_character()
    code = run(list(sys.argv[1:] if arguments is None else arguments), signals.caught)
    # All is told: a signal while the process winds down must not be told once more, nor end it in another way.
    signals.ignore()
    leftovers = sys.modules.get("sdedit_cli.disk.leftovers")  # imported by whoever has written something
    if leftovers is not None:
        leftovers.abandon()
    # What is left is the system's to take back: looking through all of torch for garbage took half a second. Triton
    # would tell people of what it left.
    if "triton" not in sys.modules:
        gc.freeze()
    _give_up_full_stderr()
    sys.exit(code)


def _unraisable(dropped: Any) -> None:
    """What Python does with an exception that it cannot raise, but for a signal: that comes again."""
    if isinstance(dropped.exc_value, Stop):
        signals.lost()
    else:
        sys.__unraisablehook__(dropped)


def _take_any_character() -> None:
    """A terminal that lacks a character gets its number: no run is lost for a word about it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):  # what a library wrote goes out before, where it can
                stream.reconfigure(errors="backslashreplace")


def run(arguments: list[str], signalled: Callable[[], AbstractContextManager[None]] = stoppable) -> int:
    """The exit code of a command line, carried out, with signals as `signalled` has them. Errors are one line on
    stderr; `--debug` adds the traceback."""
    if sys.__stdout__ is not None:
        return _ended(arguments, signalled)
    # The program was started without one.
    with contextlib.redirect_stdout(
        io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    ) as lost:
        code = _ended(arguments, signalled)
    if code or not lost.tell():
        return code
    return _fail(arguments, OutputError("stdout is closed, and what was printed there is lost"))


def _ended(arguments: list[str], signalled: Callable[[], AbstractContextManager[None]]) -> int:
    try:
        try:
            with signalled():
                return _carried_out(arguments)
        except Stop as stop:  # before the work began, or the second one, while the first was being dealt with
            signals.settle()
            return _fail(arguments, stop.as_error())
    except Stop as stop:  # the second one, where the first came before the work began
        signals.settle()
        return _fail(arguments, stop.as_error())


def _has_working_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _carried_out(arguments: list[str]) -> int:
    # The commands emit their own events; what ends a command line before that is reported from here.
    if "_SDEDIT_COMPLETE" in os.environ:
        import_module(f"{__package__}.shells").register()
    if not _FOR_HELP.intersection(arguments) and not _has_working_folder():
        signals.settle()
        return _fail(arguments, OutputError("the working folder is gone; change to one that is there"))
    try:
        outcome: Any = command.main(arguments, prog_name="sdedit", standalone_mode=False)
        _flush()
        signals.settle()
        return outcome if isinstance(outcome, int) else 0
    except click.exceptions.Exit as leave:
        signals.settle()
        return leave.exit_code
    except click.ClickException as problem:
        signals.settle()
        where = problem.ctx.command_path if isinstance(problem, click.UsageError) and problem.ctx else "sdedit"
        said = _elsewhere(problem) or " ".join(problem.format_message().split())
        return _fail(arguments, UsageError(said, f"see {where} --help"))
    except (click.Abort, KeyboardInterrupt) as abort:
        signals.settle()
        stop = abort if isinstance(abort, Stop) else abort.__cause__
        return _fail(arguments, stop.as_error() if isinstance(stop, Stop) else Interrupted("interrupted"))
    except (ReaderGone, BrokenPipeError):
        signals.settle()
        return _reader_gone()
    except Exception as problem:
        signals.settle()
        error = as_error(problem)
        stop = signals.came()
        if stop and isinstance(error, InternalError):
            error = stop.as_error()  # what was interrupted made another exception of it
        hint = "; --debug shows where" if isinstance(error, InternalError) and "--debug" not in arguments else ""
        code = _fail(arguments, error, hint)
        return _reader_gone(code) if isinstance(problem, OSError) and isinstance(error, OutputError) else code


def _elsewhere(problem: click.ClickException) -> str:
    """What to say of an option that another command has; '' for any other problem."""
    if not isinstance(problem, click.NoSuchOption) or problem.ctx is None or problem.ctx.parent is None:
        return ""
    group, name = problem.ctx.parent.command, problem.option_name
    if not isinstance(group, click.Group):
        return ""
    others = (
        (other, group.get_command(problem.ctx.parent, other)) for other in group.list_commands(problem.ctx.parent)
    )
    have = [other for other, found in others if found and any(name in param.opts for param in found.params)]
    where = ", ".join(f"'{problem.ctx.parent.command_path} {other}'" for other in have)
    return f"No such option '{name}'; {where} {'has' if len(have) == 1 else 'have'} it." if have else ""


def _fail(arguments: Sequence[str], error: SdeditError, hint: str = "") -> int:
    """The exit code of an error, which people are told, and programs too unless their `end` event is out."""
    code, text = error.exit_code, f"{error}{hint}"
    if "--debug" in arguments and sys.exc_info()[1] is not None:
        import traceback

        with contextlib.suppress(OSError):
            traceback.print_exc()
    Reporter().error(text)
    if "--json" in arguments and not error.reported and sys.__stdout__ is not None:
        try:
            Events(sys.stdout.buffer).end(error, text)
            _flush()
        except Stop:
            return code  # while waiting for a reader who does not read
        except (ReaderGone, OutputError, OSError):
            return _reader_gone(code)
    return code


def _give_up_full_stderr() -> None:
    # What could not be told stays in its buffer: Python would try again on its way out, and end with a code of its own.
    with contextlib.suppress(ValueError, AttributeError):
        try:
            sys.stderr.flush()
        except OSError:
            _to_nobody(sys.stderr)


def _flush() -> None:
    if sys.stdout is not None:
        sys.stdout.flush()


def _reader_gone(code: int = OutputError.exit_code) -> int:
    # Python flushes stdout on its way out, and would complain of the closed pipe then.
    _to_nobody(sys.stdout)
    return code


def _to_nobody(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
