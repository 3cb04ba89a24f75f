"""`sdedit embed inspect`: what a file of an embedding or of encoded prompts is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ...errors import ModelError, shown
from ...options.adapters import EmbeddingFile
from ..file_commands import DEBUG, Answer, check_source
from ..flags import options
from ..info import show, tell_each
from .options import ADAPTER

SCHEMA = "sdedit.embedding/1"
_FEW = 8
_LONGEST = 300


@click.command("inspect", cls=Answer, short_help="Say what an embedding file is.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=ADAPTER)
@options(click.option("--json", "as_json", is_flag=True, help="One JSON object a file on stdout."), DEBUG)
def inspect(files: tuple[Path, ...], as_json: bool) -> None:
    """Say what each FILE is: layout, words, vectors and their norms, the family that they are for, what made them.

    Embeddings of other families and files of several words are described too, with why they are not loaded. Files of
    'embed encode' are known as well.
    """
    tell_each(files, facts_of, lambda facts: show(facts["file"], _rows(facts)), schema=SCHEMA, as_json=as_json)


def facts_of(path: Path) -> dict[str, Any]:
    """What a file is, as JSON values. Raises InputError when it cannot be read or is none."""
    from ...adapters.embedding_files import find_embedding, open_embedding
    from ...adapters.recognise import recognised, taken_for
    from ...disk.hashes import remembered_hash

    check_source(path)
    file = find_embedding(path)
    source = open_embedding(file)
    found = recognised(source)
    if found is None or found.type not in ("embedding", "prompts"):
        what = taken_for(source, "embedding") or "holds no embedding; 'sdedit info' says more of it"
        raise ModelError(f"{path}: {what}")
    words = [
        {"name": shown(word.name, _LONGEST), "vectors": word.vectors, "width": word.width, "norms": word.norms(source)}
        for word in found.words
    ]
    try:
        sha256 = remembered_hash(file)
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read ({problem.strerror or problem}); check its permissions") from None
    return {
        "file": str(path),
        "type": found.type,
        "layout": found.kind,
        "format": source.format,
        "family": found.family,
        "words": words,
        "made": dict(found.made),
        "note": found.note,
        "sha256": sha256,
        "autov2": sha256[:10],
    }


def _rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("layout", facts["layout"]), ("family", facts["family"] or "not known by its width")]
    rows += [("word", _word(word)) for word in facts["words"]]
    called = EmbeddingFile(facts["file"]).word
    if len(facts["words"]) == 1 and facts["words"][0]["name"] != called:
        rows += [("in prompts", f"'{called}', as the file is called; --embedding FILE:WORD makes it another")]
    rows += [(shown(key, 40), shown(value, _LONGEST)) for key, value in facts["made"].items()]
    rows += [("note", facts["note"]), ("SHA-256", facts["sha256"]), ("AutoV2", facts["autov2"])]
    return [(label, value) for label, value in rows if value]


def _word(word: Mapping[str, Any]) -> str:
    norms = word["norms"]
    listed = ", ".join(f"{norm:.3g}" for norm in norms[:_FEW]) + (", ..." if len(norms) > _FEW else "")
    count = f"{word['vectors']} vector{'s' if word['vectors'] != 1 else ''}"
    return f"'{word['name']}': {count} of {word['width']} numbers; norm {listed}"
