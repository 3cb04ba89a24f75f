"""Errors at the library's edge: what the rooms below call an option, callers know as an argument."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from ..errors import SdeditError

_OPTION = re.compile(r"(?<![\w-])(--?[a-z][a-z-]*)(?: (?:FOLDER|auto\b|bf16\b|fp16\b|diffusers\b))?")
ARGUMENTS: Mapping[str, str] = {
    "-m": "`from_single_file`",
    "--config": "`config=` a folder",
    "--device": "`to('cpu')`",
    "--download": "`local_files_only=False`",
    "--dtype": "`torch_dtype=torch.bfloat16`",
    "--ema": "`ema`",
    "--embedding": "`load_textual_inversion`",
    "--ip-adapter": "`load_ip_adapter`",
    "--lora": "`load_lora_weights`",
    "--partial": "`partial=True`",
    "--prediction-type": "`prediction_type=`",
    "--sampler": "`scheduler=`",
    "--vae": "`vae=`",
    "--variant": "`variant`",
}
"""An option of the command line, with what it is followed by, and what it is in a script."""


@contextmanager
def arguments_named() -> Generator[None, None, None]:
    """Within it, an error of ours speaks of arguments where it would of the command line's options.

    Also a decorator.
    """
    try:
        yield
    except SdeditError as error:
        error.args = (in_arguments(str(error)),)
        raise


def in_arguments(message: str) -> str:
    """The message with arguments in place of the command line's options."""
    return _OPTION.sub(lambda found: ARGUMENTS.get(found[1], found[0]), message)
