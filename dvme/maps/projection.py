"""Points of an embedding in the plane, by t-SNE, UMAP or PCA."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError, MissingPackageError
from dvme.extras import needed, require

METHODS = ("tsne", "umap", "pca")
PERPLEXITY = 30.0
"""Of t-SNE, or a third of the other points where that is less."""
NEIGHBOURS = 15
"""Of UMAP, or all other points where they are fewer."""
COMPONENTS = 50
"""Principal components that t-SNE and UMAP see; the rest is mostly noise, and takes most of the time."""
JITTER = 0.01
"""Of the spread at the start of t-SNE: points that start at the same place would never part."""
TSNE_SPREAD = 1e-4
"""Standard deviation of the first axis at the start of t-SNE (Kobak and Berens 2019)."""
THREADED_ROWS = 1000
"""From so many on t-SNE's threads save more than it takes to wait for them, 750 times and more on a busy machine."""
UMAP_REACH, UMAP_NOISE = 10.0, 1e-4
"""Farthest coordinate at the start of UMAP, and the noise on it, as of its own starts."""
ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Unit rows whose values differ by no more are equal."""
_LIBRARIES = {"tsne": ("openTSNE", "scikit-learn"), "umap": ("umap-learn", "scikit-learn"), "pca": ("scikit-learn",)}
_OF_EXTRAS: dict[str, tuple[str, ...]] = {"tsne": ("openTSNE",), "umap": ("umap",), "pca": ()}


def check_installed(methods: Sequence[str]) -> None:
    """Refuse methods whose packages are missing, before anything is computed.

    Raises:
        MissingPackageError: with the command that installs the first of them.
    """
    require(*(module for method in methods for module in _OF_EXTRAS[method]))


def missing_package(method: str) -> str:
    """What a map needs that is not installed, with the command that brings it; "" where nothing is missing."""
    try:
        check_installed((method,))
    except MissingPackageError as error:
        return f"{error}"
    return ""


def initial_positions(unit: NDArray[Any], seed: int) -> NDArray[Any]:
    """(N, 2) float64 first two principal components of (N, D) L2-normalised rows; every map may start from them."""
    return _principal(unit, 2, seed).astype(np.float64)


def project(unit: NDArray[Any], method: str, *, initial: NDArray[Any] | None, seed: int) -> NDArray[Any]:
    """Place rows in the plane. The same arguments give the same positions, to the bit, on the same machine.

    Args:
        unit: (N, D) float32, L2-normalised, so that Euclidean neighbours are cosine neighbours; N >= 5.
        method: one of METHODS.
        initial: (N, 2) where t-SNE and UMAP start from, in any scale; PCA does without.
        seed: of everything that is drawn.

    Returns:
        (N, 2) float32.

    Source: van der Maaten and Hinton 2008 (t-SNE); McInnes et al. 2018 (UMAP).
    """
    if method == "pca":
        return _principal(unit, 2, seed).astype(np.float32)
    assert initial is not None
    reduced = _principal(unit, COMPONENTS, seed)
    if method == "tsne":
        return np.array(tsne_layout(reduced, initial, seed), dtype=np.float32)
    return np.asarray(umap_layout(reduced, initial, seed).embedding_, dtype=np.float32)


def refuse_equal(unit: NDArray[Any], name: str, n_rows: int) -> None:
    """Raise DataError if all N rows of an embedding are equal up to rounding.

    Args:
        unit: (N, D) rows, or (2, D) their least and largest values.
        name: of the embedding.
        n_rows: N.
    """
    if np.ptp(unit, axis=0).max() <= ROUNDING:
        raise DataError(f"all {n_rows} {name} embeddings are equal; there is nothing to map")


def settings(method: str) -> dict[str, Any]:
    """What determines a map besides its rows, start and seed: parameters and the libraries' versions."""
    parameters: dict[str, dict[str, Any]] = {
        "tsne": {"perplexity": PERPLEXITY, "components": COMPONENTS, "jitter": JITTER, "spread": TSNE_SPREAD},
        "umap": {"neighbours": NEIGHBOURS, "components": COMPONENTS, "reach": UMAP_REACH, "noise": UMAP_NOISE},
        "pca": {},
    }
    return parameters[method] | {library: version(library) for library in _LIBRARIES[method]}


def _principal(unit: NDArray[Any], n_components: int, seed: int) -> NDArray[Any]:
    """(N, K) scores on the first components, at least two columns; a component that does not exist is 0.

    scikit-learn takes a randomised solver where few components of many are asked for.
    """
    from sklearn.decomposition import PCA

    scores = PCA(min(n_components, *unit.shape), random_state=seed).fit_transform(unit)
    missing = max(0, 2 - scores.shape[1])
    return np.pad(scores, ((0, 0), (0, missing)))


def tsne_layout(reduced: NDArray[Any], initial: NDArray[Any], seed: int) -> Any:
    """The `openTSNE.TSNEEmbedding` of (N, K) rows from an (N, 2) start in any scale.

    Neighbours are exact; gradients are by Barnes-Hut below 10,000 rows, by interpolation above. Each thread writes the
    gradients of its own points and sums are taken by one, so that the number of threads changes nothing.
    """
    opentsne = needed("openTSNE")
    rng = np.random.default_rng(seed)
    start = initial - initial.mean(axis=0)
    start = start / (start[:, 0].std() or 1.0) * TSNE_SPREAD
    start += rng.normal(scale=JITTER * TSNE_SPREAD, size=start.shape)
    # As TSNE(neighbors="exact") does itself, which imports pynndescent first: that takes longer than most maps.
    perplexity = min(PERPLEXITY, (len(reduced) - 1) / 3)
    k = min(len(reduced) - 1, int(3 * perplexity))
    n_jobs = -1 if len(reduced) >= THREADED_ROWS else 1
    nearest = needed("openTSNE.nearest_neighbors").Sklearn(
        data=reduced, k=k, metric="euclidean", n_jobs=n_jobs, random_state=seed
    )
    affinities = needed("openTSNE.affinity").MultiscaleMixture(
        perplexities=perplexity, knn_index=nearest, n_jobs=n_jobs, random_state=seed
    )
    method = opentsne.TSNE(initialization=start, n_jobs=n_jobs, random_state=seed)
    return method.fit(affinities=affinities)


def umap_layout(reduced: NDArray[Any], initial: NDArray[Any], seed: int) -> Any:
    """The fitted `umap.UMAP` of (N, K) rows from an (N, 2) start in any scale; one thread, as a seed demands of it."""
    rng = np.random.default_rng(seed)
    start = initial - initial.mean(axis=0)
    start = start * (UMAP_REACH / (np.abs(start).max() or 1.0)) + rng.normal(scale=UMAP_NOISE, size=start.shape)
    with warnings.catch_warnings(action="ignore"):  # that TensorFlow is absent, and that all points are neighbours
        umap = needed("umap")
        neighbours = min(NEIGHBOURS, len(reduced) - 1)
        method = umap.UMAP(
            n_neighbors=neighbours, init=start.astype(np.float32), random_state=seed, transform_seed=seed, n_jobs=1
        )
        return method.fit(reduced)
