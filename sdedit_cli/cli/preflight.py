"""What of a run can be refused before any weights are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.request import Request
from ..errors import ModelError, UsageError, shortened
from ..options import Edit
from ..options.adapters import no_strength
from ..pictures.signing import signer
from .backends import OPENVINO, check_backend, check_sampler
from .image_prompts import check_look
from .models import PARTS, check_readable, completed, fetched, is_there, readable

if TYPE_CHECKING:
    from ..weights import Checkpoint
    from .worker import EditorWorker

# What the sampler of a checkpoint and its text encoder may not have.
_CHOICES = ("backend", "sampler", "schedule", "steps", "exact_steps", "strength", "timesteps", "sigmas", "clip_skip")


class Preflight:
    """The checks of one request, and the checkpoint that they opened: who loads takes it from here."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._checkpoint: Checkpoint | None = None
        self._suiting: set[tuple[object, ...]] = set()

    def check(self, *, complete: bool) -> None:
        """Raises ModelError for a file that cannot be read and for adapters that do not fit, UsageError for a choice
        that this machine does not have; with `complete`, ModelError also for a model that would not load. Nothing is
        fetched, and what a model yet to be fetched would tell is left out."""
        edit = self.request.edit
        check_backend(edit)
        _check_files(self.request)
        _check_machine(edit)
        if edit.c2pa and edit.c2pa_key:
            signer(edit.c2pa, edit.c2pa_key)
        if complete and (edit.vae or edit.tiny_vae):
            from ..engine.loading import check_autoencoders

            unet = None if self._is_elsewhere(edit) else self.checkpoint().components.get("unet")
            check_autoencoders(edit, unet and unet.config)
        if not self._is_telling(edit):
            return
        checkpoint = self.checkpoint()
        if complete:
            from ..engine.loading import check_loadable

            check_loadable(edit, checkpoint)
        if edit.prompt_embeds is not None:
            from ..engine.prompt_file import read_prompts

            unet = checkpoint.components.get("unet")
            width = getattr(unet.config, "cross_attention_dim", None) if unet else None
            read_prompts(Path(edit.prompt_embeds)).check(width)
        if edit.lora or edit.embedding:
            from ..engine.loading import check_adapters

            check_adapters(edit, checkpoint, complete=complete)
        if edit.ip_adapter:
            from ..engine.ip_files import found_for_edit

            found_for_edit(edit, checkpoint)

    def check_choices(self, edit: Edit) -> None:
        """Raises UsageError for steps that the sampler does not have, and for more layers than there are to skip."""
        choices = tuple(getattr(edit, name) for name in _CHOICES)
        if choices in self._suiting or not self._is_telling(edit):
            return
        from ..engine.loading import scheduler_of
        from ..engine.sampling import chosen_scheduler, grid_of

        checkpoint = self.checkpoint()
        scheduler = chosen_scheduler(scheduler_of(checkpoint, edit.sampler), edit)
        check_sampler(edit, scheduler)
        grid_of(scheduler, edit)
        text = checkpoint.components.get("text_encoder")
        layers = getattr(text.config, "num_hidden_layers", None) if text else None
        if edit.clip_skip is not None and layers is not None and edit.clip_skip > layers:
            raise UsageError(f"--clip-skip is {edit.clip_skip}; this text encoder has {layers} layers to skip")
        self._suiting.add(choices)

    def _is_telling(self, edit: Edit) -> bool:
        """Whether the checkpoint is here, and may speak against an edit: of the built-in one there is nothing to find
        out but whether a choice suits it."""
        return not self._is_elsewhere(edit) and (not self.request.model.built_in or _has_choices(edit))

    def _is_elsewhere(self, edit: Edit) -> bool:
        return self.request.model.hub is not None and edit.download

    def advice(self, edit: Edit, size: tuple[int, int]) -> str:
        """What to know of an edit of a picture of `size` (width, height) on this model; '' when there is nothing to
        say."""
        from ..engine.canvas import advice

        if self.request.model.built_in:
            from ..configs.model_block import STARTER_FOLDER, read_block

            return advice(edit, size, read_block(STARTER_FOLDER).native_size, None)
        if self._checkpoint is None:
            return ""  # yet to be fetched
        return advice(edit, size, self._checkpoint.native_size, _trained_at(self._checkpoint))

    def told(self) -> list[str]:
        """Which model, sampler and adapters will be used, for people, before anything is loaded."""
        edit, model = self.request.edit, self.request.model
        lines = [f"model: {model.name}", f"sampler: {self._sampler()}"]
        return lines + [f"LoRA: {file}" for file in edit.lora]

    def _sampler(self) -> str:
        from ..noise.samplers import CLASS_NAMES, label

        edit, config = self.request.edit, self._scheduler_config()
        own = CLASS_NAMES.get(str(config.get("_class_name")), "")
        if not own and edit.sampler is None:
            return "the model's own"
        name, curve = label(edit.sampler, own, edit.schedule)
        return f"{name} {curve}".strip() + ("" if edit.sampler else " (the model's own)")

    def _scheduler_config(self) -> Mapping[str, Any]:
        if self._checkpoint is not None:
            return self._checkpoint.scheduler or {}
        if not self.request.model.built_in:
            return {}
        from ..configs.base import read_json
        from ..configs.model_block import STARTER_FOLDER

        return read_json(STARTER_FOLDER / "scheduler" / "scheduler_config.json")

    def checkpoint(self) -> Checkpoint:
        """The model, opened once and fetched where that was asked for. Raises ModelError."""
        if self._checkpoint is None:
            from ..engine.loading import STARTER_FOLDER, open_for_edit

            edit, model = self.request.edit, self.request.model
            path = fetched(model, edit.download, edit.variant) or STARTER_FOLDER
            if model.hub is not None:
                _check_config(edit, is_folder=path.is_dir(), shown=model.name)
            with readable(model.name):
                self._checkpoint = open_for_edit(edit, path)
        return self._checkpoint

    def load(self, warn: Callable[[str], None]) -> EditorWorker:
        """The model, loaded; `warn` hears what users should know."""
        from .worker import EditorWorker

        return EditorWorker(self.request, self.checkpoint, warn)


def _trained_at(checkpoint: Checkpoint) -> int | None:
    """The side of the pictures that a model was trained at, as its configs say."""
    unet, vae = checkpoint.components.get("unet"), checkpoint.components.get("vae")
    side: Any = getattr(unet.config, "sample_size", None) if unet else None
    scale = getattr(vae.config, "scale", 8) if vae else 8
    return side * scale if isinstance(side, int) else None


def _check_files(request: Request) -> None:
    """Raises ModelError for an autoencoder or config that is not there, UsageError for a config that is not read."""
    edit, model = request.edit, request.model
    if edit.prompt_embeds is not None:
        path, label = Path(edit.prompt_embeds), f"--prompt-embeds {edit.prompt_embeds}"
        if not is_there(path, label):
            raise ModelError(f"{shortened(label)}: no such file; 'sdedit embed encode' makes one")
        check_readable(path, label)
    for part in PARTS:
        if name := getattr(edit, part):
            _check_file(Path(name), f"--{part.replace('_', '-')} {name}")
    files = (("--lora", edit.lora), ("--embedding", edit.embedding), ("--ip-adapter", edit.ip_adapter))
    named = [(option, file.path) for option, listed in files for file in listed]
    named += [("--ip-encoder", edit.ip_encoder)] if edit.ip_encoder else []
    for option, name in named:
        path, label = Path(name), f"{option} {name}"
        if not is_there(path, label):
            strength = no_strength(name) if option in ("--lora", "--ip-adapter") else ""
            raise ModelError(f"{shortened(label)}: no such file or folder{strength}")
        check_readable(path, label)
    for name in edit.ip_image:
        check_look(name)
    if edit.config is None:
        return
    if model.hub is None:
        _check_config(edit, is_folder=model.path is None or model.path.is_dir(), shown=model.name)
    folder, label = Path(edit.config), f"--config {edit.config}"
    if not is_there(folder, label):
        raise ModelError(f"{shortened(label)}: no such folder; expected a model folder with its configs")
    if not folder.is_dir():
        raise ModelError(f"{label}: is a file; expected a model folder with its configs")
    check_readable(folder, label)


def _check_config(edit: Edit, *, is_folder: bool, shown: str) -> None:
    if edit.config is not None and is_folder:
        raise UsageError(f"--config is for a single file, and the model '{shown}' has its own configs; leave it out")


def _check_file(path: Path, label: str) -> None:
    found = completed(path, label)
    if found is None:
        raise ModelError(f"{shortened(label)}: no such file or folder")
    check_readable(found, label)


def _check_machine(edit: Edit) -> None:
    if edit.device != "auto" and edit.backend != OPENVINO:
        from ..runtime.device import pick

        pick(edit.device)
    if edit.attention == "xformers":
        from torch import nn

        from ..runtime.attention import attention_for

        attention_for(nn.Module(), xformers=True)


def _has_choices(edit: Edit) -> bool:
    named = (edit.sampler, edit.schedule, edit.variant, edit.prompt_embeds)
    chosen = (*named, edit.timesteps, edit.sigmas, edit.clip_skip)
    return bool(edit.lora or edit.embedding or edit.ip_adapter) or any(value is not None for value in chosen)
