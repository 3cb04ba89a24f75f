"""The programs that are compared: the same works on the same weights, by `serve` in a process of its own.

A `step` is one of a guided picture: from latents to the next latents, the solver's part included. Ours is the engine's
loop; the reference's is what its pipeline does between two timesteps. OpenVINO runs the reference's UNet and decoder,
converted once, compiled for each static shape.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from sdedit_cli.waiting import settle

from .children import Answer, once
from .machine import has_compiler
from .rates import DTYPES
from .rows import OURS
from .turns import seconds

ORACLE, LAST, COMPILED = "diffusers", "diffusers, channels_last", "diffusers, compiled"
OPENVINO, OURS_ON_OPENVINO = "OpenVINO", "sdedit, OpenVINO"
GUIDANCE = 7.5
STEPS = 500  # of the schedule; more than are ever timed
Work = Callable[[], object]


def present() -> list[str]:
    """The programs that this machine can run."""
    openvino = importlib.util.find_spec("openvino") is not None
    have = {COMPILED: has_compiler(), OPENVINO: openvino, OURS_ON_OPENVINO: openvino}
    return [name for name in RUNNERS if have.get(name, True)]


def environment(program: str) -> dict[str, str]:
    """Ours as the command line runs it, others as they come; all with their compiled modules, as installed ones are."""
    variables = {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": "", "PYTHONDONTWRITEBYTECODE": ""}
    if program in (OURS, OURS_ON_OPENVINO):
        ours: dict[str, str] = {}
        settle(ours)
        variables |= ours
    return variables


def serve(program: str, folder: str, dtype: str) -> Callable[..., Answer]:
    """Answers with the seconds of a work; where its shape is new, with those of preparing it too.

    A first call of a shape is part of preparing it: what is read, packed, compiled, or given by the system then is no
    later call's. Of an autoencoder so is the second, at which ours packs its weights.
    """
    made: dict[tuple[Any, ...], Work] = {}
    runner = RUNNERS[program](Path(folder), dtype)

    def prepare(key: tuple[Any, ...], work: str, how: dict[str, Any]) -> None:
        made.clear()  # what a shape has prepared is memory
        made[key] = getattr(runner, work)(**how)
        for _ in range(2 if work in ("encode", "decode") else 1):
            made[key]()

    def answer(work: str, **how: Any) -> Answer:
        key = (work, *how.values())
        prepared = 0.0 if key in made else seconds(lambda: prepare(key, work, how))
        return {"seconds": seconds(made[key]), **({"prepared": prepared} if prepared else {})}

    return answer


def latents(batch: int, side: int, kind: Any) -> Any:
    import torch

    return torch.randn(batch, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(0)).to(kind)


def texts(rows: int, width: int, kind: Any) -> Any:
    import torch

    return torch.randn(rows, 77, width, generator=torch.Generator().manual_seed(1)).to(kind)


def photo(side: int) -> Any:
    from PIL import Image

    return Image.linear_gradient("L").resize((side, side)).convert("RGB")


class _Runner:
    """What both pipelines are called like."""

    pipe: Any

    def __init__(self, folder: Path, dtype: str) -> None:
        import torch

        self.folder, self.kind = folder, getattr(torch, DTYPES[dtype])
        self.load()

    def load(self) -> None:
        raise NotImplementedError

    def picture(self, side: int, steps: int) -> Work:
        import torch

        image, prompt = photo(side), "a photo of a cat"
        how = {"strength": 1.0, "num_inference_steps": steps, "guidance_scale": GUIDANCE}
        return lambda: self.pipe(prompt, image, generator=torch.Generator().manual_seed(0), **how).images[0]

    def pixels(self, side: int, batch: int) -> Any:
        import numpy as np
        import torch

        pixels = torch.from_numpy(np.asarray(photo(side))).permute(2, 0, 1)[None] / 127.5 - 1
        return pixels.to(self.kind).expand(batch, -1, -1, -1).contiguous()


class Ours(_Runner):
    def load(self) -> None:
        from sdedit_cli import StableDiffusionImg2ImgPipeline

        self.pipe = StableDiffusionImg2ImgPipeline.from_pretrained(self.folder, torch_dtype=self.kind)
        self.pipe.set_progress_bar_config(disable=True)

    def step(self, side: int, batch: int = 1) -> Work:
        from sdedit_cli.engine.denoise import Segment, Track

        engine = self.pipe.engine
        unet, scheduler = engine.components.unet, engine.components.scheduler
        text = texts(2 * batch, unet.config.cross_attention_dim, self.kind)
        segments = (Segment(engine.condition(text, GUIDANCE)),)
        x = latents(batch, side, self.kind)
        track = Track(x, scheduler, scheduler.grid(STEPS), 0, segments, guidance_scale=GUIDANCE, guided=True)
        return partial(next, engine.steps(track))

    def encode(self, side: int, batch: int = 1) -> Work:
        import torch

        vae, pixels = self.pipe.engine.components.vae, self.pixels(side, batch)
        return torch.no_grad()(lambda: vae.encode(pixels).mean)

    def decode(self, side: int, batch: int = 1) -> Work:
        import torch

        x = latents(batch, side, self.kind)
        return torch.no_grad()(lambda: self.pipe.engine.decode(x))


class OursOnOpenVINO(Ours):
    """As `--backend openvino` computes."""

    def load(self) -> None:
        from sdedit_cli.runtime.openvino import Machine, attach

        super().load()
        attach(self.pipe.engine.components.networks(), Machine())


class Oracle(_Runner):
    def load(self) -> None:
        from diffusers import StableDiffusionImg2ImgPipeline

        self.pipe = StableDiffusionImg2ImgPipeline.from_pretrained(self.folder, torch_dtype=self.kind)
        self.pipe.set_progress_bar_config(disable=True)
        self.scheduler, self.width = self.pipe.scheduler, self.pipe.unet.config.cross_attention_dim
        self.scaling = self.pipe.vae.config.scaling_factor

    def unet(self, side: int, batch: int) -> Callable[..., Any]:
        """(rows, timestep, text) to the output."""
        del side, batch
        return lambda x, t, text: self.pipe.unet(x, t, encoder_hidden_states=text, return_dict=False)[0]

    def decoder(self, side: int, batch: int) -> Callable[..., Any]:
        del side, batch
        return lambda x: self.pipe.vae.decode(x, return_dict=False)[0]

    def step(self, side: int, batch: int = 1) -> Work:
        import torch

        unet, scheduler = self.unet(side, batch), self.scheduler
        scheduler.set_timesteps(STEPS)
        x = latents(batch, side, self.kind)
        text = texts(2 * batch, self.width, self.kind)
        steps = iter(count())

        def step() -> None:
            nonlocal x
            t = scheduler.timesteps[next(steps)]
            rows = scheduler.scale_model_input(torch.cat([x, x]), t)
            low, high = unet(rows, t, text).chunk(2)
            x = scheduler.step(low + GUIDANCE * (high - low), t, x, return_dict=False)[0]

        return torch.no_grad()(step)

    def encode(self, side: int, batch: int = 1) -> Work:
        import torch

        pixels = self.pixels(side, batch)
        return torch.no_grad()(lambda: self.pipe.vae.encode(pixels).latent_dist.mode())

    def decode(self, side: int, batch: int = 1) -> Work:
        import torch

        x, decoder = latents(batch, side, self.kind) / self.scaling, self.decoder(side, batch)
        return torch.no_grad()(lambda: decoder(x))


class ChannelsLast(Oracle):
    def load(self) -> None:
        import torch

        super().load()
        for network in (self.pipe.unet, self.pipe.vae):
            network.to(memory_format=torch.channels_last)


class Compiled(Oracle):
    def load(self) -> None:
        super().load()
        for network in (self.pipe.unet, self.pipe.vae.decoder):
            network.compile(dynamic=False)


class OpenVINO(Oracle):
    def load(self) -> None:
        import openvino
        from diffusers import DDIMScheduler

        files = once("benchmarks.common.openvino:convert", str(self.folder))
        self.files, self.width, self.scaling = files, int(files["width"]), float(files["scaling"])
        self.scheduler = DDIMScheduler.from_pretrained(self.folder / "scheduler")
        self.core, self.how = openvino.Core(), {"PERFORMANCE_HINT": "LATENCY"}
        self.how["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[str(self.kind).split(".")[1]]

    def compiled(self, part: str, *shapes: tuple[int, ...]) -> Callable[..., Any]:
        import torch

        model = self.core.read_model(self.files[part])
        model.reshape(dict(zip(model.inputs, map(list, shapes), strict=True)))
        ready = self.core.compile_model(model, "CPU", self.how)
        return lambda *inputs: torch.from_numpy(ready([value.float().numpy() for value in inputs])[0])

    def unet(self, side: int, batch: int) -> Callable[..., Any]:
        return self.compiled("unet", (2 * batch, 4, side // 8, side // 8), (), (2 * batch, 77, self.width))

    def decoder(self, side: int, batch: int) -> Callable[..., Any]:
        return self.compiled("decoder", (batch, 4, side // 8, side // 8))


RUNNERS: dict[str, type[_Runner]] = {
    OURS: Ours,
    OURS_ON_OPENVINO: OursOnOpenVINO,
    ORACLE: Oracle,
    LAST: ChannelsLast,
    COMPILED: Compiled,
    OPENVINO: OpenVINO,
}
