"""The safety checker gives the oracle's scores and flags, and blackens what is flagged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipelines import picture, write_checkpoint

from sdedit_cli import StableDiffusionImg2ImgPipeline
from sdedit_cli.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:.*:FutureWarning")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("checked")
    oracle = write_checkpoint(folder, "sd15", checker=True)
    return oracle, StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def set_thresholds(pair: tuple[Any, Any], value: float) -> None:
    for pipe in pair:
        for name in ("concept_embeds_weights", "special_care_embeds_weights"):
            getattr(pipe.safety_checker, name).data.fill_(value)


@pytest.mark.parametrize("threshold", [-0.1, 0.05, 0.2, 0.9])
def test_scores_and_flags_are_the_oracles(pair: tuple[Any, Any], threshold: float) -> None:
    oracle, ours = pair
    set_thresholds(pair, threshold)
    pictures = [picture(seed=seed) for seed in range(6)]
    pixels = oracle.feature_extractor(pictures, return_tensors="pt").pixel_values
    images = [np.ones((4, 4, 3)) for _ in pictures]
    _, want = oracle.safety_checker(clip_input=pixels, images=images)
    verdicts = ours.safety_checker.judge(pixels)
    assert [verdict.nsfw for verdict in verdicts] == want
    threshold = ours.safety_checker.concept_embeds_weights[0].item()
    with torch.no_grad():
        embeds = oracle.safety_checker.visual_projection(oracle.safety_checker.vision_model(pixels)[1])
        table = oracle.safety_checker.concept_embeds
        cosines = torch.nn.functional.cosine_similarity(embeds[:, None], table[None], dim=-1)
    for verdict, row in zip(verdicts, cosines, strict=True):
        # Scores are rounded to three decimals, and one step stricter after a special concept.
        stricter = 0.01 if any(score > 0 for score in verdict.special) else 0.0
        want = [round(cosine - threshold + stricter, 3) for cosine in row.tolist()]
        np.testing.assert_allclose(verdict.concepts, want, atol=1e-5)


@pytest.mark.parametrize("threshold", [-1.0, 0.12, 1.0])
def test_a_flagged_picture_is_black_as_the_oracles(pair: tuple[Any, Any], threshold: float) -> None:
    set_thresholds(pair, threshold)
    call = {"prompt": ["a", "b", "c"], "image": picture(), "num_inference_steps": 3, "output_type": "np"}
    theirs, ours = (pipe(**call, generator=torch.Generator().manual_seed(0)) for pipe in pair)
    assert ours.nsfw_content_detected == theirs.nsfw_content_detected
    np.testing.assert_allclose(ours.images, theirs.images, atol=1e-4)
    for image, flag in zip(ours.images, ours.nsfw_content_detected, strict=True):
        assert (image.max() == 0) == flag


def test_a_checker_of_others_is_called_by_the_names_that_it_has(pair: tuple[Any, Any]) -> None:
    """The reference's own, and the functions that scripts put in its place."""
    oracle, ours = pair
    set_thresholds(pair, 0.12)
    call = {"prompt": ["a", "b"], "image": picture(48, 40), "num_inference_steps": 3, "output_type": "np"}

    def made(checker: Any) -> Any:
        parts = ours.components | {"safety_checker": checker}
        return StableDiffusionImg2ImgPipeline(**parts)(**call, generator=torch.Generator().manual_seed(0))

    own, theirs = made(ours.safety_checker), made(oracle.safety_checker)
    assert theirs.nsfw_content_detected == own.nsfw_content_detected
    np.testing.assert_array_equal(theirs.images, own.images)

    def swapped(clip_input: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
        assert clip_input.shape[-1] == 32
        return images, [False] * len(images)

    passing = made(lambda images, **rest: (images, [False] * len(images)))
    assert passing.nsfw_content_detected == [False, False]
    np.testing.assert_array_equal(made(swapped).images, passing.images)


def test_the_two_parts_of_the_check_are_given_apart(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "sd15", checker=True)
    load = StableDiffusionImg2ImgPipeline.from_pretrained
    own = load(tmp_path)
    assert load(tmp_path, feature_extractor=own.feature_extractor).safety_checker is not None
    assert load(tmp_path, safety_checker=own.safety_checker).feature_extractor is not None
    assert load(tmp_path, safety_checker=None).feature_extractor is not None
    with pytest.raises(UsageError, match="feature_extractor"):
        load(tmp_path, feature_extractor=None)


def test_a_checker_needs_a_feature_extractor(pair: tuple[Any, Any]) -> None:
    parts = pair[1].components | {"feature_extractor": None}
    with pytest.raises(UsageError, match="feature_extractor"):
        StableDiffusionImg2ImgPipeline(**parts)
