"""Who edits: the torch engine, or JAX where `--backend jax` asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..options import Edit

if TYPE_CHECKING:
    from ..engine.editor import Editor


def editor_of(edit: Edit) -> type[Editor]:
    """The class whose `open` loads the model of an edit. That of JAX has what `EditorWorker` asks for, and no more."""
    if edit.backend == "jax":
        from .jax_editor import JaxEditor

        other: Any = JaxEditor
        return other
    from ..engine.editor import Editor

    return Editor
