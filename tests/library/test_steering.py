"""A callback is given the pipeline: what it changes there counts from the next step on, as in the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ip_adapters import PROJECTED, adapter
from helpers.loras import DIALECTS, RANK, factors
from helpers.pipelines import picture, write_checkpoint

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError

pytestmark = [
    # The oracle's own notices: it repeats embeddings by old formats.
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),
]
Change = Callable[[Any, int], Any]
STEPS = 6


class Pair:
    """The reference's pipeline and ours, with the same things done to both."""

    def __init__(self, folder: Path) -> None:
        import diffusers

        self.oracle = diffusers.StableDiffusionImg2ImgPipeline.from_pretrained(folder)
        self.oracle.set_progress_bar_config(disable=True)
        self.ours = StableDiffusionImg2ImgPipeline.from_pretrained(folder)
        self.states = [
            DIALECTS["diffusers, PEFT"](self.ours, factors(self.ours, everything=every, seed=seed, alpha=float(RANK)))
            for seed, every in ((1, True), (2, False))
        ]

    def with_loras(self) -> Pair:
        for pipe in (self.oracle, self.ours):
            for name, state in zip("ab", self.states, strict=True):
                pipe.load_lora_weights(dict(state), adapter_name=name)
            pipe.set_adapters(["a", "b"], [0.2, 0.1])
        return self

    def with_image_prompt(self) -> Pair:
        state = adapter("base", self.oracle.unet)
        for pipe in (self.oracle, self.ours):
            pipe.load_ip_adapter(state, subfolder="", weight_name="x", image_encoder_folder=None)
        return self

    def images(self, change: Change, **call: Any) -> tuple[np.ndarray, np.ndarray]:
        def watch(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            change(pipe, step)
            return tensors

        call = {"prompt": "a cat", "num_inference_steps": STEPS, "strength": 1.0, "output_type": "np", **call}
        theirs, ours = (
            pipe(**call, image=picture(), callback_on_step_end=watch, generator=torch.Generator().manual_seed(3)).images
            for pipe in (self.oracle, self.ours)
        )
        return theirs, ours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd15")
    write_checkpoint(folder)
    return folder


def at(step: int, change: Callable[[Any], Any]) -> Change:
    return lambda pipe, now: change(pipe) if now == step else None


LORAS: dict[str, Change] = {
    "ramp": lambda pipe, step: pipe.set_adapters("a", 0.1 * step),
    "the other": at(2, lambda pipe: pipe.set_adapters("b", 0.5)),
    "disabled": at(2, lambda pipe: pipe.disable_lora()),
    "unloaded": at(2, lambda pipe: pipe.unload_lora_weights()),
}
FREEU = (0.9, 0.2, 1.2, 1.4)


def assert_same(images: tuple[np.ndarray, np.ndarray]) -> None:
    theirs, ours = images
    assert np.isfinite(theirs).all()
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("change", "share"), [*((change, None) for change in LORAS), ("ramp", 0.5), ("unloaded", 0.5)])
def test_strengths_of_adapters_count_from_the_next_step_on(change: str, share: float | None, folder: Path) -> None:
    """Those that a call multiplies stay so until it ends."""
    pair = Pair(folder).with_loras()
    asked = {} if share is None else {"cross_attention_kwargs": {"scale": share}}
    changed = pair.images(LORAS[change], **asked)
    assert_same(changed)
    after = pair.images(lambda *_: None)
    assert_same(after)
    assert np.abs(changed[1] - after[1]).max() > 1e-3


def test_an_adapter_may_come_in_the_middle(folder: Path) -> None:
    pair = Pair(folder)
    assert_same(pair.images(at(2, lambda pipe: pipe.load_lora_weights(dict(pair.states[0])))))


def test_freeu_may_come_and_go_in_the_middle(folder: Path) -> None:
    pair = Pair(folder)
    plain = pair.images(lambda *_: None)
    on = pair.images(at(2, lambda pipe: pipe.enable_freeu(*FREEU)))
    off = pair.images(at(2, lambda pipe: pipe.disable_freeu()))
    for images in (plain, on, off):
        assert_same(images)
    assert min(np.abs(plain[1] - on[1]).max(), np.abs(on[1] - off[1]).max()) > 1e-3


def cutoff(pipe: Any) -> None:
    pipe.set_ip_adapter_scale(0.0)


@pytest.mark.parametrize(
    "change",
    [at(1, cutoff), lambda pipe, step: pipe.set_ip_adapter_scale({"up": 0.2 * step}), at(3, cutoff)],
    ids=["off", "ramp by block", "off later"],
)
def test_scales_of_image_prompts_count_from_the_next_step_on(change: Change, folder: Path) -> None:
    pair = Pair(folder).with_image_prompt()
    embeds = [torch.randn(2, 1, PROJECTED, generator=torch.Generator().manual_seed(4))]
    call = {"ip_adapter_image_embeds": embeds}
    plain, changed = pair.images(lambda *_: None, **call), pair.images(change, **call)
    assert_same(plain)
    assert_same(changed)
    assert np.abs(plain[1] - changed[1]).max() > 1e-3


def test_the_references_cutoff_of_image_prompts_works_here(folder: Path) -> None:
    from diffusers.callbacks import IPAdapterScaleCutoffCallback

    pair = Pair(folder).with_image_prompt()
    embeds = [torch.randn(2, 1, PROJECTED, generator=torch.Generator().manual_seed(4))]
    images = []
    for pipe in (pair.oracle, pair.ours):
        call = {"prompt": "a cat", "image": picture(), "num_inference_steps": STEPS, "output_type": "np"}
        end = IPAdapterScaleCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=2)
        generator = torch.Generator().manual_seed(3)
        made = pipe(**call, ip_adapter_image_embeds=embeds, callback_on_step_end=end, generator=generator)
        images.append(made.images)
    np.testing.assert_allclose(*images, atol=1e-4, rtol=0)


def test_an_image_prompt_can_go_in_the_middle_and_not_come(folder: Path) -> None:
    pair = Pair(folder).with_image_prompt()
    embeds = [torch.randn(2, 1, PROJECTED, generator=torch.Generator().manual_seed(4))]
    state = adapter("base", pair.oracle.unet)

    def made(change: Change, **call: Any) -> torch.Tensor:
        def watch(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> None:
            change(pipe, step)

        generator = torch.Generator().manual_seed(3)
        call = {"num_inference_steps": STEPS, "output_type": "pt", "callback_on_step_end": watch, **call}
        return pair.ours("a cat", picture(), generator=generator, **call).images

    off = made(at(2, cutoff), ip_adapter_image_embeds=embeds)
    pair.ours.set_ip_adapter_scale(1.0)
    gone = made(at(2, lambda pipe: pipe.unload_ip_adapter()), ip_adapter_image_embeds=embeds)
    assert torch.equal(off, gone)
    with pytest.raises(UsageError, match="in the middle of a call"):
        made(at(2, lambda pipe: pipe.load_ip_adapter(state, "", "x", image_encoder_folder=None)))
