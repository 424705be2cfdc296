"""Every default that the command line shows, once: signatures, options classes and --help take it from here."""

from __future__ import annotations

from typing import Final

PROBE_HEADS: Final = ("linear", "knn")
SWEEP_HEADS: Final = (*PROBE_HEADS, "dvme")
METRIC: Final = "auc"
SIZES: Final = ("50", "100", "200", "500", "full")
N_FOLDS: Final = 5
N_REPEATS: Final = 1
BALANCE: Final = "balanced"
VALIDATION: Final = "matched"
NEAR_DUPLICATES: Final = "auto"
TEST_FRACTION: Final = 0.2
SEED: Final = 0
UNCERTAIN: Final = "ignore"
BLANK: Final = "ignore"
JOIN: Final = "mean"
CONFLICTS: Final = "any"
AT: Final = "specificity=0.9"
"""What the operating point of a finding reaches on validation."""
NO_FINDING: Final = "No Finding"
"""What tables call an image without any finding."""

NA_VALUES: Final = (
    *("NA", "N/A", "n/a", "#N/A", "#NA", "<NA>"),
    *("nan", "NaN", "NAN", "-nan", "NaT", "None", "NULL", "null", "nil"),
)
"""What programs write into a cell that has no value, spelled as they do; `none` is what people call a class."""

ADAPT_EPOCHS: Final = {"simclr": 100, "micle": 100, "gmml": 100, "supervised": 30}
"""By method: Chen et al. 2020, appendix B.9; of labels what suffices for some hundred to some thousand images."""
ADAPT_BATCH: Final = {"simclr": 128, "micle": 128, "gmml": 64, "supervised": 32}

VIEWS: Final = 1
"""Of each image: the plain one alone."""
VIEWS_USED: Final = "none"
"""By a study, beside the plain one."""

DEVICE: Final = "auto"
ENGINE: Final = "local"
ENGINES: Final = (ENGINE, "ray")
DTYPE: Final = "float32"
DENSE_DTYPE: Final = "float16"
"""How one vector an image is stored, and how the vectors of its tokens are."""
PRECISION: Final = "float32"
"""What a backbone computes in."""
CPU_BATCH: Final = 16
ACCELERATOR_BATCH: Final = 64
"""Images per forward pass."""
MAX_WORKERS: Final = 16
"""Decoding threads, where there are as many cores."""
MAX_PIXELS: Final = 178_956_970
"""Of an image: twice Pillow's own threshold, from where it refuses an image."""
IMAGES_COMPARED: Final = 32
"""Embedded again by `dvme cache verify --images`."""

MAPS: Final = ("tsne",)
FIGURE_KIND: Final = "svg"

DEMO_FOLDER: Final = "dvme-demo"
DEMO_IMAGES: Final = "800"
