"""What MONAI computes, recorded once in monai.json: run by an interpreter that has MONAI 1.6.1, torch and scipy.

    pip install --no-deps --target FOLDER monai==1.6.1
    PYTHONPATH=FOLDER python tests/dvme/metrics/record_monai.py

MONAI rounds to float32. A score that is a ratio of counts is recorded as the ratio that it rounds, and distances, which
are roots of whole numbers of quarters here, as the roots that it rounds. dvme is not imported.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice
from monai.metrics.utils import get_edge_surface_distance
from scipy.ndimage import gaussian_filter

RECORDED = Path(__file__).with_name("monai.json")
TOLERANCES = (0.0, 1.0, 1.5, 3.0)
SPACINGS = ((1.0, 1.0), (0.5, 2.0))
ROUNDED = 1e-6
QUARTER = 0.25


def ratio(score: float, whole: int) -> float:
    """The ratio to a whole number that was rounded; a score without such is as it is."""
    exact = round(score * whole) / whole if whole else score
    assert np.isclose(exact, score, rtol=0, atol=ROUNDED, equal_nan=True)
    return exact


def distances(one: torch.Tensor, two: torch.Tensor, spacing: tuple[float, float]) -> list[Any]:
    """Both ways between outlines, exactly."""
    found = get_edge_surface_distance(one[0, 0], two[0, 0], spacing=list(spacing), symmetric=True)[1]
    exact = []
    for way in found:
        own = way.double().numpy()
        roots = np.where(np.isinf(own), np.inf, np.sqrt(np.round(own**2 / QUARTER) * QUARTER))
        assert np.allclose(roots, own, rtol=0, atol=ROUNDED)
        exact.append(roots)
    return exact


def of_spacing(one: torch.Tensor, two: torch.Tensor, spacing: tuple[float, float]) -> dict[str, Any]:
    settings: dict[str, Any] = {"include_background": True, "spacing": list(spacing)}
    ways = distances(one, two, spacing)
    # Of infinite distances, where one mask is empty, the percentile is inf - inf = nan, and the largest inf.
    is_finite = all(np.isfinite(way).all() for way in ways)
    far = compute_hausdorff_distance(one, two, percentile=95 if is_finite else None, **settings).item()
    exact = max(float(np.quantile(way, 0.95)) for way in ways) if is_finite and all(map(len, ways)) else far
    assert np.isclose(exact, far, rtol=0, atol=1e-5, equal_nan=True)
    shares = [compute_surface_dice(one, two, class_thresholds=[each], **settings).item() for each in TOLERANCES]
    return {"hausdorff95": exact, "boundary_dice": [ratio(share, sum(map(len, ways))) for share in shares]}


def of_masks(predicted: Any, truth: Any) -> dict[str, Any]:
    one, two = (torch.from_numpy(mask[None, None].astype(np.float64)) for mask in (predicted, truth))
    settings: dict[str, Any] = {"include_background": True, "ignore_empty": False}
    both = int(predicted.sum() + truth.sum())
    return {
        "predicted": ["".join(map(str, row)) for row in predicted.astype(int).tolist()],
        "truth": ["".join(map(str, row)) for row in truth.astype(int).tolist()],
        "dice": ratio(compute_dice(one, two, **settings).item(), both),
        "iou": ratio(compute_iou(one, two, **settings).item(), int((predicted | truth).sum())),
        "by_spacing": [of_spacing(one, two, spacing) for spacing in SPACINGS],
    }


def blobs(rng: np.random.Generator, shape: tuple[int, int], above: float) -> Any:
    smooth = gaussian_filter(rng.normal(size=shape), 1.5)
    return smooth > np.quantile(smooth, above)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of empty masks
    rng = np.random.default_rng(0)
    nothing, everything = np.zeros((9, 11), dtype=bool), np.ones((9, 11), dtype=bool)
    dot = nothing.copy()
    dot[0, 10] = True
    pairs = [(nothing, nothing), (dot, nothing), (nothing, dot), (dot, everything), (everything, everything)]
    pairs += [(rng.random((6, 7)) < 0.4, rng.random((6, 7)) < 0.4) for _ in range(6)]
    pairs += [(blobs(rng, (16, 23), 0.8), blobs(rng, (16, 23), 0.7)) for _ in range(6)]
    recorded = {
        "version": monai.__version__,
        "tolerances": TOLERANCES,
        "spacings": SPACINGS,
        "cases": [of_masks(*pair) for pair in pairs],
    }
    RECORDED.write_text(json.dumps(recorded) + "\n")
