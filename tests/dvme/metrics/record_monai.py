"""What MONAI computes, recorded once in monai.json: run by an interpreter that has MONAI 1.5.2, torch and scipy.

    pip install --no-deps --target FOLDER monai==1.5.2
    PYTHONPATH=FOLDER python tests/dvme/metrics/record_monai.py

dvme is not imported.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice
from scipy.ndimage import gaussian_filter

RECORDED = Path(__file__).with_name("monai.json")
TOLERANCES = (0.0, 1.0, 1.5, 3.0)
SPACINGS = ((1.0, 1.0), (0.5, 2.0))


def of_masks(predicted: Any, truth: Any) -> dict[str, Any]:
    one, two = (torch.from_numpy(mask[None, None].astype(np.float64)) for mask in (predicted, truth))
    settings = {"include_background": True}
    return {
        "predicted": ["".join(map(str, row)) for row in predicted.astype(int).tolist()],
        "truth": ["".join(map(str, row)) for row in truth.astype(int).tolist()],
        "dice": compute_dice(one, two, ignore_empty=False, **settings).item(),
        "iou": compute_iou(one, two, ignore_empty=False, **settings).item(),
        "hausdorff95": [
            compute_hausdorff_distance(one, two, percentile=95, spacing=list(spacing), **settings).item()
            for spacing in SPACINGS
        ],
        "boundary_dice": [
            [
                compute_surface_dice(one, two, class_thresholds=[each], spacing=list(spacing), **settings).item()
                for each in TOLERANCES
            ]
            for spacing in SPACINGS
        ],
    }


def blobs(rng: np.random.Generator, shape: tuple[int, int], above: float) -> Any:
    smooth = gaussian_filter(rng.normal(size=shape), 1.5)
    return smooth > np.quantile(smooth, above)


if __name__ == "__main__":
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
