"""A loaded model that turns pictures into the bytes of edited ones, with the record of how they were made."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..batch.request import Request
from ..batch.worker import EditedPicture, Late, Task
from ..errors import (
    BlockedBySafety,
    ModelError,
    NotFiniteError,
    OutOfMemory,
    SdeditError,
    UsageError,
    is_out_of_memory,
    listed,
    shown,
)
from ..options import Edit
from ..options.files import EDIT as EDIT_ALPHA
from ..pictures.beside import NOTHING
from ..pictures.carriers import carried
from ..pictures.codec import Picture
from ..pictures.encode import chosen, encode, encode_film
from ..pictures.fine import alpha_levels, shown_numbers
from ..pictures.matting import PAINTED_OVER, cut_out, is_painted_over, on_its_ground
from ..pictures.png16 import deepened, levels
from ..pictures.promise import other_making
from ..pictures.record import Record
from ..pictures.signing import signer
from .attention_choices import Choices
from .backends import OPENVINO, editor_of, machine_for, settled
from .event_words import cut_off, passed_over
from .image_prompts import looks
from .ingredients import Ingredients
from .kept_prompts import KeptPrompts, stamps_of
from .models import readable
from .previews import remembered
from .upscaling import Upscaling

if TYPE_CHECKING:
    from PIL import Image

    from ..engine.company import Result, Wish
    from ..weights import Checkpoint

_WORDS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(eq=False)
class _Parts:
    """A picture under way: what was wished for it, a frame each, and what has come of that."""

    task: Task
    picture: Picture
    wishes: list[Wish] = field(default_factory=list[Any])
    results: dict[Wish, Result | SdeditError] = field(default_factory=dict[Any, Any])

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.picture.frames)

    @property
    def refused(self) -> SdeditError | None:
        return next((result for result in self.results.values() if isinstance(result, SdeditError)), None)

    @property
    def made(self) -> list[Result]:
        """The results in the order of the frames."""
        found = (self.results[wish] for wish in self.wishes)
        return [result for result in found if not isinstance(result, SdeditError)]


class EditorWorker:
    """The model of a request, loaded from what `opened` gives.

    `warn` hears what users should know; `facts` say what was loaded, and how fast. Raises ModelError for what cannot
    be loaded, UsageError for a device or a sampler that cannot be had.
    """

    def __init__(self, request: Request, opened: Callable[[], Checkpoint], warn: Callable[[str], None]) -> None:
        started = time.monotonic()
        self._warn = warn
        self._loaded: dict[str, Any] = {}
        self._together: int | None = None
        self._begin(request)
        pictures = looks(request.edit)
        with self._can_be_loaded(request):
            self._checkpoint = opened()
            self._read_from = stamps_of(self._checkpoint)
            edit = settled(request.edit)
            self.backend = edit.backend
            kind, where = editor_of(edit), {"machine": machine_for(edit)} if edit.backend == OPENVINO else {}
            self._kept = self._keeping(edit)
            kept = {} if self._kept is None else {"kept": self._kept}
            more: dict[str, Any] = {**kept, **where}
            self._editor = kind.open(edit, self._hear, checkpoint=self._checkpoint, pictures=pictures, **more)
            if self.backend != "jax":  # which looks by decoding
                self._editor.sketcher.recall = remembered
        self._choices = Choices(str(self._loaded.get("device")))
        self._ingredients = Ingredients(request, self._checkpoint)
        self._know(request, started)

    def switch(self, request: Request, warn: Callable[[str], None]) -> None:
        """Has the adapters and encoded prompts of a request in place of those before, on the same model.

        Pictures are those of a model that was loaded for it. Raises ModelError and UsageError for what cannot be had;
        then no adapter is at work.
        """
        from ..weights.formats.mapped_file import reading

        started = time.monotonic()
        self._warn = warn
        self._begin(request)
        pictures = looks(request.edit)
        with self._can_be_loaded(request), reading(whole=not request.edit.mmap):
            self._kept = self._keeping(request.edit)
            if self._kept is not None:
                self._editor.readings = replace(self._editor.readings, kept=self._kept)
            self._editor.adapt(request.edit, pictures)
        self._ingredients.take_up(request)
        self._know(request, started)

    def _begin(self, request: Request) -> None:
        self._request = request
        self._explained: set[str] = set()
        self._upscaling = Upscaling(request.edit)
        self.adapters: list[str] = []

    def _keeping(self, edit: Edit) -> KeptPrompts | None:
        """Where its prompts are kept; None where they are not."""
        return KeptPrompts(edit, self._checkpoint, self._read_from) if edit.cache and edit.backend != "jax" else None

    @contextmanager
    def _can_be_loaded(self, request: Request) -> Generator[None, None, None]:
        """Within it, what cannot be read, and a lack of memory, are errors of the model."""
        with readable(request.model.name):
            try:
                yield
            except Exception as problem:
                if not is_out_of_memory(problem):
                    raise
                needed = f"the model {request.model.name} needs more memory than there is"
                raise ModelError(f"{needed}; try --dtype bf16 or fp16, or --device cpu") from problem

    def _know(self, request: Request, started: float) -> None:
        """Notes what is told of what was loaded."""
        edit = request.edit
        try:
            sampler, curve = self._label(edit)
        except UsageError:  # which the picture that asks for it will hear, and others on this model need not
            sampler, curve = edit.sampler or "", ""
        self.dtype = _WORDS.get(str(self._loaded.get("dtype")), edit.dtype)
        self.facts: Mapping[str, Any] = {
            "model": request.model.name,
            "device": self._loaded.get("device"),
            "dtype": self.dtype,
            "threads": self._loaded.get("threads"),
            "backend": edit.backend,
            "sampler": f"{sampler} {curve}".strip(),
            **({"adapters": self.adapters} if self.adapters else {}),
            "seconds": round(time.monotonic() - started, 3),
        }
        self._warn_of_prompts(edit)

    def unlikeness(self, made: Sequence[Image.Image], real: Sequence[Image.Image], side: int) -> list[float | None]:
        """How far each picture of `made` is from those of `real` in features of the model, looked at with a longer side
        of at most `side`; None where the model has none to tell."""
        if self.backend == "jax":
            return [None for _ in made]
        from ..engine.realism import distances

        return distances(self._editor.engine, made, real, side)

    def edits(
        self, tasks: Iterable[Task], size: int | None = None
    ) -> Iterator[tuple[Task, EditedPicture | SdeditError]]:
        """See `Worker.edits`."""
        from ..engine.company import Wish

        under_way: dict[Wish, _Parts] = {}
        refused: list[tuple[Task, SdeditError]] = []
        self._together = size

        def wishes() -> Iterator[Wish]:
            for task in tasks:
                try:
                    parts = self._prepared(task)
                except SdeditError as problem:
                    if under_way and isinstance(problem, OutOfMemory):
                        raise  # fewer at a time may have enough
                    refused.append((task, problem))
                    continue
                for picture in parts.picture.frames:
                    wish = Wish(task.edit, picture.rgb, task.on_step, picture.mask, *_shown(task.edit, picture))
                    parts.wishes.append(wish)
                    under_way[wish] = parts
                    yield wish

        try:
            for wish, result in self._editor.edits(wishes(), size):
                yield from _taken(refused)
                parts = under_way.pop(wish)
                parts.results[wish] = result
                if parts.complete:
                    yield parts.task, parts.refused or self._ended(parts.task, parts.picture, parts.made)
                    if self._kept is not None:
                        self._kept.write()
            yield from _taken(refused)
        except OutOfMemory:
            raise
        except Exception as problem:
            if not is_out_of_memory(problem) or not under_way:
                raise
            tasks_under_way = (parts.task for parts in under_way.values())
            largest = max(tasks_under_way, key=lambda task: task.picture.rgb.width * task.picture.rgb.height)
            raise self._too_large(largest) from problem

    def _prepared(self, task: Task) -> _Parts:
        """A picture before anything is wished for it. Raises what speaks against it alone."""
        self._explain(task)
        try:
            return _Parts(task, self._upscaling(task.picture, task.edit))
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
            raise self._too_large(task) from problem

    def _too_large(self, task: Task) -> OutOfMemory:
        size, device = task.picture.rgb.size, str(self._loaded.get("device"))
        return OutOfMemory(_too_much(task.name, task.edit, size, self.dtype, device))

    def _ended(self, task: Task, picture: Picture, results: Sequence[Result]) -> EditedPicture | SdeditError:
        """The file of a finished picture, of its frames if it moves, or why there is none."""
        edit, name, format = task.edit, task.name, task.format
        self._choices.keep()
        if not all(result.finite for result in results):
            return NotFiniteError(
                f"{name}: the result is not finite (seed {edit.seed}), so nothing was written; "
                "try --dtype fp32, or look at the model with 'sdedit info'"
            )
        nsfw = None if results[0].nsfw is None else any(result.nsfw for result in results)
        if nsfw and edit.safety == "block":
            return BlockedBySafety(
                f"{name}: the safety checker flags the result (seed {edit.seed}), so nothing was written; "
                "try another seed or prompt, or --safety flag"
            )
        first, images = results[0], [result.image for result in results]
        after = picture
        if edit.alpha == EDIT_ALPHA and picture.alpha:
            after, images = cut_out(picture, images)
            if is_painted_over(picture, after):
                self._warn(f"{name}: {PAINTED_OVER}")
        record = self._record(edit, picture, format) if edit.metadata else None
        source = NOTHING if edit.strip else picture.beside
        written = carried(record, format, source, first.image.size, srgb=edit.to_srgb)
        for note in written.notes:
            self._warn(f"{name}: {note}")
        extra = {**written.arguments, **chosen(format, edit.quality, lossless=edit.lossless)}

        def data() -> bytes:
            if after.film:
                made = encode_film(after.film, images, format, extra)
            else:
                made = encode(images[0], after.alpha, after.icc, format, extra, after.ground)
            if first.deep is not None:
                made = deepened(made, levels(images[0], first.deep, alpha_levels(after.fine, after.alpha)))
            if edit.c2pa and edit.c2pa_key:
                made = signer(edit.c2pa, edit.c2pa_key).signed(made, format, record, __version__)
            return made

        return EditedPicture(Late(data), first.image.width, first.image.height, nsfw)

    def _hear(self, event: str, facts: dict[str, Any]) -> None:
        if event == "load":
            self._loaded.update(facts)
        elif event == "adapter":
            self.adapters.append(facts["summary"])
            if left := facts.get("passed_over"):
                self._warn(f"{facts['summary']}; {passed_over(left)}")
            for unused in facts.get("unused", ()):
                self._warn(f"{facts['summary'].partition(':')[0]}: {unused}")
        elif event == "truncated":
            self._warn(f"the prompt is {cut_off(facts)}")

    def _explain(self, task: Task) -> None:
        """Says, before any step, why a picture need not be that of `--like` byte for byte."""
        like = self._request.like
        if like is None:
            return
        reasons = "; ".join(other_making(like, self._record(task.edit, task.picture, task.format)))
        if reasons and reasons not in self._explained:
            self._explained.add(reasons)
            self._warn(f"{like.layer.source}: the same bytes cannot be promised: {reasons}")

    def _record(self, edit: Edit, picture: Picture, format: str) -> Record:
        from .made_on import made_on

        sampler, curve = self._label(edit)
        return Record(
            edit=self._said(
                replace(
                    edit,
                    dtype=self.dtype,
                    backend=self.backend,
                    quality=None if format in ("png", "gif") else edit.quality,
                    lossless=edit.lossless and format == "webp",
                )
            ),
            width=picture.rgb.width,
            height=picture.rgb.height,
            ingredients=(*self._ingredients.of(edit, picture), *self._upscaling.made_of),
            input_hash=picture.sha256,
            sampler=sampler,
            curve=curve,
            version=__version__,
            made_on=made_on(self._loaded, self._together),
        )

    def _label(self, edit: Edit) -> tuple[str, str]:
        """The web UIs' name of the sampler of an edit, and its curve."""
        from ..noise.samplers import label

        return label(edit.sampler, self._editor.scheduler_for(edit).name, edit.schedule)

    def _said(self, edit: Edit) -> dict[str, Any]:
        """What the record says of an edit: the texts also where they came encoded."""
        prompts = self._editor.prompts_of(edit)
        if prompts is None:
            return edit.saved()
        return prompts.recorded(edit)

    def _warn_of_prompts(self, edit: Edit) -> None:
        """Says where encoded prompts were made with another model, or with LoRAs, than what is at work here."""
        prompts = self._editor.prompts_of(edit)
        if prompts is None:
            return
        name, sha256 = prompts.model
        ours = self._request.model.name
        if name not in ("", ours) and sha256 != self._ingredients.model_hash:
            self._warn(
                f"{prompts.path}: its prompts were encoded with the model '{shown(name)}', and this is '{ours}': "
                "a text encoder that was trained otherwise means another picture"
            )
        if lacking := [sha256 for sha256 in prompts.loras if sha256 not in self._ingredients.lora_hashes]:
            self._warn(
                f"{prompts.path}: its prompts were encoded with a LoRA (SHA-256 {listed(lacking, 2)}) "
                "that is not given: what it may change beside the text is left out; give it with --lora for that"
            )


def _taken(refused: list[tuple[Task, SdeditError]]) -> Iterator[tuple[Task, SdeditError]]:
    while refused:
        yield refused.pop(0)


def _shown(edit: Edit, picture: Picture) -> tuple[Image.Image | None, Any, Any]:
    """What a picture shows where a mask keeps it (None for what the model is shown), and the numbers of both beyond 8
    bits."""
    is_cut_out = edit.alpha == EDIT_ALPHA and picture.alpha is not None
    under = on_its_ground(picture) if is_cut_out else picture.colours
    # What is painted has the colours of its palette.
    fine = None if edit.strokes else shown_numbers(picture.fine, picture.rgb)
    return under, fine, under and shown_numbers(picture.fine, under)


def _too_much(name: str, edit: Edit, size: tuple[int, int], dtype: str, device: str) -> str:
    """The error of a picture that is too large for the memory, with what has not been tried yet. `dtype` and `device`
    are those that it is edited in."""
    on_cpu = "cpu" in device
    more = not edit.low_memory and not (edit.vae_tiling and on_cpu)
    cures = {
        "--max-side 768 (or less)": max(size) > 768,
        "--tile 512": edit.tile is None,
        "--low-memory": edit.tile is None and more,
        "--attention sliced": edit.attention == "torch",
        "--dtype bf16 or fp16": dtype not in ("bf16", "fp16"),
        "--device cpu": not on_cpu,
    }
    tips = [cure for cure, open_ in cures.items() if open_] or ["a smaller --max-side"]
    return f"{name}: at {size[0]} x {size[1]} it needs more memory than there is; try {', '.join(tips)}"
