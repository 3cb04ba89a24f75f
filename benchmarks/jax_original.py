"""The JAX pipeline beside the original, the last release of diffusers that pins together on Python 3.11.

Makes an environment of its own (in the folder of `--env`, or a temporary one) with the pinned original, writes tiny
checkpoints with random weights through `save_pretrained`, has both pipelines edit with the same noise, and tells the
largest difference of pixels in 0..1, and the mean. `--write` also writes what the original made to
tests/data/jax_original.npz, with which the tests compare without that environment; `--kept` compares with those.

Two things that the original does otherwise are asked of ours too, so that the rest can be compared: its DPM-Solver++
ends at the noise of timestep 0 and not at none, and its PNDM leaves the last step of its schedule out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .common.rows import OURS, Row

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / "tests" / "data" / "jax_original.npz"
PINS = (
    *("diffusers==0.26.3", "transformers==4.37.2", "huggingface_hub==0.20.3", "flax==0.8.1", "jax==0.4.23"),
    *("jaxlib==0.4.23", "numpy==1.26.4", "scipy==1.11.4", "pillow", "safetensors"),
)
SIDE, LATENT = 32, 16
PROMPT, NEGATIVE = "a red apple", "blue, noise"
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"set_alpha_to_one": False, "steps_offset": 1},
    "PNDMScheduler": {"set_alpha_to_one": False, "steps_offset": 1, "skip_prk_steps": True},
    "LMSDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": {},
}
# Asked of ours alone.
AS_THE_ORIGINAL: dict[str, dict[str, Any]] = {"DPMSolverMultistepScheduler": {"final_sigmas_type": "sigma_min"}}
FEWER_STEPS = ("PNDMScheduler",)
FAMILIES: dict[str, dict[str, Any]] = {
    "sd15": {"prediction": "epsilon", "unet": {"attention_head_dim": 8}, "act": "quick_gelu"},
    "sd21-v": {
        "prediction": "v_prediction",
        "unet": {"attention_head_dim": [1, 2], "use_linear_projection": True},
        "act": "gelu",
    },
}


@dataclass(frozen=True)
class Case:
    """One edit of both sides; its name is that of its picture in the fixture."""

    family: str = "sd15"
    scheduler: str = "DDIMScheduler"
    strength: float = 0.8
    steps: int = 10
    guidance: float = 7.5
    negative: bool = False

    @property
    def name(self) -> str:
        extra = f", guidance {self.guidance:g}" if self.guidance != 7.5 else ""
        extra += ", negative prompt" if self.negative else ""
        return f"{self.family} {self.scheduler.removesuffix('Scheduler')} {self.strength:g}{extra}"


CASES = (
    *(Case("sd15", scheduler, strength) for scheduler in SCHEDULERS for strength in (0.3, 1.0)),
    Case(guidance=1.0),
    Case(negative=True),
    *(Case("sd21-v", scheduler) for scheduler in SCHEDULERS),
)


def pipeline(family: str) -> tuple[Any, Any]:
    """Our pipeline of a tiny model, and its params: the same numbers on every machine."""
    import jax.numpy as jnp

    from sdedit_cli import Scheduler
    from sdedit_cli.configs.clip import CLIPTextConfig
    from sdedit_cli.configs.unet import UNetConfig
    from sdedit_cli.configs.vae import VAEConfig
    from sdedit_cli.jaxport.networks import Network
    from sdedit_cli.jaxport.pipeline import FlaxStableDiffusionImg2ImgPipeline
    from sdedit_cli.nn import AutoencoderKL, CLIPTextModel, UNet2DCondition
    from sdedit_cli.text import Tokenizer

    facts = FAMILIES[family]
    # The original's UNet has 32 groups, whatever its config says.
    wide = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 32}
    unet = UNetConfig.from_dict(
        {
            **wide,
            **facts["unet"],
            "sample_size": LATENT,
            "cross_attention_dim": 32,
            "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        }
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = VAEConfig.from_dict({**wide, **blocks, "sample_size": SIDE})
    tokenizer = Tokenizer.from_folder(ROOT / "sdedit_cli" / "assets" / "starter" / "tokenizer")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=facts["act"],
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
    )
    networks = {"unet": UNet2DCondition(unet), "vae": AutoencoderKL(vae), "text_encoder": CLIPTextModel(text)}
    params = {slot: {k: jnp.asarray(v) for k, v in drawn(network).items()} for slot, network in networks.items()}
    made = FlaxStableDiffusionImg2ImgPipeline(
        Network(vae), Network(text), tokenizer, Network(unet), Scheduler.from_config(config_of(Case(family)))
    )
    return made, params


def drawn(network: Any) -> dict[str, Any]:
    """Random arrays of the size that layers keep signals at, by name: no constants that would hide a mix-up."""
    generator = np.random.RandomState(0)
    arrays: dict[str, Any] = {}
    for name, tensor in sorted(network.state_dict().items()):
        values = generator.standard_normal(tuple(tensor.shape)).astype(np.float32)
        weight = name.endswith("weight")
        scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.1
        arrays[name] = values * np.float32(scale) + np.float32(tensor.dim() == 1 and weight)
    return arrays


def config_of(case: Case) -> dict[str, Any]:
    prediction = FAMILIES[case.family]["prediction"]
    return {"_class_name": case.scheduler, **BETAS, "prediction_type": prediction, **SCHEDULERS[case.scheduler]}


def inputs() -> tuple[Any, Any]:
    """The picture [1, 3, H, W] in -1..1 and the noise [1, 4, h, w] of every case."""
    generator = np.random.RandomState(1)
    coarse = generator.uniform(-1, 1, (1, 3, 4, 4))
    image = coarse.repeat(SIDE // 4, axis=2).repeat(SIDE // 4, axis=3).astype(np.float32)
    return image, generator.standard_normal((1, 4, LATENT, LATENT)).astype(np.float32)


def ours(family: str, cases: list[Case]) -> dict[str, Any]:
    """The pictures of our pipeline, by case."""
    import jax

    from sdedit_cli import Scheduler

    made, params = pipeline(family)
    image, noise = inputs()
    ids, negative = (_ids(made, text) for text in (PROMPT, NEGATIVE))
    pictures: dict[str, Any] = {}
    with jax.threefry_partitionable(False):  # how releases of that time drew from a key
        for case in cases:
            said = {**config_of(case), **AS_THE_ORIGINAL.get(case.scheduler, {})}
            scheduler = Scheduler.from_config(said).modernised()
            made.scheduler = without_last(scheduler) if case.scheduler in FEWER_STEPS else scheduler
            pictures[case.name] = made(
                ids, image, params, jax.random.PRNGKey(0), **call_of(case, noise, negative)
            ).images
    return pictures


def without_last(scheduler: Any) -> Any:
    """The scheduler, on grids that end a step before the end."""
    from dataclasses import replace

    class Shortened(type(scheduler)):
        def grid(self, *asked: Any, **how: Any) -> Any:
            grid = super().grid(*asked, **how)
            return replace(grid, timesteps=grid.timesteps[:-1], sigmas=grid.sigmas[:-1])

    return Shortened(scheduler.settings)


def _ids(made: Any, text: str) -> Any:
    return np.array([made.tokenizer.encode(text).ids], dtype=np.int32)


def call_of(case: Case, noise: Any, negative: Any) -> dict[str, Any]:
    return {
        "strength": case.strength,
        "num_inference_steps": case.steps,
        "guidance_scale": case.guidance,
        "noise": noise,
        "neg_prompt_ids": negative if case.negative else None,
        "height": SIDE,
        "width": SIDE,
    }


def original(folder: Path) -> None:
    """Runs within the original's environment: loads what we saved, and writes its pictures to `folder`."""
    import diffusers
    import jax
    import jax.numpy as jnp

    image, noise = inputs()
    pictures: dict[str, Any] = {}
    for family in FAMILIES:
        made, params = diffusers.FlaxStableDiffusionImg2ImgPipeline.from_pretrained(
            folder / family, safety_checker=None, feature_extractor=None, dtype=jnp.float32
        )
        padding = {"padding": "max_length", "max_length": made.tokenizer.model_max_length, "return_tensors": "np"}
        ids, negative = (made.tokenizer([text], **padding).input_ids for text in (PROMPT, NEGATIVE))
        for case in (case for case in CASES if case.family == family):
            config = {key: value for key, value in config_of(case).items() if key != "_class_name"}
            made.scheduler = getattr(diffusers, f"Flax{case.scheduler}")(**config)
            state = {**params, "scheduler": made.scheduler.create_state()}
            call = call_of(case, jnp.asarray(noise), negative)
            try:
                output = made(ids, jnp.asarray(image), state, jax.random.PRNGKey(0), **call)
            except jax.errors.JAXTypeError as problem:  # its LMS asks for the value of what is being traced
                pictures[case.name] = np.array(type(problem).__name__)
                continue
            pictures[case.name] = np.asarray(output.images, dtype=np.float32)
    np.savez_compressed(folder / "original.npz", **pictures)


def environment(folder: Path) -> Path:
    """The Python of an environment with the original in it, made where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINS], check=True)
    return python


def originals(kept: Path | None) -> dict[str, Any]:
    """The pictures of the original, by case, from the folders that we save; the environment is kept there, if given."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python, here = environment(kept or folder / "env"), {**os.environ, "PYTHONPATH": str(ROOT)}
        for family in FAMILIES:
            made, params = pipeline(family)
            made.save_pretrained(folder / family, params)
        subprocess.run([str(python), "-m", "benchmarks.jax_original", str(folder)], check=True, env=here, cwd=folder)
        return dict(np.load(folder / "original.npz"))


def options(parser: argparse._ArgumentGroup) -> None:
    parser.add_argument("--env", type=Path, help="where the original's environment is, or is made and kept")
    parser.add_argument("--write", action="store_true", help="write the fixture of the tests")
    parser.add_argument("--kept", action="store_true", help="compare with the fixture of the tests")


def run(given: argparse.Namespace) -> Iterator[Row]:
    theirs = dict(np.load(FIXTURE)) if given.kept or given.quick else originals(given.env)
    mine = {k: v for family in FAMILIES for k, v in ours(family, [c for c in CASES if c.family == family]).items()}
    for name, picture in theirs.items():
        if picture.ndim == 0:
            print(f"{name}: the original fails ({picture})", file=sys.stderr)
            continue
        gap = np.abs(picture - mine[name])
        yield Row(name, OURS, (float(gap.max()),), "", also={"mean": float(gap.mean())})
    if given.write:
        np.savez_compressed(FIXTURE, **theirs)


if __name__ == "__main__":  # within the original's environment
    original(Path(sys.argv[1]))
