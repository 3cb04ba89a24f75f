"""What is said of a mask before a model is loaded is what the engine does with it."""

from __future__ import annotations

import itertools

import numpy as np
from PIL import Image

from sdedit_cli.engine.masks import as_strong_as
from sdedit_cli.errors import MaskError
from sdedit_cli.options import Edit
from sdedit_cli.pictures.masks import _edits  # pyright: ignore[reportPrivateUsage]


def _runs(edit: Edit, whitest: int) -> bool:
    """Whether the engine edits anything of a picture whose mask has this level at most."""
    try:
        return any(as_strong_as(one, whitest) is not None for one in edit.rounds())
    except MaskError:  # which is said by itself, and is no silence
        return True


def test_a_mask_that_edits_nothing_is_told_and_no_other() -> None:
    """Over levels, strengths, lengths, both modes, exact steps and rounds."""
    cases = itertools.product(
        (0, 1, 12, 13, 25, 26, 51, 128, 254, 255),
        (0.1, 0.34, "0.9,0.2", 1.0),
        (10, 20),
        ("map", "blend"),
        (False, True),
    )
    seen = {True: 0, False: 0}
    for whitest, strength, steps, mode, exact in cases:
        edit = Edit(mask="m.png", mask_mode=mode, strength=strength, steps=steps, exact_steps=exact)
        mask = Image.fromarray(np.array([[0, whitest]], np.uint8))
        said = _edits(mask, edit)
        assert said == _runs(edit, whitest), (whitest, strength, steps, mode, exact)
        seen[said] += 1
    assert sum(seen.values()) == 320
    assert min(seen.values()) > 20
