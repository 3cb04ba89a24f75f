"""`sdedit embed init`: a new embedding that begins as words that the model knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...errors import UsageError
from ...options import field_named
from ..file_commands import DEBUG, PATH, check_target
from ..flags import field_option, options
from ..layering import layering
from ..models import readable
from .convert import layout_of, write
from .options import TO


@click.command("init", short_help="Begin an embedding from words.")
@click.argument("word")
@click.option("--from", "text", required=True, metavar="TEXT", help="Words whose vectors it begins with.")
@click.option(
    "--vectors", type=click.IntRange(1, 75), metavar="N", help="How many it has.  [default: one for each token of TEXT]"
)
@options(*(field_option(field_named(name, "")) for name in ("model", "config", "variant", "download")))
@click.option("-o", "--output", type=PATH, required=True, metavar="FILE", help="The file to write.")
@options(TO, DEBUG)
def init(word: str, text: str, vectors: int | None, output: Path, to: str | None, **given: Any) -> None:
    """Write an embedding for WORD whose vectors are those of TEXT in the model's table, to be trained further.

    With more or fewer vectors than TEXT has tokens, these are spread over them, as web UIs do.
    """
    from ...adapters.embedding import TextualInversion
    from ...engine.encoding import vectors_of
    from ..preflight import Preflight

    if not word.strip():
        raise UsageError("the word is empty; give one that stands for the embedding in prompts, such as mycat")
    layout = layout_of(output, to)
    request = layering(given, (), None).request()
    check_target(output)
    with readable(request.model.name):
        found_NC = vectors_of(Preflight(request).checkpoint(), text, vectors)
    write(output, layout, TextualInversion(word, found_NC, output))
