"""Training by several processes is one training: they hold the same weights, and another number of them goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "helpers" / "train_together.py"


def train(folder: Path, processes: int) -> list[dict[str, Tensor]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env={**shared, "WORLD_SIZE": str(processes), "RANK": str(rank)},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(processes)
    ]
    assert [process.wait(timeout=120) for process in running] == [0] * processes
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(processes)]


def test_processes_hold_the_same_weights_and_share_the_samples(tmp_path: Path) -> None:
    first, second = train(tmp_path, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["step"] == 10  # 80 samples, 4 by each of 2 in a step
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    checkpoint["spent"] = (5, 40, 1.0)
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    (alone,) = train(tmp_path, 1)
    assert alone["step"] == 15
    assert not torch.equal(alone["2.weight"], first["2.weight"])
