"""Where the models of a batch are: in this process, or on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ..batch.worker import Host, Reporter
from ..errors import UsageError
from .host import Models


def check_engine(given: Mapping[str, Any]) -> None:
    """Raises UsageError for options of a cluster without one, and for an engine that is not installed."""
    if given["engine"] == "ray":
        if find_spec("ray") is None and not (given["check"] or given["dry_run"]):  # which ask no other machine
            raise UsageError("--engine ray needs Ray, which is not installed here; pip install 'sdedit-cli[ray]'")
        return
    for name in ("address", "workers"):
        if given[name] is not None:
            raise UsageError(f"--{name} is for --engine ray; give that too")


@contextmanager
def hosted(given: Mapping[str, Any], to: Reporter) -> Generator[Host, None, None]:
    """Who loads the models; what was started for them ends with the block."""
    here = Models(to.note, complete=given["dry_run"])
    if given["engine"] == "local":
        yield here
        return
    from ..batch.ray.host import Wanted, on_ray

    with on_ray(Wanted(given["address"], given["workers"]), here, models_of_a_worker) as host:
        yield host


def models_of_a_worker() -> Host:
    """Who loads models in the process of a worker, where nobody looks on."""
    return Models(lambda text: None)
