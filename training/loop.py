"""The training loop that the networks share: resumable, averaged, on a budget of samples or of minutes."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from . import workers
from .muon import Muon

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Settings:
    """`samples` or `minutes` (of training, counted over all resumed runs) bound the run; the other one is None."""

    samples: int | None
    minutes: float | None
    batch: int
    rate: float
    warmup: int = 100
    ema: float = 0.999
    decay: float = 0.01
    seed: int = 0
    save_every: float = 120.0
    mark_every: float = 600.0
    tell_every: float = 60.0


class Trainer:
    """What changes while training: modules, their moving averages, the optimiser, the generator, and what was spent."""

    def __init__(
        self,
        modules: dict[str, nn.Module],
        folder: Path,
        settings: Settings,
        device: torch.device,
        slower: dict[str, float] | None = None,
        is_hidden: Callable[[str, nn.Parameter], bool] = lambda name, parameter: False,
    ) -> None:
        """`slower`: prefixes of parameter names (`vae.encoder`) -> share of the learning rate that they get;
        `is_hidden`: which parameters Muon steps rather than AdamW."""
        self.modules = {name: on(module, device) for name, module in modules.items()}
        self.averages = {name: copy.deepcopy(m).eval().requires_grad_(False) for name, m in self.modules.items()}
        self.settings, self.folder, self.device = settings, folder, device
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self.shadows = [p for module in self.averages.values() for p in module.parameters()]
        named = {f"{part}.{name}": p for part, module in self.modules.items() for name, p in module.named_parameters()}
        hidden = [p for name, p in named.items() if is_hidden(name, p)]
        self.muon = Muon(hidden, settings.rate, settings.decay) if hidden else None
        others = {name: p for name, p in named.items() if not is_hidden(name, p)}
        self.optimizer = torch.optim.AdamW(
            groups(others, slower or {}), settings.rate, betas=(0.9, 0.99), weight_decay=settings.decay, fused=True
        )
        self.generator = torch.Generator().manual_seed(settings.seed + workers.rank())
        self.step, self.samples, self.seconds = 0, 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self.resume()

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self) -> None:
        """Writes the checkpoint beside the old one and then replaces it: a killed run never leaves half a file."""
        state: dict[str, Any] = {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "averages": {name: module.state_dict() for name, module in self.averages.items()},
            "optimizer": self.optimizer.state_dict(),
            "muon": self.muon.optimizer.state_dict() if self.muon else None,
            "generator": self.generator.get_state(),
            "processes": workers.count(),
            "spent": (self.step, self.samples, self.seconds),
        }
        draft = self.path.with_suffix(".tmp")
        torch.save(state, draft)
        os.replace(draft, self.path)

    def resume(self) -> None:
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        for kind, held in (("modules", self.modules), ("averages", self.averages)):
            for name, module in held.items():
                module.load_state_dict(state[kind][name])
        shares = [group["share"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, share in zip(self.optimizer.param_groups, shares, strict=True):
            group["share"] = share  # an option of this run, not a memory of the last one
        # The file has the momenta of the first share: other processes begin with none, and have them a few steps later.
        if self.muon and workers.rank() == 0 and state.get("processes", workers.count()) == workers.count():
            self.muon.optimizer.load_state_dict(state["muon"])
        self.step, self.samples, self.seconds = state["spent"]
        if workers.count() == 1:
            self.generator.set_state(state["generator"].cpu())
        else:  # one state cannot serve several processes
            self.generator.manual_seed(self.settings.seed + 1000 * self.step + workers.rank())

    @property
    def fraction(self) -> float:
        """How much of the budget is spent, 0..1."""
        limits = self.settings
        if limits.samples is not None:
            return min(1.0, self.samples / limits.samples)
        return min(1.0, self.seconds / (60 * (limits.minutes or 1.0)))

    def rate(self) -> float:
        """Linear warm-up, constant, and a cosine to zero over the second half."""
        late = max(0.0, 2 * self.fraction - 1)
        return (
            self.settings.rate
            * min(1.0, (self.step + 1) / self.settings.warmup)
            * (0.5 + 0.5 * math.cos(math.pi * late))
        )

    def update(self, loss: Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate() * group["share"]
        loss.backward()
        self.seconds = workers.average_gradients(self.parameters, self.seconds)
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        if self.muon:
            self.muon.step(self.rate())
        for parameter in self.parameters:
            parameter.grad = None
        self.step += 1
        self.samples += self.settings.batch * workers.count()
        weight = 1 - min(self.settings.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.shadows, self.parameters, weight)

    def run(self, loss_of: Callable[[torch.Generator], Tensor], mark: Callable[[], str]) -> None:
        """Trains until the budget is spent; `mark` evaluates the averages, draws a sheet, and returns a line to say."""
        if workers.rank() > 0:
            for _ in self.losses(loss_of):
                pass
            return
        marked = saved = told = time.monotonic()
        with bar() as progress:
            task = progress.add_task("training", total=1.0, note="")
            for loss in self.losses(loss_of):
                note = f"{self.samples:,} samples, {self.samples / self.seconds:.1f}/s, loss {loss:.4f}"
                progress.update(task, completed=self.fraction, note=note)
                now = time.monotonic()
                if not progress.console.is_terminal and now - told > self.settings.tell_every:
                    progress.console.print(f"{self.fraction:.1%}: {note}", soft_wrap=True)
                    told = now
                if now - saved > self.settings.save_every:
                    self.save()
                    saved = now
                if now - marked > self.settings.mark_every:
                    progress.console.print(f"{note}: {mark()}", soft_wrap=True)
                    marked = time.monotonic()
            self.save()
            progress.console.print(f"{self.samples:,} samples: {mark()}", soft_wrap=True)

    def losses(self, loss_of: Callable[[torch.Generator], Tensor]) -> Iterator[float]:
        """Runs the steps; yields the loss, smoothed over about 50 of them."""
        smooth = math.nan
        while self.fraction < 1:
            started = time.monotonic()
            loss = loss_of(self.generator)
            self.update(loss)
            value = loss.item()
            smooth = value if math.isnan(smooth) else smooth + 0.02 * (value - smooth)
            self.seconds += time.monotonic() - started
            yield smooth


def groups(named: dict[str, nn.Parameter], slower: dict[str, float]) -> list[dict[str, Any]]:
    """Parameters by their share of the learning rate."""
    shares: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        share = next((value for prefix, value in slower.items() if name.startswith(prefix)), 1.0)
        shares.setdefault(share, []).append(parameter)
    return [{"params": parameters, "share": share} for share, parameters in shares.items()]


def on(module: M, device: torch.device) -> M:
    """The module on the device, convolutions laid out for it."""
    module = module.to(device)
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
