"""The workers of a cluster: started together, replaced when they are lost, each asked for one thing at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ... import signals
from ...errors import ClusterError, SdeditError, listed, shown
from ..request import Request
from ..versions import torch_version
from ..worker import Host
from .cluster import Crewing, Head
from .messages import Introduction, Loaded, News, Order
from .station import Station

# How often a signal is looked for, in seconds.
_OFTEN = 0.2
# How long workers may take to be placed and started before the others begin, and all of them before it is given up.
_PATIENCE = 120.0
# How many workers in a row are replaced without a picture made in between.
_MOST_REPLACED = 10
# What of a worker the bytes of its pictures depend on.
_MAKES_BYTES = ("device", "dtype", "threads")


class Stage(Enum):
    """What a worker does now."""

    STARTING = "starting"
    IDLE = "idle"  # and has not the model
    LOADING = "loading"
    READY = "ready"
    AT_WORK = "at work"
    TURNING_BACK = "turning back"  # giving up its orders


@dataclass(eq=False)
class Member:
    """A worker: its actor, where it is, and the orders whose end it has not told, in the order they were given."""

    actor: Any
    stage: Stage = Stage.STARTING
    node: str = "a node"
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    orders: dict[int, Order] = field(default_factory=dict[int, Order])


class Crew:
    """Workers on the cluster that `ray` is connected to. `make` gives who loads models at each, `folder` is where we
    work; `warn` hears what users should know."""

    def __init__(
        self, ray: Any, plan: Crewing, make: Callable[[], Host], folder: str, warn: Callable[[str], None]
    ) -> None:
        self.members: list[Member] = []
        self.warn = warn
        self._ray = ray
        self._head = Head(ray)
        self._plan = plan
        self._arguments = (make, folder)
        self._calls: dict[Any, Member] = {}
        self._load: tuple[Request, Mapping[str, str]] | None = None
        self._replaced = 0
        for _ in range(plan.count):
            self._start()
        self._begun = time.monotonic()

    def _start(self) -> None:
        remote = self._ray.remote(Station).options(
            num_cpus=self._plan.cpus, num_gpus=self._plan.gpus, max_restarts=0, scheduling_strategy="SPREAD"
        )
        member = Member(remote.remote(*self._arguments))
        self.members.append(member)
        self._ask(member, Stage.STARTING, member.actor.introduce)

    def _ask(self, member: Member, stage: Stage, method: Any, *arguments: Any) -> None:
        self._forget(member)
        member.stage = stage
        self._calls[method.remote(*arguments)] = member

    def _forget(self, member: Member) -> None:
        """No longer waits for what a worker was asked."""
        self._calls = {ref: other for ref, other in self._calls.items() if other is not member}

    def load(self, request: Request, contents: Mapping[str, str]) -> list[Member]:
        """Has all that are there load the model of a request, and those that come later. Raises what speaks against it
        at any of them, naming its node."""
        self._load = (request, contents)
        self.recall()
        for member in self.members:
            if member.stage is not Stage.STARTING:
                self._have_loaded(member)
        while not self._all_ready():
            for member, answer in self.answers():
                if isinstance(answer, SdeditError):
                    raise _at(member, answer)
        return [member for member in self.members if member.stage is Stage.READY]

    def _all_ready(self) -> bool:
        stages = [member.stage for member in self.members]
        late = stages.count(Stage.STARTING)
        if late and Stage.READY in stages and time.monotonic() - self._begun > _PATIENCE:
            self.warn(f"{late} of {len(stages)} workers have no room on the cluster yet; the others begin")
            stages = [stage for stage in stages if stage is not Stage.STARTING]
        return all(stage is Stage.READY for stage in stages)

    def _have_loaded(self, member: Member) -> None:
        assert self._load is not None
        self._ask(member, Stage.LOADING, member.actor.load, *self._load)

    def give(self, member: Member, orders: list[Order], size: int | None, more: bool) -> None:
        """Orders more of a worker, none as well, and asks it for news."""
        member.orders |= {order.number: order for order in orders}
        self._ask(member, Stage.AT_WORK, member.actor.exchange, orders, size, more)

    def recall(self, *these: Member) -> None:
        """Has workers, or all, give up what they were ordered and have not told of."""
        for member in these or [one for one in self.members if one.orders]:
            member.orders.clear()
            self._ask(member, Stage.TURNING_BACK, member.actor.recall)

    def answers(self) -> Iterator[tuple[Member, News | SdeditError | None]]:
        """What workers answer now, if any do: news, what speaks against a model, None for one that was lost with its
        orders (still in it). Raises ClusterError when nobody is left."""
        self._check()
        for ref in self._waited():
            member = self._calls.pop(ref)
            try:
                answer = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError:
                raise  # a fault of ours
            except self._ray.exceptions.RayError as problem:
                self._lose(member, problem)
                yield member, None
                continue
            yield from self._heard(member, answer)

    def _waited(self) -> list[Any]:
        try:
            return self._ray.wait(list(self._calls), num_returns=1, timeout=_OFTEN)[0]
        except KeyboardInterrupt:
            signals.check()  # Ray makes its own of ours
            raise
        finally:
            signals.check()

    def _heard(self, member: Member, answer: Any) -> Iterator[tuple[Member, News | SdeditError | None]]:
        if isinstance(answer, News):
            member.stage = Stage.READY
            self._replaced = 0 if answer.ended else self._replaced
            yield member, answer
        elif isinstance(answer, Introduction):
            member.node, member.stage = answer.node, Stage.IDLE
            self._check_versions(answer)
            if self._load:
                self._have_loaded(member)
        elif isinstance(answer, Loaded):
            member.stage, member.facts = Stage.READY, answer.facts
            for text in answer.warnings:
                self.warn(text)
        elif isinstance(answer, SdeditError):
            member.stage = Stage.IDLE
            yield member, answer
        else:
            member.stage = Stage.READY

    def _check_versions(self, one: Introduction) -> None:
        from ... import __version__

        if one.sdedit != __version__:
            raise ClusterError(
                f"node {one.node} has sdedit {one.sdedit}, and this is {__version__}; install one version on all"
            )
        if one.torch != torch_version():
            self.warn(f"node {one.node} has torch {one.torch}, and this is {torch_version()}: last bits may differ")

    def _check(self) -> None:
        """Raises ClusterError when nobody works and nobody new comes."""
        self._head.check()
        stages = {member.stage for member in self.members} - {Stage.IDLE}
        if stages - {Stage.STARTING}:
            self._begun = time.monotonic()
        elif not stages or time.monotonic() - self._begun > _PATIENCE:
            raise ClusterError(
                "no worker is left on the cluster, and none can be started; "
                "'ray status' says what it has, and another run goes on from here"
            )

    def _lose(self, member: Member, problem: Exception) -> None:
        self._dismiss(member)
        if member.stage is Stage.STARTING and "No module named" in str(problem):
            raise ClusterError(f"a worker cannot be started ({_last_line(problem)}); every node needs sdedit-cli[ray]")
        count = len(member.orders)
        under_way = f"; its {count} picture{'s' * (count != 1)} will be made again" if count else ""
        self.warn(f"a worker on {member.node} was lost{under_way}")
        if self._replaced < _MOST_REPLACED:
            self._replaced += 1
            self._begun = time.monotonic()
            self._start()

    def _dismiss(self, member: Member) -> None:
        self._head.wait()
        self.members.remove(member)
        self._forget(member)
        self._ray.kill(member.actor)


def _at(member: Member, problem: SdeditError) -> SdeditError:
    """What went wrong at a worker, with its node."""
    return problem.within(f"node {member.node}")


def _last_line(problem: Exception) -> str:
    return shown(str(problem).strip().splitlines()[-1], 160)


def differing(members: list[Member]) -> str:
    """A warning of workers that would make other bytes of one picture; '' when all are alike."""
    kinds = {tuple(f"{name} {member.facts.get(name)}" for name in _MAKES_BYTES): member.node for member in members}
    if len(kinds) < 2:
        return ""
    told = [f"{', '.join(kind)} on {node}" for kind, node in kinds.items()]
    return f"workers differ ({listed(told, 3)}): last bits depend on where a picture was made"
