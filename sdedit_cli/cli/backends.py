"""Who edits: the torch engine, its networks computed by OpenVINO where `--backend` says so, or JAX."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..options import Edit, field_named

if TYPE_CHECKING:
    from ..engine.editor import Editor
    from ..noise import Scheduler
    from ..runtime.openvino import Machine

OPENVINO = "openvino"
# What OpenVINO does not do: it has its own attention, and computes all of a network at once.
_LEFT = ("attention", "cache_features", "merge_tokens", "compile")
# A converted network is some 2 MB, whatever the size of its weights.
_MOST_BYTES, _MOST_FILES = 256 << 20, 128


def check_backend(edit: Edit) -> None:
    """Raises UsageError where the backend of an edit is not there, or not for its device or precision."""
    if edit.backend == "jax":
        from .jax_editor import check_machine

        check_machine(edit)
    if edit.backend == OPENVINO:
        machine_for(edit)


def check_asked(edit: Edit) -> None:
    """Raises UsageError, naming the option, for what the backend of an edit does not do: of edits that one loaded model
    makes, some may ask for it."""
    if edit.backend == "jax":
        from .jax_editor import check_supported

        check_supported(edit)
    if edit.backend == OPENVINO and (left := _left_by_openvino(edit)):
        raise UsageError(f"{left} is not done by --backend openvino; leave it out, or use --backend torch")


def check_sampler(edit: Edit, scheduler: Scheduler) -> None:
    """Raises UsageError for a sampler that the backend of an edit does not have."""
    if edit.backend == "jax":
        from ..jaxport.plan import check_linear

        check_linear(scheduler)


def needs_torch(edit: Edit) -> bool:
    """Whether a backend that is chosen for speed has to be torch, whatever the machine."""
    return edit.backend == "auto" and _left_by_openvino(edit) is not None


def _left_by_openvino(edit: Edit) -> str | None:
    asked = (field_named(name, "") for name in _LEFT)
    return next((field.flag for field in asked if getattr(edit, field.name) != field.default), None)


def editor_of(edit: Edit) -> type[Editor]:
    """The class whose `open` loads the model of an edit. That of JAX has what `EditorWorker` asks for, and no more."""
    if edit.backend == "jax":
        from .jax_editor import JaxEditor

        other: Any = JaxEditor
        return other
    from ..engine.editor import Editor

    return Editor


def machine_for(edit: Edit) -> Machine:
    """Where OpenVINO computes an edit. Raises UsageError where it is not installed, or not for a device."""
    from ..runtime.openvino import InMemory, Machine, check_installed, device_for

    check_installed()
    machine = Machine(device_for(edit.device), edit.threads, _shelf() or InMemory())
    machine.dtype(edit.dtype)
    return machine


def settled(edit: Edit) -> Edit:
    """The edit with a backend that is there: of 'auto' the one that was measured faster on this machine."""
    if edit.backend != "auto":
        return edit
    return replace(edit, backend=OPENVINO if _is_faster(edit) else "torch")


def _is_faster(edit: Edit) -> bool:
    from ..runtime.openvino import is_installed

    if not is_installed() or needs_torch(edit):
        return False
    try:
        machine = machine_for(edit)
    except UsageError:
        return False  # torch does it
    from ..runtime.device import pick

    if edit.device == "auto" and pick("auto").type != "cpu":
        return False  # a GPU of torch's was not measured
    from ..runtime.openvino.measured import is_faster

    return is_faster(machine, edit.dtype)


def _shelf() -> Any:
    from ..disk.hashes import cache_folder
    from ..disk.shelf import Shelf

    folder = cache_folder()
    return folder and Shelf(folder / OPENVINO, _MOST_BYTES, _MOST_FILES)
