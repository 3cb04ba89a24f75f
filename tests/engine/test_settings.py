"""What each setting of an edit does to the picture: what the oracle makes of the same request.

Where the oracle has no such setting (weights, long prompts, prompts that change on the way), it is given the
embeddings that the setting stands for, worked out here from the oracle's own tokenizer and text encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint
from torch import Tensor

from sdedit_cli.engine.editor import Editor
from sdedit_cli.options import Edit

EDIT = Edit(prompt="a cat", steps=5, strength=0.6, dtype="fp32", device="cpu", seed=3)
SIZE = (48, 40)
ROW = 32  # tokens that the text encoder has positions for

# The oracle's own notices.
pytestmark = [pytest.mark.filterwarnings(f"ignore:.*:{kind}Warning") for kind in ("Future", "Deprecation")]


@dataclass(frozen=True)
class Oracle:
    """The reference's pipeline, asked as `EDIT` asks ours."""

    pipeline: Any
    folder: Path

    def paint(self, scheduler: Any = None, **call: Any) -> np.ndarray:
        own = self.pipeline.scheduler
        self.pipeline.scheduler = scheduler or own
        asked = {"strength": 0.6, "num_inference_steps": 5, "generator": torch.Generator().manual_seed(3)} | call
        asked |= {} if "prompt_embeds" in asked or "prompt" in asked else {"prompt": "a cat"}
        try:
            return np.asarray(self.pipeline(image=picture(*SIZE), **asked).images[0]).astype(int)
        finally:
            self.pipeline.scheduler = own

    def scheduler(self, name: str, **options: Any) -> Any:
        """Another scheduler on the config that the folder holds."""
        return getattr(diffusers, name).from_pretrained(self.folder / "scheduler", **options)

    def read(self, *rows: str, weights: dict[str, float] | None = None, skip: int = 0) -> Tensor:
        """Embeddings of texts side by side, each a row of the text encoder of its own.

        `weights`: factors of words; the row keeps its mean. `skip`: that many layers before the last.
        """
        return torch.cat([self._row(text, weights or {}, skip) for text in rows], dim=1)

    @torch.no_grad()
    def _row(self, text: str, weights: dict[str, float], skip: int) -> Tensor:
        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        ids = tokenizer([text], padding="max_length", max_length=ROW, return_tensors="pt").input_ids
        assert ids.shape[1] == ROW
        states = encoder(ids, output_hidden_states=True).hidden_states
        embeds = getattr(encoder, "text_model", encoder).final_layer_norm(states[-1 - skip])
        words = tokenizer.convert_ids_to_tokens(ids[0].tolist())
        factors = torch.tensor([weights.get(word.removesuffix("</w>"), 1.0) for word in words])
        weighted = embeds * factors[None, :, None]
        return weighted * (embeds.mean() / weighted.mean()) if weights else embeds


def embeds(positive: Tensor, negative: Tensor) -> dict[str, Tensor]:
    return {"prompt_embeds": positive, "negative_prompt_embeds": negative}


def changing(oracle: Oracle, at: dict[int, str], **call: Any) -> dict[str, Any]:
    """A call whose prompt is another from these entries of the grid on."""

    def change(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        text = at.get(step + 1)
        return {} if text is None else {"prompt_embeds": torch.cat([oracle.read(""), oracle.read(text)])}

    return {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": ["prompt_embeds"], **call}


def freed(oracle: Oracle) -> dict[str, Any]:
    oracle.pipeline.enable_freeu(0.9, 0.2, 1.3, 1.4)
    return {}


CATS = "cat " * 40
SETTINGS: dict[str, tuple[dict[str, Any], Callable[[Oracle], dict[str, Any]]]] = {
    "weight": (
        {"prompt": "a (cat:1.5)"},
        lambda o: embeds(o.read("a cat", weights={"cat": 1.5}), o.read("")),
    ),
    "scheduled": ({"prompt": "[a cat:a dog:1]"}, lambda o: changing(o, {1: "a dog"})),
    "alternating": ({"prompt": "[a cat|a dog]"}, lambda o: changing(o, {1: "a dog", 2: "a cat"})),
    "scheduled, order 2": (
        {"prompt": "[a cat:a dog:1]", "sampler": "Heun"},
        lambda o: changing(o, {2: "a dog"}, scheduler=o.scheduler("HeunDiscreteScheduler")),
    ),
    "rows": ({"prompt": "a BREAK cat"}, lambda o: embeds(o.read("a", "cat"), o.read("", ""))),
    "chunks": (
        {"prompt": CATS, "long_prompts": "chunk"},
        lambda o: embeds(o.read("cat " * 30, "cat " * 10), o.read("", "")),
    ),
    "truncated": ({"prompt": CATS}, lambda o: {"prompt": "cat " * 30}),
    "negative": ({"negative_prompt": "blue"}, lambda o: {"negative_prompt": "blue"}),
    "clip skip": ({"clip_skip": 1}, lambda o: embeds(o.read("a cat", skip=1), o.read(""))),
    "unguided": ({"cfg_scale": 1.0}, lambda o: {"guidance_scale": 1.0}),
    "guided": ({"cfg_scale": 20.0}, lambda o: {"guidance_scale": 20.0}),
    "eta": ({"eta": 0.7}, lambda o: {"eta": 0.7}),
    "ancestral": ({"sampler": "Euler a"}, lambda o: {"scheduler": o.scheduler("EulerAncestralDiscreteScheduler")}),
    "curve by name": (
        {"sampler": "DPM++ 2M Karras"},
        lambda o: {"scheduler": o.scheduler("DPMSolverMultistepScheduler", use_karras_sigmas=True)},
    ),
    "curve": (
        {"sampler": "euler", "schedule": "karras"},
        lambda o: {"scheduler": o.scheduler("EulerDiscreteScheduler", use_karras_sigmas=True)},
    ),
    "timesteps": (
        {"sampler": "euler", "timesteps": (500, 300, 100)},
        lambda o: {"scheduler": o.scheduler("EulerDiscreteScheduler"), "timesteps": [500, 300, 100]},
    ),
    "exact steps": ({"exact_steps": True}, lambda o: {"num_inference_steps": 9}),  # 5 of 9 steps are 0.6 of them
    "strength": ({"strength": 0.9}, lambda o: {"strength": 0.9}),
    "seed": ({"seed": 4}, lambda o: {"generator": torch.Generator().manual_seed(4)}),
    "freeu": ({"freeu": (0.9, 0.2, 1.3, 1.4)}, freed),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sd15")


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Oracle:
    return Oracle(write_checkpoint(folder, "sd15"), folder)


@pytest.fixture(scope="module")
def editor(folder: Path, oracle: Oracle) -> Editor:
    return Editor.open(replace(EDIT, model=str(folder)))


@pytest.fixture(scope="module")
def plain(editor: Editor) -> np.ndarray:
    return pixels(editor, EDIT)


def pixels(editor: Editor, edit: Edit) -> np.ndarray:
    result = editor.edit(edit, picture(*SIZE))
    assert result.finite
    return np.asarray(result.image).astype(int)


def gap(left: np.ndarray, right: np.ndarray) -> int:
    return np.abs(left - right).max()


def test_an_edit_is_the_oracles_picture(oracle: Oracle, plain: np.ndarray) -> None:
    assert gap(plain, oracle.paint()) <= 1


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_makes_the_picture_that_the_oracle_makes_of_it(
    name: str, editor: Editor, oracle: Oracle, plain: np.ndarray
) -> None:
    changes, asked = SETTINGS[name]
    try:
        wanted = oracle.paint(**asked(oracle))
    finally:
        oracle.pipeline.disable_freeu()
    assert gap(wanted, plain) >= 3, "a picture that hardly changes shows nothing"
    assert gap(pixels(editor, replace(EDIT, **changes)), wanted) <= 1


def test_tiles_of_the_autoencoder_are_the_oracles(folder: Path, oracle: Oracle, plain: np.ndarray) -> None:
    vae = oracle.pipeline.vae
    vae.enable_tiling()
    try:
        wanted = oracle.paint()
    finally:
        vae.disable_tiling()
    tiled = pixels(Editor.open(replace(EDIT, model=str(folder), vae_tiling=True)), EDIT)
    assert gap(tiled, wanted) <= 1
    assert gap(tiled, pixels(Editor.open(replace(EDIT, model=str(folder), low_memory=True)), EDIT)) == 0
    assert gap(wanted, plain) >= 3, "a picture of one tile shows nothing"


@pytest.mark.parametrize("attention", ["sliced", "max-sliced"])
def test_sliced_attention_makes_the_same_picture(folder: Path, attention: str, plain: np.ndarray) -> None:
    sliced = Editor.open(replace(EDIT, model=str(folder), attention=attention))
    assert gap(pixels(sliced, EDIT), plain) <= 1
