"""The workers of one call, and who of them has what: items go out, results come back, lost workers are replaced."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Generic, TypeVar

from dvme.errors import ClusterError
from dvme.text import first_line

Item = TypeVar("Item")
Result = TypeVar("Result")
Tool = Callable[[Item], Result]

MOST_DEATHS = 3
"""Of workers on one item, or of workers that do not come up, after which the run ends."""
IN_FLIGHT = 2
"""Items that a worker has at most: one in work, the next one waiting."""
PATIENCE_S = 180.0
"""For which a cluster may give no worker at all."""
ASK_EVERY_S = 1.0


def ray_module() -> Any:
    """Ray, which is an extra."""
    import ray

    return ray


@dataclass(frozen=True)
class Share:
    """What a worker is given of its machine."""

    cpus: int = 1
    """Cores, and threads of torch and OpenMP."""
    gpus: int = 0


class _Worker(Generic[Item, Result]):
    """What runs in a worker's process."""

    def __init__(self, make_tool: Callable[[], Tool[Item, Result]], n_threads: int) -> None:
        for library in ("OMP", "MKL"):  # Ray sets them too, but not where the program that began it has them
            os.environ[f"{library}_NUM_THREADS"] = f"{n_threads}"
        self.make_tool, self.n_threads = make_tool, n_threads
        self.tool: Tool[Item, Result] | None = None

    def versions(self) -> tuple[str, str]:
        """(host, version of dvme)."""
        return socket.gethostname(), version("dvme")

    def work(self, item: Item) -> Result:
        """The result of an item. The tool is made here, so that what it raises arrives as itself."""
        if self.tool is None:
            self.tool = self.make_tool()
            if "torch" in sys.modules:
                sys.modules["torch"].set_num_threads(self.n_threads)
        return self.tool(item)


@dataclass(eq=False)
class _Member:
    """One worker as the driver knows it."""

    actor: Any
    coming: Any
    """The reference to its `versions`, until it is up."""
    refs: dict[Any, int] = field(default_factory=dict)
    """Positions of the items that it has, in their order."""


class Pool(Generic[Item, Result]):
    """The workers of one call, and who has what."""

    def __init__(self, where: str, make_tool: Callable[[], Tool[Item, Result]], share: Share) -> None:
        ray = ray_module()
        options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_restarts": 0, "max_task_retries": 0}
        self.kind = ray.remote(**options)(_Worker)
        self.make_tool, self.n_threads, self.where = ray.put(make_tool), share.cpus, where
        self.members: list[_Member] = []
        self.queue: deque[int] = deque()
        self.deaths: Counter[int] = Counter()
        self.n_stillborn = 0

    @contextmanager
    def of(self, n_workers: int) -> Iterator[Pool[Item, Result]]:
        """With so many workers, which end with the context."""
        ray = ray_module()
        try:
            for _ in range(n_workers):
                self._begin()
            yield self
        finally:
            for member in self.members:
                with suppress(ray.exceptions.RayError):
                    ray.kill(member.actor)

    def results(self, items: Sequence[Item], named: Callable[[Item], str]) -> Iterator[tuple[int, Result]]:
        """See `Cluster.work_off`."""
        ray = ray_module()
        self.queue.extend(range(len(items)))
        n_left, idle_since = len(items), time.monotonic()
        while n_left:
            self._hand_out(items)
            waited = [ref for member in self.members for ref in (member.refs or [member.coming]) if ref is not None]
            is_up = any(member.coming is None for member in self.members)
            ready, _ = ray.wait(waited, num_returns=1, timeout=ASK_EVERY_S) if waited else ([], [])
            if is_up or ready:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > PATIENCE_S:
                raise ClusterError(
                    f"{self.where} gave no worker for {PATIENCE_S:.0f} s; ray status shows who holds its cores; free "
                    "some, then run again"
                )
            for ref in ready:
                for position, result in self._taken(ref, items, named):
                    n_left -= 1
                    yield position, result

    def _begin(self) -> None:
        actor = self.kind.remote(self.make_tool, self.n_threads)
        self.members.append(_Member(actor, actor.versions.remote()))

    def _hand_out(self, items: Sequence[Item]) -> None:
        """Give every worker that is up something to do, those without anything first."""
        up = [member for member in self.members if member.coming is None]
        for n_held in range(IN_FLIGHT):
            for member in up:
                if self.queue and len(member.refs) == n_held:
                    position = self.queue.popleft()
                    member.refs[member.actor.work.remote(items[position])] = position

    def _taken(self, ref: Any, items: Sequence[Item], named: Callable[[Item], str]) -> list[tuple[int, Result]]:
        """What a reference that is ready gives: a result, nothing yet, or those that a lost worker still left."""
        ray = ray_module()
        member = next(each for each in self.members if ref == each.coming or ref in each.refs)
        try:
            value = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except ray.exceptions.LocalRayletDiedError as error:
            raise ClusterError(f"{self.where} ended meanwhile; start it, then run again") from error
        except ray.exceptions.RayError as error:
            return self._lost(member, error, lambda position: named(items[position]))
        if ref == member.coming:
            self._check_version(*value)
            member.coming, self.n_stillborn = None, 0
            return []
        return [(member.refs.pop(ref), value)]

    def _lost(self, member: _Member, error: Exception, name: Callable[[int], str]) -> list[tuple[int, Result]]:
        """Replace a worker that died. The item that it was at is blamed, the one that it had beside goes back.

        Raises:
            ClusterError: if the item has taken down as many workers as are allowed, or none comes up.
        """
        ray = ray_module()
        self.members.remove(member)
        with suppress(ray.exceptions.RayError):
            ray.kill(member.actor)  # one that only could not be reached would go on
        if member.coming is not None:
            self.n_stillborn += 1
            if self.n_stillborn >= MOST_DEATHS:
                why = next((line for line in reversed(str(error).splitlines()) if "Error" in line), first_line(error))
                raise ClusterError(
                    f"workers of {self.where} do not come up ({why.strip()}); install the same dvme on every machine"
                ) from error
        found, back, is_blamed = [], [], False
        for ref, position in member.refs.items():
            try:
                found.append((position, ray.get(ref, timeout=0)))
            except ray.exceptions.RayError:
                back.append(position)
                self.deaths[position] += not is_blamed
                is_blamed = True
        for position in back:
            if self.deaths[position] >= MOST_DEATHS:
                raise ClusterError(
                    f"{name(position)} took down {MOST_DEATHS} workers one after the other ({_why(error)}); give a "
                    "worker more memory or leave it out; what was finished is kept"
                ) from error
        self.queue.extendleft(reversed(back))
        self._begin()
        return found

    def _check_version(self, host: str, theirs: str) -> None:
        if theirs != (ours := version("dvme")):
            raise ClusterError(f"{host} has dvme {theirs}, this machine {ours}; install the same on every machine")


def _why(error: Exception) -> str:
    """Why a worker died, as far as Ray says."""
    kind = type(error).__name__
    return "its machine ran out of memory" if kind == "OutOfMemoryError" else first_line(error).rstrip(".")
