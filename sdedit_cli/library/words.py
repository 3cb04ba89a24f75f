"""Errors at the library's edge: what the rooms below call an option, callers know as an argument."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from ..errors import SdeditError

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
    "--max-side": "a smaller `image`",
    "--sampler": "`scheduler=`",
    "--size": "a smaller `image`",
    "--vae": "`vae=`",
    "--variant": "`variant`",
}
"""Options of the command line, as messages name them, and what they are in a script."""
_OPTION = re.compile(rf"(?<![\w-])(?:{'|'.join(sorted(ARGUMENTS, reverse=True))})(?![\w-])")


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
    return _OPTION.sub(lambda found: ARGUMENTS[found[0]], message)
