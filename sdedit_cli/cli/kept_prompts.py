"""Encoded prompts in the user's cache folder: a prompt that comes again needs no text encoder.

A file each, named by a hash of all that its numbers depend on: the texts and how they are read, the weights of the text
encoder, its tokenizer and adapters, our version, and where it was computed. The oldest go when there are too many.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .. import __version__
from ..batch.keys import NUMERIC_VERSION
from ..disk.hashes import cache_folder, known_hash, model_hash
from ..disk.leftovers import clear_leftovers
from ..disk.shelf import Shelf
from ..disk.stamps import Stamp, stamp_of
from ..errors import SdeditError
from ..options import Edit

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine.prompts import Read
    from ..weights import Checkpoint

SCHEMA = "sdedit.prompt/1"
_HEADER, _TENSOR, _ENDING = "sdedit", "embeds", ".safetensors"
_MOST_FILES, _MOST_BYTES = 256, 64 << 20


class KeptPrompts:
    """See `engine.prompts.Kept`: of the text encoder of a checkpoint with the adapters of an edit.

    What is put here is written by `write`, once the hashes of all files are known: they are taken beside the work.
    """

    def __init__(self, edit: Edit, checkpoint: Checkpoint, read_from: Sequence[Stamp]) -> None:
        """`read_from` are the `stamps_of` the checkpoint before anything of it was read."""
        self._edit = edit
        self._checkpoint = checkpoint
        self._made_of: dict[str, Any] | None = None
        self._read_from = [*read_from, *self._adapters()]
        self._waiting: dict[str, tuple[Mapping[str, Any], Read]] = {}

    def get(self, facts: Mapping[str, Any]) -> Read | None:
        """What was kept; None where nothing was, it is damaged, or hashes are yet to be taken."""
        path = self._path(facts)
        if path is None or not path.is_file():
            return None
        found = _read(path)
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(path)  # the one that is used is not the oldest
        return found

    def put(self, facts: Mapping[str, Any], read: Read) -> None:
        self._waiting[_digest(facts)] = facts, read

    def write(self) -> None:
        """Writes what was put here, where that can be done without waiting."""
        for key, (facts, read) in list(self._waiting.items()):
            if (path := self._path(facts)) is not None:
                del self._waiting[key]
                # A folder that cannot be written to, or is full, costs nothing but the time that it would have saved.
                with contextlib.suppress(SdeditError, OSError):
                    _write(path, read)
                    Shelf(path.parent, _MOST_BYTES, _MOST_FILES, _ENDING).make_room(path)

    def _adapters(self) -> list[Stamp]:
        return _stamps(*(Path(file.path) for file in (*self._edit.lora, *self._edit.embedding)))

    def _path(self, facts: Mapping[str, Any]) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        if self._made_of is None:
            try:
                self._made_of = _made_of(self._edit, self._checkpoint)
            except (OSError, LookupError):
                return None
            if [*stamps_of(self._checkpoint), *self._adapters()] != self._read_from:
                # Files took the place of those that were loaded: what was read is none of theirs.
                self._made_of = None
                return None
        whole = {**facts, **self._made_of, "version": __version__, "numeric": NUMERIC_VERSION, "schema": SCHEMA}
        return folder / "prompts" / f"{_digest(whole)}{_ENDING}"


def stamps_of(checkpoint: Checkpoint) -> list[Stamp]:
    """Of the files that a checkpoint's prompts are read by."""
    own = checkpoint.path / "text_encoder"
    return _stamps(own if own.is_dir() else checkpoint.path)


def _stamps(*paths: Path) -> list[Stamp]:
    try:
        files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    except OSError:
        return []
    return [stamp_of(file) for file in files]


def _made_of(edit: Edit, checkpoint: Checkpoint) -> dict[str, Any]:
    """What reads prompts, by its content. Raises LookupError where a hash of it is not known yet."""
    path, text = checkpoint.path, checkpoint.components.get("text_encoder")
    tokenizer = checkpoint.tokenizers.get("text_encoder")
    own = path / "text_encoder"
    words = tokenizer and (tokenizer.folder or tokenizer.carried)
    loras = [(_hash(file.path), file.text_scale, file.blocks, file.dyn) for file in edit.lora]
    return {
        "weights": model_hash(own if own.is_dir() else path, known_hash),
        "config": repr(text and text.config),
        "tokenizer": model_hash(words, known_hash) if isinstance(words, Path) else words,
        "padding": tokenizer and tokenizer.padding,
        "partial": edit.partial,
        "variant": edit.variant,
        "loras": loras,
        "embeddings": [(_hash(file.path), file.word) for file in edit.embedding],
    }


def _hash(path: str) -> str:
    return model_hash(Path(path), known_hash)


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> Read | None:
    from ..engine.prompts import Read
    from ..weights.formats.mapped_file import reading
    from ..weights.formats.open import open_weights

    try:
        with reading(whole=True):
            source = open_weights(path)
            embeds_BTC = source.get(_TENSOR)
        told = cast("dict[str, Any]", json.loads(source.metadata[_HEADER]))
        whole = told["name"] == path.stem and told["sha256"] == _sha256(embeds_BTC)
        texts = tuple(str(text) for text in told["truncated"])
        return Read(embeds_BTC, texts, int(told["limit"])) if whole else None
    except (SdeditError, OSError, LookupError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def _write(path: Path, read: Read) -> None:
    from ..weights.formats.source import MemorySource
    from ..weights.write.files import OutputFile, write_files
    from ..weights.write.safetensors import item

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # what did not fit of a prompt stands in it
    clear_leftovers(path.parent)
    facts = {
        "name": path.stem,
        "sha256": _sha256(read.embeds_BTC),
        "truncated": read.truncated,
        "limit": read.limit,
    }
    source = MemorySource({_TENSOR: read.embeds_BTC.contiguous()})
    file = OutputFile("", (item(_TENSOR, source, _TENSOR, None),), {_HEADER: json.dumps(facts)})
    write_files(path, [file], replace=True)


def _sha256(tensor: Tensor) -> str:
    import torch

    return hashlib.sha256(tensor.contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()
