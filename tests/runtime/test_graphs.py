"""A recorded step gives the numbers of the step itself, whatever changes between two of them.

The tape of `runtime.tape` is as blind as a graph of CUDA is: it reads tensors where they lay, and numbers as they were.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.tiny.networks import randomise, tiny_unet
from torch import Tensor

from sdedit_cli.nn import Context, FreeU, ImageSource, UNet2DCondition, wrapped
from sdedit_cli.nn.fuse import fuse_qkv, unfuse_qkv
from sdedit_cli.runtime.attention import attention_for
from sdedit_cli.runtime.graphs import Graphs
from sdedit_cli.runtime.tape import TapeRecorder


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


class Case:
    """A UNet whose steps are recorded, and what a step is given."""

    def __init__(self, most: int = 4) -> None:
        self.unet = tiny_unet()
        self.recorder = TapeRecorder()
        self.told: list[str] = []
        self.graphs = self.unet.way = Graphs(self.recorder, self.told.append, most)
        self.generator = torch.Generator().manual_seed(1)
        self.context = self.new_context()
        self.freeu: FreeU | None = None

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def new_context(self, tokens: int = 7) -> Context:
        return self.unet.context(self.normal(2, tokens, 32))

    def image(self, scale: float = 0.5, tokens: int = 4) -> ImageSource:
        """An image prompt for all layers that read one."""
        kv = tuple((self.normal(2, k.shape[1], tokens, k.shape[3]), self.normal(*v.shape[:2], tokens, v.shape[3]))
                   for k, v in self.context.kv)  # fmt: skip
        return ImageSource(kv, tuple(scale for _ in kv))

    def step(self, side: int = 8) -> bool:
        """Runs a step on new latents, holds it against the plain network, and says whether it was recorded for it."""
        x, emb = self.normal(2, 4, side, side), self.unet.embed_time(torch.tensor([900.0, 10.0]))
        before = self.recorder.recorded
        got = self.unet.step(x, emb, self.context, self.freeu)
        assert torch.equal(got, self.unet(x, emb, self.context, self.freeu))
        return self.recorder.recorded > before

    def warm(self) -> None:
        """The second step of a shape is recorded, and serves all later ones."""
        assert [self.step() for _ in range(4)] == [False, True, False, False]


def put_back_in_place(unet: UNet2DCondition) -> None:
    """As adapters do it: other numbers at the same address."""
    for parameter in unet.parameters():
        parameter.copy_(parameter * 1.01)


def new_storage(unet: UNet2DCondition) -> None:
    for parameter in unet.parameters():
        parameter.data = parameter.data * 1.01


def new_parameter(unet: UNet2DCondition) -> None:
    unet.conv_out.weight = torch.nn.Parameter(unet.conv_out.weight * 2, requires_grad=False)


def sliced(unet: UNet2DCondition) -> None:
    unet.ops.attention = attention_for(unet, "max")


def test_results_stay_as_they_were_when_later_steps_are_run() -> None:
    case = Case()
    emb = case.unet.embed_time(torch.tensor([900.0, 10.0]))
    kept = [(case.unet.step(x, emb, case.context, None), x) for x in (case.normal(2, 4, 8, 8) for _ in range(4))]
    assert case.recorder.recorded == 1
    for out, x in kept:
        assert torch.equal(out, case.unet(x, emb, case.context))


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda case: put_back_in_place(case.unet), True),
        (lambda case: setattr(case, "context", case.new_context()), True),
        (lambda case: new_storage(case.unet), False),
        (lambda case: new_parameter(case.unet), False),
        (lambda case: fuse_qkv(case.unet), False),
        (lambda case: (fuse_qkv(case.unet), unfuse_qkv(case.unet)), False),
        (lambda case: case.unet.to(memory_format=torch.channels_last), False),
        (lambda case: sliced(case.unet), False),
        (lambda case: setattr(case, "freeu", FreeU(0.9, 0.2, 1.2, 1.4)), False),
        (lambda case: setattr(case, "context", case.new_context(tokens=9)), False),
        (lambda case: setattr(case, "context", replace(case.context, images=(case.image(),))), False),
    ],
)  # fmt: skip
def test_what_changes_between_steps_is_seen(change: Callable[[Case], Any], stays: bool) -> None:
    """By the recording that there is, or by another one."""
    case = Case()
    case.warm()
    change(case)
    assert [case.step() for _ in range(3)] == [False, not stays, False]


def test_image_prompts_may_change_and_their_strengths_may_not() -> None:
    case = Case()
    case.context = replace(case.context, images=(case.image(),))
    case.warm()
    for scale, again in ((0.5, False), (0.7, True), (0.5, False)):
        case.context = replace(case.context, images=(case.image(scale),))
        assert any([case.step(), case.step()]) == again


def test_each_shape_has_its_recording_and_old_ones_are_let_go() -> None:
    case = Case(most=2)
    assert [case.step(side) for side in (8, 8, 16, 16, 8, 16)] == [False, True, False, True, False, False]
    assert [case.step(side) for side in (24, 24, 16, 8)] == [False, True, False, True]


def test_edges_that_meet_are_another_step() -> None:
    case = Case()
    case.warm()
    with wrapped(case.unet, (True, False)):
        assert [case.step(), case.step()] == [False, True]
    assert not case.step()


def test_weights_that_moved_end_all_recordings() -> None:
    case = Case()
    case.warm()
    assert [case.step(16), case.step(16)] == [False, True]
    new_storage(case.unet)
    assert [case.step(side) for side in (8, 16, 8, 16)] == [False, False, True, True]


def test_a_step_that_cannot_be_recorded_is_run_as_it_is_and_told_of_once() -> None:
    case = Case()

    def refuses(work: Callable[[], Tensor], device: torch.device) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    case.recorder.record = refuses  # a device's refusal, which no CPU gives
    assert [case.step() for _ in range(4)] == [False] * 4
    assert case.told == [
        "steps are run one kernel at a time, as they could not be captured: "
        "operation not permitted when stream is capturing"
    ]


def test_memory_that_runs_out_beside_recordings_is_given_back() -> None:
    case = Case()
    case.warm()
    forward, failed = case.unet.forward, list[bool]()

    def short(*args: Any) -> Tensor:
        if not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("out of memory")
        return forward(*args)

    case.unet.forward = short  # what a full device does
    assert not case.step(16)
    assert failed
    case.unet.forward = forward
    assert [case.step(), case.step()] == [False, True]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda unet: pickle.loads(pickle.dumps(unet))])
def test_a_copy_of_a_network_has_recordings_of_its_own(copied: Callable[[Any], Any]) -> None:
    case, other = Case(), Case()
    case.warm()
    case.graphs.tell = None  # a list of this test has no place in a pickle
    other.unet = copied(case.unet)
    randomise(other.unet, 5)
    other.recorder = other.unet.way.recorder  # pyright: ignore
    assert [other.step() for _ in range(3)] == [False, True, False]
    assert not case.step()


def test_gradients_are_never_recorded() -> None:
    case = Case()
    case.warm()
    with torch.enable_grad():
        x, emb = case.normal(2, 4, 8, 8), case.unet.embed_time(torch.tensor([900.0, 10.0]))
        assert case.unet.step(x, emb, case.context, None).requires_grad
