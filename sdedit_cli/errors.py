"""The exceptions of sdedit, and the exit code that each one means on the command line.

    SdeditError                1   what no other class says
    ├── InternalError          1   a fault of ours
    ├── UsageError             2   the request cannot be meant (also a ValueError)
    │   └── WrongTypeError     2   an argument of another type (also a TypeError)
    ├── InputError             3   a file that was named cannot be used
    │   ├── PictureError       3   an input picture
    │   │   ├── OutOfMemory    3   one that needs more memory than there is
    │   │   ├── WorkerLost     3   one at which several workers of a cluster were lost
    │   │   └── MaskError      3   the mask of one: missing, unreadable, or of another size
    │   ├── ModelError         3   a checkpoint, a config or an adapter
    │   │   └── UnsafeFileError    3   a weights file that asks for code to be run
    │   ├── PresetError        3   a preset or a user config
    │   ├── JobFileError       3   a list of jobs, or what one of its rows says
    │   └── OutputError        3   a place to write to
    ├── ClusterError           3   a cluster that cannot be joined, or where nobody can work
    ├── SomeFailed             4   some items of a batch failed
    ├── AllFailed              5   all of them did
    ├── StaleOutputs           6   `batch --check` found outputs to be redone
    ├── BlockedBySafety        7   the safety checker blocked the picture
    ├── NotFiniteError         8   the result was not finite; nothing was written
    ├── Interrupted          130   Ctrl-C, after saving what was done
    └── Terminated           143   SIGTERM, likewise

A message names the file, the value, what was expected and what to try, in one or two lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from errno import ENOSPC
from pathlib import PurePath
from reprlib import Repr


class SdeditError(Exception):
    """What went wrong in one line and, where that would be too long, what to try in another."""

    exit_code = 1
    word = "failed"  # stable, for programs
    reported = False  # whether programs have been told, by the event that ends a run

    def __init__(self, message: object = "", advice: str = "") -> None:
        super().__init__(*(message, advice) if advice else (message,))

    def __str__(self) -> str:
        # A break that came with the name of a file would make a line of its own, which nobody wrote.
        return "\n".join(_BREAKS.sub(_escaped, str(part)) for part in self.args)

    def within(self, place: str) -> SdeditError:
        """The error as part of a larger work, with the name of the place before it."""
        message, *advice = self.args
        return type(self)(f"{place}: {message}", *advice)


class InternalError(SdeditError):
    word = "internal-error"


class UsageError(SdeditError, ValueError):
    word = "bad-request"
    exit_code = 2


class WrongTypeError(UsageError, TypeError):
    pass


class InputError(SdeditError):
    exit_code = 3


class PictureError(InputError):
    word = "input-unusable"


class OutOfMemory(PictureError):
    word = "out-of-memory"


class WorkerLost(PictureError):
    word = "worker-lost"


class MaskError(PictureError):
    word = "mask-unusable"


class ModelError(InputError):
    word = "model-unusable"


class UnsafeFileError(ModelError):
    word = "unsafe-file"


class PresetError(InputError):
    word = "preset-unusable"


class JobFileError(InputError):
    word = "job-unusable"


class OutputError(InputError):
    word = "output-unwritable"


class ClusterError(SdeditError):
    word = "cluster-unusable"
    exit_code = 3


class SomeFailed(SdeditError):
    word = "some-failed"
    exit_code = 4


class AllFailed(SdeditError):
    word = "all-failed"
    exit_code = 5


class StaleOutputs(SdeditError):
    word = "stale-outputs"
    exit_code = 6


class BlockedBySafety(SdeditError):
    word = "blocked-by-safety"
    exit_code = 7


class NotFiniteError(SdeditError):
    word = "not-finite"
    exit_code = 8


class Interrupted(SdeditError):
    word = "interrupted"
    exit_code = 130


class Terminated(SdeditError):
    word = "terminated"
    exit_code = 143


def as_error(problem: Exception) -> SdeditError:
    """What was raised as an error of ours, with the words and the exit code that are reported for it."""
    if isinstance(problem, SdeditError):
        return problem
    if is_out_of_memory(problem):
        return OutOfMemory("out of memory; an edit takes less with --max-side 768, or --dtype bf16 or fp16")
    if isinstance(problem, OSError) and problem.errno == ENOSPC:
        return OutputError(f"stdout: cannot be written ({problem.strerror})")
    first = str(problem).strip().split("\n")[0]
    return InternalError(f"internal error: {type(problem).__name__}: {first}")


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether this says that there is not enough memory: Python's way, or one of torch's, which has several."""
    words = str(problem)
    return (
        isinstance(problem, MemoryError)
        or type(problem).__name__ == "OutOfMemoryError"
        or (isinstance(problem, RuntimeError) and any(mark in words.lower() for mark in _MEMORY_MARKS))
    )


# The last two are what oneDNN says, which does not say why. A thread wants memory for its stack.
_MEMORY_MARKS = (
    *("not enough memory", "defaultcpuallocator", "out of memory", "can't start new thread"),
    *("could not create a memory object", "could not create a primitive"),
)


def shown(name: object, limit: int = 80) -> str:
    """A text from a file as a message may carry it: printable characters only (others escaped), `limit` at most."""
    text = str(name) if isinstance(name, (str, PurePath)) else _Brief().repr(name)
    safe = printable(text[: limit + 1])
    return safe if len(safe) <= limit else f"{safe[: limit - 3]}..."


def quoted(value: object) -> str:
    """A value from a file as a message may carry it: texts in quotes, so that '7' and 7 differ."""
    return f"'{shown(value)}'" if isinstance(value, str) else shown(value)


def shortened(name: object, limit: int = 160) -> str:
    """The name of a file for a message, the middle of a very long one left out."""
    text, kept = str(name), min(60, (limit - 3) // 2)
    return text if len(text) <= limit else f"{text[:kept]}...{text[-kept:]}"


def first_line(message: object) -> str:
    """What an error, or its text, says in its first line: all of it but what to try in the next one."""
    return str(message).partition("\n")[0]


def printable(text: str) -> str:
    """The text with everything that a terminal would not print as it is, line ends included, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


_BREAKS = re.compile(r"[\r\n]")


def _escaped(found: re.Match[str]) -> str:
    return printable(found[0])


class _Brief(Repr):
    """The text of a value from a file, however deep or large it is: the work is bounded too."""

    def repr_int(self, x: int, level: int) -> str:
        return f"a number of {x.bit_length()} bits" if x.bit_length() > 64 else str(x)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are. Of long ones the middle is left out: keys differ at the end."""
    rest = len(names) - most
    return ", ".join(shown(shortened(name), 160) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")


def did_you_mean(word: str, known: Sequence[str], plain: Callable[[str], str] = str.lower) -> str:
    """'; did you mean X?' for the known word that is nearest, or has this one as a part; '' when there is none.

    Words are compared as `plain` makes them.
    """
    from difflib import get_close_matches

    lowered = {plain(name): name for name in known}
    # The work grows with the length of the word, and no long one is near.
    asked = plain(word[:100])
    near = get_close_matches(asked, list(lowered), n=1, cutoff=0.6)
    if not near and len(asked) >= _LEAST_PART:
        near = sorted((name for name in lowered if asked in name), key=len)
    return f"; did you mean '{lowered[near[0]]}'?" if near else ""


_LEAST_PART = 3


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns of a call, at the line of whoever called us, however many of our functions and decorators lie between."""
    import inspect
    import warnings

    level, frame = 1, inspect.currentframe()
    while frame is not None and (level == 1 or str(frame.f_globals.get("__name__")).startswith(_BETWEEN)):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


_BETWEEN = ("sdedit_cli.", "torch.", "contextlib")


def let_go(problem: BaseException) -> None:
    """Has an error that is kept hold its words alone: what it came through holds pictures and tensors otherwise."""
    problem.__cause__ = problem.__context__ = problem.__traceback__ = None
