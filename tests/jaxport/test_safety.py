"""The safety checker in JAX: torch's flags at every threshold, flagged pictures black, on one device and on several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.pipelines import picture, write_checkpoint

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")
jnp = jax.numpy

from sdedit_cli import FlaxStableDiffusionImg2ImgPipeline, StableDiffusionImg2ImgPipeline

THRESHOLDS = ("concept_embeds_weights", "special_care_embeds_weights")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[FlaxStableDiffusionImg2ImgPipeline, Any, Any]:
    """The pipeline in JAX, its arrays, and the one in torch, of one checkpoint with a checker."""
    folder = tmp_path_factory.mktemp("checked")
    write_checkpoint(folder, "sd15", checker=True)
    ours, params = FlaxStableDiffusionImg2ImgPipeline.from_pretrained(folder, dtype=jnp.float32)
    return ours, params, StableDiffusionImg2ImgPipeline.from_pretrained(folder)


def at(params: Any, concepts: float, special: float) -> Any:
    """The arrays with these thresholds."""
    arrays = params["safety_checker"]
    filled = {
        name: jnp.full_like(arrays[name], value) for name, value in zip(THRESHOLDS, (concepts, special), strict=True)
    }
    return {**params, "safety_checker": {**arrays, **filled}}


def test_flags_are_torchs_at_every_threshold(pair: tuple[FlaxStableDiffusionImg2ImgPipeline, Any, Any]) -> None:
    """A special concept that is met makes the others stricter: both kinds of thresholds are moved."""
    ours, params, theirs = pair
    pictures = [picture(seed=seed) for seed in range(6)]
    looks = theirs.feature_extractor(pictures, return_tensors="pt").pixel_values
    seen: set[bool] = set()
    compared = 0
    assert ours.safety_checker is not None
    for special in (-0.5, 2.0):
        for concepts in np.linspace(-0.3, 0.4, 15).tolist():
            for name, value in zip(THRESHOLDS, (concepts, special), strict=True):
                getattr(theirs.safety_checker, name).data.fill_(value)
            want = theirs.safety_checker.judge(looks)
            got = ours.safety_checker.flags(at(params, concepts, special)["safety_checker"], looks.numpy())
            for verdict, flag in zip(want, got, strict=True):
                if all(abs(score) > 0.001 for score in verdict.concepts):  # else the last bit decides
                    assert flag == verdict.nsfw
                    seen.add(flag)
                    compared += 1
    assert seen == {True, False}
    assert compared > 100


def test_flagged_pictures_are_black_and_told(pair: tuple[FlaxStableDiffusionImg2ImgPipeline, Any, Any]) -> None:
    ours, params, _ = pair
    ids, image = ours.prepare_inputs(["a", "b"], [picture(), picture(seed=1)])
    call = {"num_inference_steps": 2, "strength": 0.5, "guidance_scale": 1.0}
    key = jax.random.PRNGKey(0)
    free, flagged = (ours(ids, image, at(params, threshold, 2.0), key, **call) for threshold in (2.0, -2.0))
    assert list(free.nsfw_content_detected) == [False, False]
    assert np.asarray(free.images).max() > 0
    assert list(flagged.nsfw_content_detected) == [True, True]
    assert np.asarray(flagged.images).max() == 0
    # The arrays of a checker as `replicate` makes them, a copy a device.
    copies = {name: jax.tree_util.tree_map(lambda x: x[None], tree) for name, tree in at(params, -2.0, 2.0).items()}
    again = ours(ids[None], image[None], copies, key[None], jit=True, **call)
    assert np.asarray(again.images).max() == 0
    assert np.asarray(again.nsfw_content_detected).all()
