"""PNDM and PLMS (Liu et al. 2022, arXiv 2202.09778): multistep in the noise, after a Runge-Kutta warm-up or none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ...errors import UsageError
from ..grid import Array, Asked, Grid, table_grid, table_nodes
from ..process import Process
from .base import Solver, State, Step


@dataclass(frozen=True, eq=False)
class _Memory:
    """`count` steps were run. It counts from where the edit starts, not from the first node: an edit repeats the
    warm-up in the middle of the grid, as the reference does."""

    count: int = 0
    outputs: tuple[Tensor, ...] = ()
    sum: Tensor | float = 0
    x: Tensor | None = None


def _grid(process: Process, asked: Asked) -> Grid:
    config, n = process.config, asked.steps
    rising: Array = table_nodes(process, asked)[::-1]
    if config.skip_prk_steps:
        # The second node is run twice: the first pair of steps is a step of Heun's method.
        return table_grid(process, np.array(np.concatenate([rising[:-1], rising[-2:-1], rising[-1:]])[::-1]), n)
    if n < 4:
        raise UsageError(f"{n} steps are too few for PNDM's Runge-Kutta warm-up, which takes 4; set skip_prk_steps")
    half = config.num_train_timesteps // n // 2
    pairs: Array = np.repeat(rising[-4:], 2) + np.tile(np.array([0, half]), 4)
    warmup: Array = np.repeat(pairs[:-1], 2)[1:-1][::-1]
    return table_grid(process, np.concatenate([warmup, rising[:-3][::-1]]), n, warmup=tuple(warmup.tolist()))


def _transfer(process: Process, x: Tensor, t: int, t_later: int, output: Tensor) -> Tensor:
    """Equation 11: from t to t_later along the predicted noise."""
    now, later = process.alphas_cumprod[t], process.alpha_bar(t_later)
    if process.config.prediction_type == "v_prediction":
        output = (now**0.5) * output + ((1 - now) ** 0.5) * x
    scale = now * (1 - later) ** 0.5 + (now * (1 - now) * later) ** 0.5
    return (later / now) ** 0.5 * x - (later - now) * output / scale


def _runge_kutta(step: Step, x: Tensor, output: Tensor, memory: _Memory) -> tuple[Tensor, _Memory]:
    count, start = memory.count, step.grid.warmup[memory.count // 4 * 4]
    half = step.config.num_train_timesteps // step.grid.num_inference_steps // 2
    t_later = step.grid.nodes[step.i] - (0 if count % 2 else half)
    if count % 4 == 0:
        memory = replace(memory, sum=memory.sum + 1 / 6 * output, outputs=(*memory.outputs, output), x=x)
    elif count % 4 == 3:
        output, memory = memory.sum + 1 / 6 * output, replace(memory, sum=0)
    else:
        memory = replace(memory, sum=memory.sum + 1 / 3 * output)
    x = _transfer(step.process, x if memory.x is None else memory.x, start, t_later, output)
    return x, replace(memory, count=count + 1)


def _adams_bashforth(outputs: tuple[Tensor, ...]) -> Tensor:
    if len(outputs) == 1:
        return outputs[-1]
    if len(outputs) == 2:
        return (3 * outputs[-1] - outputs[-2]) / 2
    if len(outputs) == 3:
        return (23 * outputs[-1] - 16 * outputs[-2] + 5 * outputs[-3]) / 12
    return (1 / 24) * (55 * outputs[-1] - 59 * outputs[-2] + 37 * outputs[-3] - 9 * outputs[-4])


def _pndm(step: Step, x: Tensor, output: Tensor, memory: State) -> tuple[Tensor, State]:
    if memory.count < len(step.grid.warmup):
        return _runge_kutta(step, x, output, memory)
    stride = step.config.num_train_timesteps // step.grid.num_inference_steps
    t = step.grid.nodes[step.i]
    if memory.count == 1:
        mean = (output + memory.outputs[-1]) / 2
        assert memory.x is not None
        x, memory = _transfer(step.process, memory.x, t + stride, t, mean), replace(memory, x=None)
    else:
        first = not step.config.skip_prk_steps or memory.count > 0
        memory = replace(memory, outputs=(*memory.outputs[-3:], output), x=memory.x if first else x)
        x = _transfer(step.process, x, t, t - stride, _adams_bashforth(memory.outputs))
    return x, replace(memory, count=memory.count + 1)


PNDM = Solver("table", _grid, _pndm, start=lambda _p, _g, _x, _s: _Memory(), predictions=("epsilon", "v_prediction"))
