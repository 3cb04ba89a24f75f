"""`sdedit embed convert`: an embedding in another layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ...errors import UsageError
from ...signals import settle
from ..file_commands import DEBUG, PATH, check_source, check_target
from ..flags import options
from ..render import plain
from .options import ADAPTER, TO

_DEFAULTS = {".pt": "a1111", ".bin": "diffusers", ".safetensors": "diffusers"}
_SUFFIXES = {
    "a1111": (".pt", ".bin"),
    "diffusers": (".safetensors", ".bin"),
    "kohya": (".safetensors", ".pt"),
}


@click.command("convert", short_help="Write an embedding in another layout.")
@click.argument("src", type=ADAPTER)
@click.argument("dst", type=PATH)
@options(
    TO,
    click.option("--token", metavar="WORD", help="The word, where a layout says it.  [default: SRC's]"),
    DEBUG,
)
def convert(src: Path, dst: Path, to: str | None, token: str | None) -> None:
    """Write the embedding SRC as DST.

    SRC is a file of any layout, PNG included, or a folder with learned_embeds. 'a1111' is what web UIs write (.pt),
    'diffusers' has the word as its key, 'kohya' says no word at all: DST's name is it. Values keep their precision.
    """
    from ...adapters.embedding import read_embedding

    layout = layout_of(dst, to)
    check_source(src)
    check_target(dst)
    write(dst, layout, read_embedding(src, None, token=token))


def layout_of(target: Path, to: str | None) -> str:
    """The layout to write. Raises UsageError for an ending that does not go with it."""
    suffix = target.suffix.lower()
    layout = to or _DEFAULTS.get(suffix)
    if layout is None or suffix not in _SUFFIXES[layout]:
        ends = " or ".join(_SUFFIXES[layout] if layout else _DEFAULTS)
        what = f"the layout {layout} has" if layout else "embeddings have"
        raise UsageError(f"{target}: {what} names that end in {ends}; pictures are not written")
    return layout


def write(target: Path, layout: str, word: object) -> None:
    """Writes an embedding and says so. Raises OutputError."""
    from ...adapters.embedding import TextualInversion
    from ...adapters.write_embedding import embedding_bytes
    from ...disk.whole import write_bytes
    from ...engine.embeddings import told

    assert isinstance(word, TextualInversion)
    if layout == "kohya":
        word = replace(word, token=target.stem)  # the file says none, so its name is it
    data = embedding_bytes(word, layout, pickled=target.suffix.lower() != ".safetensors")
    write_bytes(target, data, placed=settle)
    click.echo(f"sdedit: {plain(str(target))}: {layout}, {plain(told(word).partition(': ')[2])}", err=True)
