"""Work on the machines of a Ray cluster: items go to workers, results come back, and lost workers are replaced.

Ray is an extra, imported where a cluster is asked for. A worker is a process that makes its tool once, from a picklable
function, and then gives each item to it. Items and results are small: what is large is read where it lies, by its path.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec

from dvme.cluster.workers import Item, Pool, Result, Share, Tool, ray_module
from dvme.cores import available_cores
from dvme.defaults import ENGINE
from dvme.errors import ClusterError, EnvironmentMismatchError, OptionError, parameter
from dvme.runtime import Runtime
from dvme.text import counted, first_line

ANSWER_S = 10.0
"""In which a head node answers, or is taken for unreachable."""
STORE_BYTES = 256 << 20
"""Of the shared memory of a local cluster, through which results come back."""
PREFACE, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""What a client of HTTP/2 says first, and the frame with which both sides begin."""
NO_RAY = "a cluster needs Ray: pip install 'dvme[ray]'"
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about a hospital's cluster leaves it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of what it will do in this case
    "RAY_DEDUP_LOGS": "0",
}


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to."""

    where: str
    """As messages call it."""

    def n_workers(self, share: Share) -> int:
        """Workers that fit its machines.

        Raises:
            OptionError: if none does.
        """
        ray = ray_module()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        found = sum(_fitting(node, share) for node in nodes)
        if not found:
            wanted = counted(share.cpus, "core") + (f" and {counted(share.gpus, 'GPU')}" if share.gpus else "")
            largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            raise OptionError(
                f"no machine of {self.where} has {wanted} for a worker; the largest has {counted(largest, 'core')}; "
                "pass " + parameter("ray_cpus", max(1, largest)) + " or fewer"
            )
        return found

    def share_of(self, runtime: Runtime) -> tuple[Share, Runtime]:
        """What each worker gets, and how it computes: on a GPU of its own where GPUs are wanted, or there are any."""
        n_gpus = int(ray_module().cluster_resources().get("GPU", 0))
        has_gpu = runtime.device.startswith("cuda") or (runtime.device == "auto" and n_gpus > 0)
        device = "cuda" if has_gpu else "cpu" if runtime.device == "auto" else runtime.device
        share = Share(cpus=runtime.ray_cpus or 1, gpus=int(has_gpu))
        return share, replace(
            runtime,
            engine=ENGINE,
            ray_address=None,
            ray_cpus=None,
            device=device,
            workers=runtime.workers or share.cpus,
        )

    def work_off(
        self,
        items: Sequence[Item],
        make_tool: Callable[[], Tool[Item, Result]],
        *,
        share: Share,
        named: Callable[[Item], str],
    ) -> Iterator[tuple[int, Result]]:
        """Give every item to a worker, the first ones first, and its result back as soon as it is there.

        Args:
            items: small and picklable.
            make_tool: makes what turns an item into its result, once in each worker; picklable.
            share: what a worker gets.
            named: what an item is called in a message.

        Yields:
            (position, result) of each item once, in the order in which they are done.

        Raises:
            ClusterError: if an item takes down several workers, or no worker comes up.
            Exception: what the tool raises.
        """
        if not items:
            return
        n_workers = min(len(items), self.n_workers(share))
        with Pool(self.where, make_tool, share).of(n_workers) as pool:
            yield from pool.results(items, named)


def check_cluster(runtime: Runtime) -> None:
    """Refuse a cluster that cannot be used, as far as that shows at once, before there is anything to work off.

    Raises:
        EnvironmentMismatchError: if one is asked for, and Ray is not installed.
        OptionError, ClusterError: if the head node does not answer.
    """
    if runtime.engine == ENGINE:
        return
    if find_spec("ray") is None:
        raise EnvironmentMismatchError(NO_RAY)
    address = _address(runtime.ray_address)
    if address is not None:
        _check_reachable(address)


@contextmanager
def cluster(address: str | None = None, *, n_cpus: int | None = None) -> Iterator[Cluster]:
    """Be connected to a cluster: the one at an address or in RAY_ADDRESS, else one of this machine's cores.

    Meanwhile what libraries print goes to stderr: Ray's own processes would print among the results. A local cluster
    ends with the context, and a connection that the program had before is used and stays.

    Args:
        address: `HOST:PORT` of a head node, or `auto`: the cluster that runs on this machine.
        n_cpus: of a local cluster; None: all that this process may use.

    Raises:
        EnvironmentMismatchError: if Ray is not installed.
        ClusterError: if the head node does not answer, or this machine is not in its cluster.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    address = _address(address)
    with ExitStack() as stack:
        stack.enter_context(_stdout_for_results())
        try:
            ray = ray_module()
        except ImportError as error:
            raise EnvironmentMismatchError(NO_RAY) from error
        if address is not None:
            _check_reachable(address)
        if ray.is_initialized():
            yield Cluster("the Ray cluster of this program")
            return
        own = {"num_cpus": n_cpus or available_cores(), "include_dashboard": False, "object_store_memory": STORE_BYTES}
        given = {"address": address} if address else {"address": "local", **own}
        stack.callback(ray.shutdown)
        try:
            ray.init(**given, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
            step = (
                "run this on one of its machines (ray status says whether it is one), or start Ray here as part of it"
            )
            raise ClusterError(f"{where} cannot be used ({first_line(error)}); {step}") from error
        yield Cluster(f"the Ray cluster at {address}" if address else "the Ray cluster of this machine")


def _address(given: str | None) -> str | None:
    """Of a head node; None: a cluster of this machine alone is to be started."""
    return given or os.environ.get("RAY_ADDRESS") or None


def _fitting(node: dict[str, float], share: Share) -> int:
    """Workers that fit a machine."""
    by_cpus = int(node.get("CPU", 0)) // share.cpus
    return min(by_cpus, int(node.get("GPU", 0)) // share.gpus) if share.gpus else by_cpus


def _check_reachable(address: str) -> None:
    """Refuse a head node that does not answer: Ray itself would try for minutes.

    Raises:
        OptionError: if it is no address of a head node.
        ClusterError: if nobody answers there, or something else than Ray.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise OptionError(
            f"{address} is no address of a head node; pass "
            + parameter("ray_address", "HOST:6379")
            + " as ray start prints it"
        )
    step = "; start Ray there, or name another " + parameter("ray_address")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S) as connection:
            connection.sendall(PREFACE + SETTINGS)
            answer = connection.recv(len(SETTINGS))
    except (OSError, OverflowError, UnicodeError) as error:
        raise ClusterError(f"no Ray head node answers at {address} ({first_line(error)})" + step) from error
    if answer[3:4] != SETTINGS[3:4]:
        raise ClusterError(f"what answers at {address} is no Ray head node" + step)


@contextmanager
def _stdout_for_results() -> Iterator[None]:
    """Let what this process and its children write to file 1 go to file 2 meanwhile."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # a program without a stdout
        yield
        return
    try:
        os.dup2(2, 1)
        yield
        with suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
