"""The `Host` that has models loaded on a cluster, which is joined when the first is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ...options import Edit
from ..request import Request
from ..worker import Host
from .cluster import crewing, joined
from .crew import Crew, differing
from .station import contents_of
from .worker import RayWorker


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which cluster (None: one that is started here), and how many workers (None: as many as suit it)."""

    address: str | None = None
    workers: int | None = None


class RayHost:
    """See `batch.worker.Host`. `here` knows models where the driver is; `make` gives such a one at every worker, by a
    function that can be imported there."""

    def __init__(self, wanted: Wanted, here: Host, make: Callable[[], Host], stack: ExitStack) -> None:
        self._wanted = wanted
        self._here = here
        self._make = make
        self._stack = stack
        self._crew: Crew | None = None
        self._warm: tuple[object, RayWorker] | None = None

    def group(self, request: Request) -> tuple[object, ...]:
        """Equal for requests that one loaded model carries out."""
        return self._here.group(request)

    def check_asked(self, request: Request) -> None:
        """Raises what speaks against a request alone, whatever its model."""
        self._here.check_asked(request)

    def check(self, request: Request) -> None:
        """Raises what speaks against a request here; the machines are those of the workers, who check them."""
        self._here.check(_on_any_machine(request))

    def check_choices(self, request: Request) -> None:
        """Raises what speaks against a request alone."""
        self._here.check_choices(_on_any_machine(request))

    def load(
        self, request: Request, warn: Callable[[str], None], loaded: Callable[[Mapping[str, Any]], None]
    ) -> RayWorker:
        """The model of a request on all workers. Raises ClusterError, and what speaks against it at one of them."""
        group = self.group(request)
        if self._warm is None or self._warm[0] != group:
            self._warm = None
            crew = self._crew = self._crew or self._crewed(request, warn)
            members = crew.load(request, contents_of(request))
            if text := differing(members):
                warn(text)
            facts = {**members[0].facts, "workers": len(members)}
            self._warm = (group, RayWorker(crew, facts))
            loaded(facts)
        return self._warm[1]

    def advice(self, request: Request, size: tuple[int, int]) -> str:
        """What to know of a picture of `size` (width, height); '' when there is nothing to say."""
        return self._here.advice(_on_any_machine(request), size)

    def _crewed(self, request: Request, warn: Callable[[str], None]) -> Crew:
        ray = self._stack.enter_context(joined(self._wanted.address))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        plan = crewing(nodes, self._wanted.workers, on_cpus=request.edit.device == "cpu")
        return Crew(ray, plan, self._make, os.getcwd(), warn)


def _on_any_machine(request: Request) -> Request:
    plain = Edit()
    return request.asking(replace(request.edit, device=plain.device, attention=plain.attention))


@contextmanager
def on_ray(wanted: Wanted, here: Host, make: Callable[[], Host]) -> Generator[RayHost, None, None]:
    """A host whose workers end with the block, and with them the cluster if it was started for them."""
    with ExitStack() as stack:
        yield RayHost(wanted, here, make, stack)
