"""What of a run can be refused before any weights are read. Torch is imported for what was asked for alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..disk.files import shortened
from ..errors import ModelError, UsageError
from ..options import Edit
from .flags import Request
from .models import check_readable, is_there

_FILES = ("", ".safetensors", ".ckpt", ".pt", ".bin")


class Preflight:
    """The checks of one request, made once."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._done = False

    def once(self, *, dry_run: bool = False) -> None:
        """Raises ModelError for a place that cannot be read, UsageError for a choice that this machine, the sampler or
        the model does not have. A dry run fetches nothing, and leaves out what a model yet to be fetched would tell."""
        if self._done:
            return
        check_places(self._request)
        edit, model = self._request.edit, self._request.model
        fetches = model.hub is not None and edit.download
        path = None if fetches else model.fetched(False)
        if path is not None and model.hub is not None:
            _check_config(edit, is_folder=path.is_dir(), shown=model.name)
        _check_machine(edit)
        if not fetches:
            _check_model(edit, path)
        self._done = True


def check_places(request: Request) -> None:
    """Raises ModelError for an autoencoder or config that is not there, UsageError for a config that is not read."""
    edit, model = request.edit, request.model
    if edit.vae is not None:
        _check_file(Path(edit.vae), f"--vae {edit.vae}")
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
    found = next((file for end in _FILES if is_there(file := Path(f"{path}{end}"), label)), None)
    if found is None:
        raise ModelError(f"{shortened(label)}: no such file or folder")
    check_readable(found, label)


def _check_machine(edit: Edit) -> None:
    if edit.device != "auto":
        from ..runtime.device import pick

        pick(edit.device)
    if edit.attention == "xformers":
        from torch import nn

        from ..runtime.attention import attention_for

        attention_for(nn.Module(), xformers=True)


def _check_model(edit: Edit, path: Path | None) -> None:
    timed = any(value is not None for value in (edit.sampler, edit.schedule, edit.timesteps, edit.sigmas))
    if not timed and edit.clip_skip is None:
        return
    scheduler, layers = _facts(edit, path)
    if timed and scheduler is not None:
        _check_grid(edit, scheduler)
    if edit.clip_skip is not None and layers is not None and edit.clip_skip > layers:
        raise UsageError(f"--clip-skip is {edit.clip_skip}; this text encoder has {layers} layers to skip")


def _facts(edit: Edit, path: Path | None) -> tuple[Any, int | None]:
    """The scheduler's config of a model and the layers of its text encoder, None where it does not say."""
    from ..engine.loading import STARTER_FOLDER

    place = path or STARTER_FOLDER
    if place.is_dir():
        from ..configs.base import read_json

        names = (place / "scheduler" / "scheduler_config.json", place / "text_encoder" / "config.json")
        config, text = (read_json(name) if is_there(name, str(name)) else None for name in names)
        return config, text.get("num_hidden_layers") if text is not None else None
    from ..weights.checkpoint.from_file import detect
    from ..weights.formats.open import open_weights

    config_folder = Path(edit.config) if edit.config else None
    found = detect(open_weights(place), prediction_type=edit.prediction_type, config=config_folder)
    part = found.parts.get("text_encoder")
    return found.training.scheduler, getattr(part.config, "num_hidden_layers", None) if part else None


def _check_grid(edit: Edit, config: Any) -> None:
    from ..engine.sampling import chosen_scheduler, grid_of
    from ..noise import Scheduler

    grid_of(chosen_scheduler(Scheduler.from_config(config), edit), edit)
