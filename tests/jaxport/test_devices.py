"""The example of docs/jax.md, line by line, on eight devices: those that a CPU stands for, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.jax_models import jax_original
from helpers.pipelines import picture

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'sdedit-cli[test]'")

ROOT = Path(__file__).parents[2]
DEVICES = 8
# What the page's example says of another model and picture, and what this one says.
OURS = {
    '"CompVis/stable-diffusion-v1-4"': '"model"',
    "jnp.bfloat16": "jnp.float32",
    ".resize((768, 512))": ".resize((32, 32))",
    "height=512": "height=32",
    "width=768": "width=32",
    "num_inference_steps=50": "num_inference_steps=4",
}
AFTER = """
seen = []
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: seen.append(event))
again = pipeline(prompt_ids, processed_image, p_params, rng, strength=0.9, num_inference_steps=7, jit=True)
assert seen == [], seen
stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (1, *x.shape)), params)
from sdedit_cli.jaxport.devices import is_stacked, unstacked
assert is_stacked(stacked) and not is_stacked(p_params)
assert unstacked(stacked)["unet"]["conv_in.bias"].shape == params["unet"]["conv_in.bias"].shape
assert [len(x.sharding.device_set) for x in (p_params["unet"]["conv_in.bias"],)] == [8]
np.savez("made.npz", output=output, keys=rng, pictures=np.stack([np.asarray(x) for x in output_images]))
"""


def test_the_example_of_the_page_makes_on_eight_devices_what_one_makes(tmp_path: Path) -> None:
    ours, params = jax_original.pipeline("sd15")
    ours.save_pretrained(tmp_path / "model", params)
    picture().save(tmp_path / "sketch.png")
    page = (ROOT / "docs" / "jax.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    example = code[1]
    for theirs, mine in OURS.items():
        assert theirs in example
        example = example.replace(theirs, mine)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:sdedit_cli", "-c", example + AFTER],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = np.load(tmp_path / "made.npz")
    assert made["output"].shape == (DEVICES, 1, 32, 32, 3)
    assert made["pictures"].shape == (DEVICES, 32, 32, 3)
    ids, image = ours.prepare_inputs("A fantasy landscape, trending on artstation", picture())
    for device in (0, DEVICES - 1):
        key = jax.numpy.asarray(made["keys"][device])
        alone = ours(ids, image, params, key, strength=0.75, num_inference_steps=4).images
        np.testing.assert_allclose(made["output"][device], alone, atol=1e-5)
