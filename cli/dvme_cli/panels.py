"""Which options stand together in `--help`: a table of panels, by the parameters of the commands."""

from __future__ import annotations

from collections.abc import Mapping

FEW = 9
"""Options up to which a command has one panel for all."""
ARGUMENTS, REQUIRED, OPTIONS, COMMANDS = "Arguments", "Required", "Options", "Commands"

PANELS: Mapping[str, tuple[str, ...]] = {
    "Backbones": (
        *("extract backbones", "predict backbones", "architectures", "weights", "pool", "extract views", "dense"),
        *("layers", "precision", "dtype"),
    ),
    "What is compared": ("heads", "backbones", "head", "controls", "views"),
    "Training": (
        *("without_test", "transductive", "augment", "epochs", "adapt batch_size", "learning_rate", "temperature"),
        *("random_weights", "adapt seed"),
    ),
    "What is shown": (
        *("methods", "report seed", "viz seed", "finding", "thumbnails", "anonymous", "published", "report cache"),
    ),
    "Subsets and folds": (
        *("subsets", "sizes", "n_folds", "n_repeats", "balance", "validation", "oversample", "test_fraction", "seed"),
        *("drop_duplicates", "near_duplicates", "uncertain", "blank", "masks"),
    ),
    "Scores": ("metric", "by", "per", "join", "conflicts", "at", "prevalence", "boundary"),
    "Other sites": ("test", "label_map", "score"),
    "Table": (
        *("features", "ids", "table", "image", "label", "label_separator", "no_finding", "split", "group", "keep"),
        *("na_values", "image_root", "images", "skip_missing", "class_order"),
    ),
    "What the embeddings are": ("backbone", "made_by", "like", "notes", "import dtype"),
    "Masks": ("mask", "mask_classes", "mask_void", "mask_encoding"),
    "DICOM": ("dicom", "plain_ids", "frame", "voi"),
    "Pixels": ("image_size", "in_chans", "preprocess", "range_", "bits", "draft", "max_pixels"),
    "What is computed": (
        *("plan", "replace", "retry_failed", "rows_per_shard", "part", "wait", "trust_mtime", "predict cache"),
    ),
    "Computing": ("engine", "ray_address", "ray_cpus", "device", "batch_size", "workers", "memory"),
    "Output": ("out", "save", "submission", "figures", "figure_kind", "force", "json", "help"),
}
"""Title to parameters; `adapt seed` is that of one command. An option that is nowhere here stands under OPTIONS."""
_TITLES = {name: title for title, names in PANELS.items() for name in names}


def panel_of(command: str, parameter: str) -> str:
    """The title over an option.

    Args:
        command: its last word, such as `import` of `dvme cache import`.
        parameter: as its function has it.
    """
    return _TITLES.get(f"{command} {parameter}") or _TITLES.get(parameter, OPTIONS)
