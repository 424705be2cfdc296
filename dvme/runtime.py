"""How to compute: device, batch size, workers. Nothing here changes a number."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dvme.cores import available_cores
from dvme.defaults import ACCELERATOR_BATCH, CPU_BATCH, DEVICE, ENGINE, ENGINES, MAX_WORKERS
from dvme.errors import OptionError, parameter

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total) as work proceeds."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # glibc, malloc.h
MMAP_THRESHOLDS = (1 << 30, 32 << 20)
"""Bytes; the first one that is taken counts. glibc before 2.35 takes up to 32 MiB."""
CGROUP = Path("/sys/fs/cgroup")
DEVICES = frozenset({"auto", "cpu", "cuda", "hpu", "ipu", "maia", "mps", "mtia", "xla", "xpu"})
"""Kinds that torch knows and computes on; a package may bring further ones (torch.backends)."""
MAC = "darwin"
CPU = parameter("device", "cpu")
SHARE = 0.5
"""Of the free memory, taken by default."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress of a call that nobody watches.

    Example:
        >>> report = dvme.cache.verify("my.zarr", progress=dvme.silent)
    """
    del stage, done, total


def automatic(stage: str, done: int, total: int) -> None:
    """The default of public functions, which show bars in its place in a terminal or a notebook; silent itself."""
    del stage, done, total


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to compute. Nothing here changes a number, so nothing here is in a fingerprint.

    `max_pixels` decides whether an image is decoded at all, never how.

    Example:
        >>> dvme.Runtime(device="cpu", batch_size=8).images_per_batch("cpu")
        8
    """

    device: str = DEVICE
    """A torch device, or `auto`: CUDA if there is one. Extraction uses several, `cuda:0,cuda:1`, at once; all else the
    first."""
    batch_size: int | None = None
    """Images per forward pass; None: 16 on the CPU, 64 elsewhere, and by trial on CUDA for 4,096 images and more."""
    workers: int | None = None
    """Threads that read files, and that decode where the model runs on another device or on several threads; None: one
    per CPU core, at most 16. On the CPU the lanes, one per core, decode by themselves."""
    memory: int | None = None
    """Bytes that embeddings and heads which are trained together may hold; None: half of what is free."""

    engine: str = ENGINE
    """`local`: this process; `ray`: workers on a Ray cluster, where a call can use one."""
    ray_address: str | None = None
    """`HOST:PORT` of a head node, or `auto`; None: RAY_ADDRESS, else a cluster of this machine's cores."""
    ray_cpus: int | None = None
    """Cores and threads of a worker; None: 1. `memory` is then that of each worker."""

    max_pixels: int | None = None
    """The largest image to decode; None: 178,956,970 pixels. A larger one fails, and keeps its reason."""

    def __post_init__(self) -> None:
        """Refuse sizes and devices that cannot be, before torch is imported to look for the device."""
        _check_names(self.device)
        if self.engine not in ENGINES:
            known = " or ".join(ENGINES)
            raise OptionError(f"engine {self.engine!r} is not known; pass " + parameter("engine", known))
        for said, value in (
            (parameter("ray_address", self.ray_address), self.ray_address),
            (parameter("ray_cpus", self.ray_cpus), self.ray_cpus),
        ):
            if value is not None and self.engine == ENGINE:
                message = said + " is for a Ray cluster; pass "
                raise OptionError(message + parameter("engine", ENGINES[-1]) + " as well, or leave it out")
        for least, size, what in (
            (parameter("batch_size", 1), self.batch_size, f"batch size {self.batch_size} is"),
            (parameter("workers", 1), self.workers, f"{self.workers} workers are"),
            (parameter("memory", 1), self.memory, f"{self.memory} bytes of memory are"),
            (parameter("ray_cpus", 1), self.ray_cpus, f"workers of {self.ray_cpus} cores are"),
            (parameter("max_pixels", 1), self.max_pixels, f"images of {self.max_pixels} pixels are"),
        ):
            if size is not None and size < 1:
                raise OptionError(f"{what} not possible; pass " + least + " or more")

    @property
    def n_workers(self) -> int:
        """Decoding threads."""
        return self.workers or min(MAX_WORKERS, available_cores())

    def images_per_batch(self, device: str) -> int:
        """Images per forward pass on a kind of device."""
        if self.batch_size is not None:
            return self.batch_size
        return CPU_BATCH if device == "cpu" else ACCELERATOR_BATCH

    def memory_budget(self, device: str) -> int:
        """Bytes that heads which are trained together may hold on a device."""
        if self.memory is not None:
            return self.memory
        if device.startswith("cuda"):
            import torch

            return int(torch.cuda.mem_get_info(device)[0] * SHARE)
        return int(available_memory() * SHARE)

    def torch_device(self) -> str:
        """The device to use, the first where several are named.

        Raises:
            OptionError: if torch does not know a device or the machine does not have it.
        """
        return self.torch_devices()[0]

    def torch_devices(self) -> list[str]:
        """All devices to use, which only extraction does. Raises as `torch_device`."""
        import torch

        if self.device == "auto":
            return ["cuda" if torch.cuda.is_available() else "cpu"]
        names = self.device.split(",")
        for name in names:
            try:
                torch.zeros(1, device=name).cpu()
            except (RuntimeError, AssertionError, NotImplementedError) as error:
                reason = str(error).splitlines()[0]
                raise OptionError(f"device {name!r} cannot be used ({reason}); try " + CPU) from error
        return names


def _check_names(device: str) -> None:
    """Refuse devices that there are not, or not together, by their names alone."""
    names = device.split(",")
    if len(names) > 1 and "" in names:
        step = "name each device once, as in " + parameter("device", "cuda:0,cuda:1")
        raise OptionError(f"devices {device!r} end or begin with a comma, or have two in a row; " + step)
    for name in names:
        kind, _, number = name.partition(":")
        if kind == "mps" and sys.platform != MAC:
            raise OptionError(f"device {name!r} cannot be used (this is no Mac); try " + CPU)
        is_named = kind in DEVICES and (number.isdecimal() or name == kind)
        if not is_named and not importlib.metadata.entry_points(group="torch.backends"):
            known = ", ".join(sorted(DEVICES))
            raise OptionError(f"device {name!r} cannot be used; try " + CPU + f", or another of {known}")
    kinds = {name.partition(":")[0] for name in names}
    if len(names) > 1 and (len(set(names)) < len(names) or len(kinds) > 1 or not all(":" in name for name in names)):
        message = f"devices {device!r} cannot be used together; name several of one kind by number, such as "
        raise OptionError(message + parameter("device", "cuda:0,cuda:1"))


def kept_folder(name: str) -> Path:
    """Where what can be found again is kept for the user: `$XDG_CACHE_HOME/dvme/NAME`, or `~/.cache/dvme/NAME`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dvme" / name


def download_folder() -> Path:
    """Where torch.hub keeps downloaded checkpoints, found without importing torch; as it does, also without a home."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.path.expanduser(os.environ.get("TORCH_HOME", f"{caches}/torch"))  # noqa: PTH111
    return Path(home) / "hub" / "checkpoints"


def available_memory() -> int:
    """Bytes that this process can take without others being swapped out, or its container being killed."""
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # a container's limit, and what it holds already
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        free.append(max(0, limit - used))
    return min(free)


def resident_memory() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed memory of this process instead of handing it back to the system.

    Every layer frees activations of many megabytes and allocates such again; by default glibc unmaps them
    each time and the system faults zeroed pages in anew, which more than halves the speed of a forward
    pass on the CPU. What the process holds at its peak does not change. Does nothing without glibc.

    To be called before there are threads: those that come later share one heap, for that of a thread of its own is
    unmapped whenever it is empty. Threads that were there before keep their heaps.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # Windows; musl and macOS have no such function
        return
    mallopt(M_ARENA_MAX, 1)
    set_thresholds(mallopt)


def set_thresholds(mallopt: Callable[[int, int], int]) -> bool:
    """Let memory of many megabytes come from the heap, and the heap stay.

    The threshold for trimming is only set beside one for mapping: alone it fixes the latter at its first 128 KiB.
    `mallopt`, of the C library, returns 0 where it refuses a value. Returned is whether anything was set.
    """
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in MMAP_THRESHOLDS) and bool(
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    )
