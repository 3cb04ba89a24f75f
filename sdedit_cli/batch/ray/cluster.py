"""Ray itself: joining a cluster or starting one here, quietly, and how many workers of what size it has room for."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ... import signals
from ...errors import ClusterError, shown

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
# Nothing is told to strangers, and nothing is written between our lines.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Without its first machine Ray ends our process after a minute; see `Head`, which knows before.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",
}
HERE = "local"
_PATIENCE = 10.0  # seconds, for one who may listen
_PAUSE = 5.0  # seconds between two looks at whether the first machine is there
_LONGEST_AWAY = 20.0


@dataclass(frozen=True, slots=True)
class Crewing:
    """How many workers there are to be, and the CPUs and GPUs of each: all alike, as threads change last bits."""

    count: int
    cpus: int
    gpus: int


def crewing(nodes: Sequence[Mapping[str, float]], asked: int | None, *, on_cpus: bool) -> Crewing:
    """A worker for each GPU, or for each node where there is none or `on_cpus`; `asked` is another number of them.

    `nodes` are the resources of each by Ray's names. Raises ClusterError where there is no room for so many.
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
        raise ClusterError(
            f"--workers {asked}: the cluster has {room} {kind}{'s' * (room != 1)}, and a worker needs one"
        )


@contextmanager
def joined(address: str | None) -> Generator[Any, None, None]:
    """The module `ray`, connected to the cluster at `address`, or by None to that of $RAY_ADDRESS, else to one that is
    started here and ends with the block; one that was joined goes on. Raises ClusterError."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # By name, so that types are the same where Ray is not installed.
    ray: Any = import_module("ray")
    # It prints to stdout what becomes of nodes, where pictures or events may go; there is no public way to stop it.
    vars(import_module("ray._private.worker"))["_worker_logs_enabled"] = False
    address = address or os.environ.get("RAY_ADDRESS") or HERE
    _check_reachable(address)
    try:
        _init(ray, address)
        yield ray
    finally:
        # Workers end with it. They are not killed one by one: where a signal met our whole group, nobody would answer.
        ray.shutdown()


def _init(ray: Any, address: str) -> None:
    # Ray sets handlers of its own, by which SIGTERM ends the process at once; afterwards there are ours again.
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        ray.init(address=address, include_dashboard=False, logging_level=logging.CRITICAL, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as problem:
        raise ClusterError(f"{_place(address)} ({shown(str(problem).strip().split(chr(10))[0], 160)})") from None
    except SystemExit:
        raise signals.Stop(signal.SIGTERM) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Head:
    """The first machine of the cluster that `ray` is connected to, without which there is none."""

    def __init__(self, ray: Any) -> None:
        self._address: str = ray.get_runtime_context().gcs_address
        self._looked = time.monotonic()
        self._missed: float | None = None
        # Through Ray's client, the address is one within the cluster: not to be reached is no bad sign then.
        self._can_tell = _is_reachable(self._address)

    def check(self) -> None:
        """Looks now and then. Raises ClusterError when nobody has listened there for a while."""
        if self._can_tell and time.monotonic() - self._looked > _PAUSE:
            self._look()

    def wait(self) -> None:
        """Returns once it answers, as what is asked of it would wait for long. Raises ClusterError as `check`."""
        while self._can_tell and not self._look():
            time.sleep(_PAUSE)
            signals.check()

    def _look(self) -> bool:
        began = time.monotonic()
        is_there = _is_reachable(self._address)
        self._looked = time.monotonic()
        if is_there:
            self._missed = None
            return True
        self._missed = began if self._missed is None else self._missed
        if self._looked - self._missed > _LONGEST_AWAY:
            raise ClusterError(
                f"the first machine of the cluster ({self._address}), which holds it together, does not answer any "
                "more; start it again, or run on another one or without Ray: what is made is kept"
            )
        return False


def _is_reachable(address: str) -> bool:
    try:
        _check_reachable(address)
    except ClusterError:
        return False
    return True


def _check_reachable(address: str) -> None:
    """Raises ClusterError where nobody listens, for which Ray would wait for minutes."""
    host, _, port = address.removeprefix("ray://").strip("/").rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        return  # a word, or nothing that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()
    except OSError as problem:
        raise ClusterError(f"{_place(address)} ({problem.strerror or problem})") from None


def _place(address: str) -> str:
    if address == HERE:
        return "no Ray can be started on this machine"
    return f"--address {shown(address)}: no Ray cluster can be joined there"
