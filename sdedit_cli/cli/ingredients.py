"""The files that the pictures of a request are made of, by name and hash, for their records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..batch.request import Request
from ..disk.hashes import FileHash, payload_hash
from ..options import Edit
from ..options.masks import ALPHA
from ..pictures.codec import Picture
from ..pictures.record import Ingredient
from .image_prompts import hashes
from .loras import names_of

if TYPE_CHECKING:
    from ..weights import Checkpoint


class Ingredients:
    """What is read for requests on one model. Hashes are taken beside the work, and waited for where they are asked
    for."""

    def __init__(self, request: Request, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._model = FileHash(checkpoint.path)
        named = {"vae": request.edit.vae, "tiny_vae": request.edit.tiny_vae}
        self._parts = [_part(kind, file) for kind, file in named.items() if file]
        self.take_up(request)

    def take_up(self, request: Request) -> None:
        """Goes on with another request on the same model."""
        edit = request.edit
        self._name = request.model.name
        self._loras = [(FileHash(Path(file.path)), FileHash(Path(file.path), payload_hash)) for file in edit.lora]
        self._words = [(file.word, FileHash(Path(file.path))) for file in edit.embedding]
        self._image_prompts = hashes(edit, self._checkpoint)
        self._prompts = [_part("prompt_embeds", edit.prompt_embeds)] if edit.prompt_embeds else []

    @property
    def model_hash(self) -> str:
        """The hash of the model; '' where it could not be read."""
        return self._model.value()

    @property
    def lora_hashes(self) -> list[str]:
        """The hashes of its LoRAs; '' for those that could not be read."""
        return [digest.value() for digest, _ in self._loras]

    def of(self, edit: Edit, picture: Picture) -> Iterator[Ingredient]:
        """Those of one picture; its LoRAs and its mask as its own edit names them."""
        yield Ingredient("model", self._name, self.model_hash)
        for kind, name, digest in self._parts:
            yield Ingredient(kind, name, digest.value())
        for name, f, (digest, payload) in zip(names_of(edit), edit.lora, self._loras, strict=True):
            yield Ingredient("lora", name, digest.value(), f.scale, f.te_scale, f.blocks, f.dyn, payload.value())
        for word, digest in self._words:
            yield Ingredient("embedding", word, digest.value())
        for kind, name, digest, scale in self._image_prompts:
            yield Ingredient(kind, name, digest.value(), scale)
        for kind, name, digest in self._prompts:
            yield Ingredient(kind, name, digest.value())
        if edit.mask:
            yield Ingredient("mask", edit.mask if edit.mask == ALPHA else Path(edit.mask).stem, picture.mask_sha256)


def _part(kind: str, file: str) -> tuple[str, str, FileHash]:
    return kind, Path(file).stem, FileHash(Path(file))
