"""A loaded model that turns pictures into the bytes of edited ones, with the record of how they were made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..disk.files import shortened
from ..disk.hashes import FileHash
from ..errors import BlockedBySafety, ModelError, NotFiniteError
from ..options import Edit
from ..pictures.codec import Picture, encode
from ..pictures.record import Record, save_arguments
from .flags import Request

if TYPE_CHECKING:
    from PIL import Image

# Called with (steps done, steps to do, preview) after each step.
OnStep = Callable[[int, int, "Callable[[], list[Image.Image]]"], "bool | None"]
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Made:
    """A finished picture: the bytes of its file, its size, and what the safety checker said (None without one)."""

    data: bytes
    width: int
    height: int
    nsfw: bool | None


class Maker:
    """The model of a request, loaded. `warn` hears what users should know; `facts` say what was loaded, and how fast.

    Raises ModelError for what cannot be loaded, UsageError for a device or a sampler that cannot be had.
    """

    def __init__(self, request: Request, warn: Callable[[str], None]) -> None:
        from ..engine.editor import Editor
        from ..engine.loading import STARTER_FOLDER

        started = time.monotonic()
        self._request = request
        self._warn = warn
        self._warned = False
        self._loaded: dict[str, Any] = {}
        folder = request.model.fetched(request.edit.download) or STARTER_FOLDER
        try:
            self._editor = Editor.open(request.edit, self._hear, folder=folder)
        except OSError as problem:
            place = shortened(problem.filename or folder)
            raise ModelError(f"{place}: cannot be read ({problem.strerror or problem})") from None
        self._hash = FileHash(folder)
        self._vae_hash = FileHash(Path(request.edit.vae)) if request.edit.vae else None
        self.sampler, self.curve = sampler_label(request.edit, self._editor.scheduler_for(request.edit).name)
        self.dtype = _DTYPES.get(str(self._loaded.get("dtype")), request.edit.dtype)
        self.facts: Mapping[str, Any] = {
            "model": request.model.name,
            "device": self._loaded.get("device"),
            "dtype": self.dtype,
            "sampler": f"{self.sampler} {self.curve}".strip(),
            "seconds": round(time.monotonic() - started, 3),
        }

    def make(self, edit: Edit, picture: Picture, name: str, format: str, on_step: OnStep | None = None) -> Made:
        """`picture` (called `name` in errors) edited with the seed of `edit`.

        Raises NotFiniteError, and BlockedBySafety when the checker flags the result and the edit asks for a block.
        """
        result = self._editor.edit(edit, picture.rgb, on_step)
        if not result.finite:
            raise NotFiniteError(
                f"{name}: the result is not finite (seed {edit.seed}), so nothing was written; "
                "try --dtype fp32, or look at the model with 'sdedit info'"
            )
        if result.nsfw and edit.safety == "block":
            raise BlockedBySafety(
                f"{name}: the safety checker flags the result (seed {edit.seed}), so nothing was written; "
                "try another seed or prompt, or --safety flag"
            )
        record = self._record(edit, picture)
        data = encode(result.image, picture.alpha, picture.icc, format, save_arguments(record, format))
        return Made(data, result.image.width, result.image.height, result.nsfw)

    def _hear(self, event: str, facts: dict[str, Any]) -> None:
        if event == "load":
            self._loaded.update(facts)
        elif event == "truncated":
            self._warn(f"the prompt is over the model's {facts.get('limit')} tokens; left out is '{facts.get('text')}'")
        elif event == "resized":
            self._warn(
                f"this model was trained at {facts['native']} px: the picture is worked on at "
                f"{facts['width']} x {facts['height']} and brought back to its size"
            )

    def _record(self, edit: Edit, picture: Picture) -> Record:
        from .. import __version__

        model_hash = self._hash.value()
        vae_hash = self._vae_hash.value() if self._vae_hash else ""
        self._compare("model", model_hash)
        self._compare("vae", vae_hash)
        return Record(
            edit=replace(edit, dtype=self.dtype).saved(),
            width=picture.rgb.width,
            height=picture.rgb.height,
            model=self._request.model.name,
            model_hash=model_hash,
            vae=Path(edit.vae).stem if edit.vae else "",
            vae_hash=vae_hash,
            input_hash=picture.sha256,
            sampler=self.sampler,
            curve=self.curve,
            version=__version__,
        )

    def _compare(self, part: str, ours: str) -> None:
        like = self._request.like
        theirs: str = getattr(like, f"{part}_hash") if like else ""
        if like and theirs and ours and not ours.startswith(theirs) and not self._warned:
            self._warned = True
            self._warn(f"{like.layer.source} was made with another {part} than this one: expect another picture")


def sampler_label(edit: Edit, solver: str) -> tuple[str, str]:
    """The web UIs' name of the sampler that runs, and its curve ('' for none)."""
    from ..noise.samplers import CURVES, SAMPLERS, find

    solver, overrides = find(edit.sampler) if edit.sampler else (solver, {})
    named = next((curve for curve, options in CURVES.items() if all(overrides.get(key) for key in options)), "")
    plain = {key: value for key, value in overrides.items() if key not in CURVES.get(named, {})}
    label = next((name for name, entry in SAMPLERS.items() if entry == (solver, plain)), solver)
    return label, edit.schedule or named
