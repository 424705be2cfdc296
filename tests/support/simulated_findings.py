"""Heads of known quality on images of patients, who may have several findings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_findings(
    rng: np.random.Generator,
    n_images: tuple[int, ...],
    prevalence: tuple[float, ...],
    *,
    per_patient: int = 1,
    are_views: bool = False,
    shift: float = 1.2,
    n_heads: int = 2,
    unknown: float = 0.0,
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]], NDArray[np.intp], dict[str, NDArray[np.bool_]]]:
    """Truth (N, L), scores of J heads (N, L), patients (N,), and subgroups in which every finding has the same AUC.

    Args:
        rng: what chance is.
        n_images: of each subgroup.
        prevalence: of each finding; a patient's images have the same ones four times in five.
        per_patient: images of a patient, whose scores have half of their noise in common.
        are_views: a patient has images in several subgroups; else in one.
        shift: of the scores of images that have a finding; its AUC is Phi(shift / sqrt(2)).
        n_heads: J; two heads have half of the rest of the noise in common.
        unknown: part of the cells that is nan.
    """
    of_group = np.repeat(np.arange(len(n_images)), n_images)
    n, n_labels = len(of_group), len(prevalence)
    patients = np.arange(n) // per_patient
    if are_views:
        patients = rng.permutation(patients)
    else:
        patients = np.unique(patients * len(n_images) + of_group, return_inverse=True)[1]
    own = rng.random((n, n_labels)) < prevalence
    shared = (rng.random((patients.max() + 1, n_labels)) < prevalence)[patients]
    truth = np.where(rng.random((n, n_labels)) < 0.8, shared, own).astype(np.float64)
    noise = rng.normal(size=(patients.max() + 1, n_labels))[patients] + rng.normal(size=(n, n_labels))
    heads = [shift * truth + noise / 2.0 + rng.normal(size=(n, n_labels)) / np.sqrt(2.0) for _ in range(n_heads)]
    truth[rng.random((n, n_labels)) < unknown] = np.nan
    return truth, heads, patients, {f"group {g}": of_group == g for g in range(len(n_images))}
