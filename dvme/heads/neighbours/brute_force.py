"""All similarities of queries and a bank, and the largest of them, by FAISS on the CPU or on a GPU."""

from __future__ import annotations

from functools import cache
from typing import Any

from numpy.typing import NDArray

from dvme.runtime import Runtime

GPU_NEIGHBOURS = 2048
"""The deepest search that FAISS offers on a GPU."""


@cache
def faiss_module() -> Any:
    """FAISS, once the installation is known to be sound; that takes longer than a small search."""
    from dvme.environment import check_single_faiss

    check_single_faiss()
    import faiss

    return faiss


def search_device(runtime: Runtime) -> str:
    """The GPU where FAISS can use it, else `cpu`."""
    device = runtime.torch_device() if hasattr(faiss_module(), "StandardGpuResources") else "cpu"
    return device if device.startswith("cuda") else "cpu"


def nearest(
    queries: NDArray[Any], bank: NDArray[Any], k: int, device: str = "cpu"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """(B, k) inner products, descending, and bank indices; equal ones in any order.

    Args:
        queries: (B, D) float32.
        bank: (n, D) float32.
        k: 1 <= k <= n.
        device: `cuda` or `cuda:INDEX`, with faiss-gpu only; else `cpu`.
    """
    faiss = faiss_module()
    metric = faiss.METRIC_INNER_PRODUCT
    if device.startswith("cuda") and k <= GPU_NEIGHBOURS:
        index = int(device.partition(":")[2] or -1)  # -1: the current one
        similarities, neighbours = faiss.knn_gpu(_gpu_resources(), queries, bank, k, metric=metric, device=index)
    else:
        similarities, neighbours = faiss.knn(queries, bank, k, metric=metric)
    return similarities, neighbours


@cache
def _gpu_resources() -> Any:
    """Scratch memory on the GPU, kept between searches."""
    return faiss_module().StandardGpuResources()
