"""Errors at the library's edge: what the rooms below call an option, callers know as an argument; and one about a file
is of the built-in kinds that scripts for the reference catch."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from ..errors import InputError, SdeditError

ARGUMENTS: Mapping[str, str] = {
    "-m": "`from_single_file`",
    "--config FOLDER": "`config=`",
    "--config": "`config`",
    "--device auto": "`to('cpu')`",
    "--download": "`local_files_only=False`",
    "--dtype bf16": "`torch_dtype=torch.bfloat16`",
    "--dtype": "`torch_dtype`",
    "--ema": "`ema`",
    "--embedding": "`load_textual_inversion`",
    "--ip-adapter": "`load_ip_adapter`",
    "--ip-encoder": "`image_encoder_folder`",
    "--ip-image": "`ip_adapter_image`",
    "--lora": "`load_lora_weights`",
    "--no-mmap": "`disable_mmap=True`",
    "--partial": "`partial=True`",
    "--prompt-embeds": "`prompt_embeds`",
    "--prediction-type": "`prediction_type=`",
    "--max-shard-size": "`max_shard_size`",
    "--max-side": "a smaller `image`",
    "--sampler": "`scheduler=`",
    "--size": "a smaller `image`",
    "--vae": "`vae=`",
    "--variant": "`variant`",
}
"""Options of the command line, as messages name them, and what they are in a script."""
_OPTION = re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(ARGUMENTS, reverse=True))})(?![\w-])")


class FileProblem(ValueError, OSError):
    """What an error about a file is here besides its own class: of one file or another the reference raises either."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_file, (type(self).__mro__[1], self.args, self.__dict__)


def _of_file(kind: type[InputError], args: tuple[Any, ...], facts: dict[str, Any]) -> InputError:
    made = _kind_of_file(kind)(*args)
    vars(made).update(facts)
    return made


@cache
def _kind_of_file(kind: type[InputError]) -> type[InputError]:
    told = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return cast("type[InputError]", type(kind.__name__, (kind, FileProblem), told))


@contextmanager
def arguments_named() -> Generator[None, None, None]:
    """Within it, an error of ours speaks of arguments where it would of the command line's options, and one about a
    file is a FileProblem too.

    Also a decorator.
    """
    try:
        yield
    except SdeditError as error:
        error.args = tuple(in_arguments(str(part)) for part in error.args)
        if not isinstance(error, InputError) or isinstance(error, FileProblem):
            raise
        made = _of_file(type(error), error.args, vars(error))
        raise made.with_traceback(error.__traceback__) from error.__cause__


def in_arguments(message: str) -> str:
    """The message with arguments in place of the command line's options."""
    return _OPTION.sub(lambda found: ARGUMENTS[found[0]], message)
