"""A process of several that train one small network: FOLDER. Its weights, once trained, are in FOLDER/RANK.pt."""

import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from training import workers
from training.loop import Settings, Trainer
from training.muon import is_hidden

SIZES = (5, 4, 3, 2)


def main() -> None:
    folder = Path(sys.argv[1])
    workers.join()
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(n, m, bias=n < 5) for n, m in pairwise(SIZES)))
    settings = Settings(80, None, 4, 1e-2, warmup=2)
    run = Trainer({"net": net}, folder, settings, torch.device("cpu"), is_hidden=is_hidden)

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        return (net(torch.randn(4, SIZES[0], generator=generator)) - 1).square().mean()

    run.run(loss_of, lambda: "")
    torch.save({**net.state_dict(), "step": torch.tensor(run.step)}, folder / f"{workers.rank()}.pt")


if __name__ == "__main__":
    main()
