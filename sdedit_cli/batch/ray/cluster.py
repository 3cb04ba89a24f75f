"""Ray itself: joining a cluster or starting one here, quietly, and how many workers of what size it has room for."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...errors import ClusterError, UsageError, shown

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
# Nothing is told to strangers, and nothing is written between our lines.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
HERE = "local"


@dataclass(frozen=True, slots=True)
class Crewing:
    """How many workers there are to be, and the CPUs and GPUs of each: all alike, as threads change last bits."""

    count: int
    cpus: int
    gpus: int


def crewing(nodes: Sequence[Mapping[str, float]], asked: int | None, *, on_cpus: bool) -> Crewing:
    """A worker for each GPU, or for each node where there is none or `on_cpus`; `asked` is another number of them.

    `nodes` are the resources of each by Ray's names. Raises UsageError for more workers than there is room for.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
    if gpus and not on_cpus:
        _check_room(asked, gpus, "GPU")
        return Crewing(asked or gpus, 0, 1)
    if not cpus:
        raise ClusterError("the cluster has neither GPUs nor CPUs for workers; start nodes that have some")
    _check_room(asked, sum(cpus), "CPU")
    count = asked or len(cpus)
    # The most CPUs that so many workers can all have.
    return Crewing(count, next(n for n in range(max(cpus), 0, -1) if sum(c // n for c in cpus) >= count), 0)


def _check_room(asked: int | None, room: int, kind: str) -> None:
    if asked is not None and asked > room:
        raise UsageError(f"--workers {asked}: the cluster has {room} {kind}{'s' * (room != 1)}, and a worker needs one")


@contextmanager
def joined(address: str | None) -> Generator[Any, None, None]:
    """The module `ray`, connected to the cluster at `address`, or by None to that of $RAY_ADDRESS, else to one that is
    started here and ends with the block; one that was joined goes on. Raises ClusterError."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    address = address or os.environ.get("RAY_ADDRESS") or HERE
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        ray.init(
            address=address,
            include_dashboard=False,
            configure_logging=True,
            logging_level=logging.CRITICAL,
            log_to_driver=False,
        )
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as problem:
        raise ClusterError(f"{_place(address)} ({shown(str(problem).strip().partition(chr(10))[0], 160)})") from None
    finally:
        for number, handler in before.items():  # Ray ends the process its own way
            signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _place(address: str) -> str:
    if address == HERE:
        return "no Ray can be started on this machine"
    return f"--address {shown(address)}: no Ray cluster can be joined there"
