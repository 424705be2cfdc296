"""Fitted heads as folders: `head.json` says what it is, `weights.safetensors` holds what it learned.

A backbone that was trained with a fold's head lies beside them; see `dvme.heads.tuned.kept`.

One folder is one method: the heads of all folds, which predict together by their mean probability.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from dvme.errors import DataError
from dvme.files import file_digest, new_folder, whole
from dvme.heads import Head, fitted_class, head_of, segments, written
from dvme.heads.saved_head import SavedFold, SavedHead, subset_hash
from dvme.heads.saved_views import SavedViews
from dvme.heads.tuned.kept import OwnBackbone
from dvme.json_values import as_json, plain, rebuilt
from dvme_cache import Fingerprint

FORMATS = FORMAT, MULTILABEL_FORMAT, VIEWS_FORMAT, TUNED_FORMAT, SEGMENT_FORMAT, LISTED_FORMAT = 2, 3, 4, 5, 6, 7
"""Those after the first of heads of several labels, of heads that learned from views, of heads with backbones of
their own, of heads that segment, and of a `knn` with inverted lists: what reads earlier ones alone would get their
probabilities wrong, or not read them."""
DESCRIPTION, WEIGHTS = "head.json", "weights.safetensors"
TRAIN_IDS, VALIDATION_IDS = "train_ids", "validation_ids"
LONGEST_NAME = 200
"""Bytes of a folder's name: file systems take 255, and something is put before and after it while it is written."""


def folder_name(head: str, backbones: Sequence[str]) -> str:
    """What the folder of a head is called: valid on every file system, another for every head and backbones.

    What file systems or shells may not take is written as in URLs: `linear--hf-hub%3Aorg%2Fname@size=448`.
    """
    name = f"{quote(head, safe='@=')}--{'+'.join(quote(backbone, safe='@=') for backbone in backbones)}"
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    return f"{name[: LONGEST_NAME - len(digest) - 1]}~{digest}"


def save_head(folder: str | Path, saved: SavedHead, *, force: bool = False, is_durable: bool = True) -> Path:
    """Write a head, whole or not at all.

    Args:
        folder: becomes the head's folder; its parents are made.
        saved: what to write.
        force: replace a folder that is there.
        is_durable: whether a power cut may not tear it.

    Raises:
        OptionError: if the folder is there and not empty.
    """
    from safetensors.numpy import save_file

    with new_folder(folder, force=force, is_durable=is_durable) as aside:
        save_file(_arrays(saved), os.fspath(aside / WEIGHTS))
        for number, own in enumerate(saved.own_backbones, start=1):
            own.write(aside, number)
        described = plain(_description(saved) | {"weights_digest": file_digest(aside / WEIGHTS)})
        sealed = described | {"digest": content_digest(described)}
        (aside / DESCRIPTION).write_text(as_json(sealed, indent=2) + "\n")
    return Path(folder)


@dataclass(frozen=True)
class Kinds:
    """How the heads in a folder are built again."""

    fitted_class: Callable[[str], Any]
    """By the name of the head, what has `restored`."""
    head_of: Callable[[str, Mapping[str, Any]], Head]
    """By its name and settings."""
    check: Callable[[Path, SavedHead], None]
    """Refuses what contradicts its description."""


def load_head(folder: str | Path, kinds: Kinds | None = None) -> SavedHead:
    """Read a head back.

    Args:
        folder: of the head.
        kinds: those that are known; None: those that classify images.

    Raises:
        DataError: if the folder is not a head, is torn or was changed, or is of another dvme; or if it segments images,
            and only those that classify them are known.
    """
    from safetensors import SafetensorError

    path = whole(folder)
    if not (path / DESCRIPTION).is_file():
        inside = sorted(entry.parent.name for entry in path.glob(f"*/{DESCRIPTION}"))
        step = f"it holds {', '.join(inside)}: name one of them" if inside else "dvme probe --save makes heads"
        raise DataError(f"{path} is not a saved head; {step}")
    try:
        described = json.loads((path / DESCRIPTION).read_text())
        _check_description(path, described)
        if kinds is None and segments(described["head"]):
            raise DataError(_no_classifier(path, described["head"]))
        known = kinds or Kinds(fitted_class, head_of, check_answer)
        saved = _restored(path, described, known)
        known.check(path, saved)
    except (OSError, LookupError, TypeError, AttributeError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read as a head ({error}); it may be torn: save it again") from error
    return saved


def content_digest(described: Mapping[str, Any]) -> str:
    """32 hexadecimal digits of a description, but for its own `digest`: of JSON with sorted keys and no spaces."""
    content = {key: value for key, value in described.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _check_description(path: Path, described: dict[str, Any]) -> None:
    """Refuse what is of another format, was changed, or contradicts itself."""
    if described["format"] not in FORMATS:
        step = "save it again with dvme probe --save" if described["format"] < FORMAT else "update dvme"
        known = f"{FORMATS[0]} to {FORMATS[-1]}"
        raise DataError(f"{path} is of head format {described['format']}, this dvme reads {known}; {step}")
    if content_digest(described) != described["digest"]:
        raise DataError(f"{path} is damaged: its {DESCRIPTION} was changed after it was written; save it again")
    names = [each["name"] for each in described["backbones"]]
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path} names its backbones {', '.join(names) or 'not at all'}; each must be named once")
    if not described["folds"]:
        raise DataError(f"{path} has no folds, and so nothing to predict with; save it again with dvme probe --save")


def head_name(folder: str | Path) -> str:
    """What the head in a folder is called, without a look at what it learned; "" where none can be read."""
    try:
        return str(json.loads((whole(folder) / DESCRIPTION).read_text(encoding="utf-8"))["head"])
    except (OSError, LookupError, TypeError, ValueError):
        return ""


def _no_classifier(path: Path, name: str) -> str:
    return f"{path} is {name}, which makes masks of images and gives them no class; dvme predict writes its masks"


def _restored(path: Path, described: dict[str, Any], kinds: Kinds) -> SavedHead:
    from safetensors.numpy import load_file

    arrays = load_file(os.fspath(path / WEIGHTS))
    _check_same(path, file_digest(path / WEIGHTS), described["weights_digest"])
    fitted = kinds.fitted_class(described["head"])
    folds = []
    for number, fold in enumerate(described["folds"], start=1):
        own = {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith(f"fold-{number}/")}
        train, validation = own.pop(TRAIN_IDS), own.pop(VALIDATION_IDS)
        _check_same(path, subset_hash(train), fold["train_subset"])
        _check_same(path, subset_hash(validation), fold["validation_subset"])
        head = fitted.restored(fold["settings"], own)
        metrics = rebuilt(dict[str, float], fold["test"])
        own_backbone = OwnBackbone.restored(path, number, fold["backbone"]) if "backbone" in fold else None
        folds.append(SavedFold(head, train, validation, fold["seed"], metrics, fold.get("job", ""), own_backbone))
    return SavedHead(
        head=kinds.head_of(described["head"], described["settings"]),
        backbones=tuple(each["name"] for each in described["backbones"]),
        dims=tuple(each["dim"] for each in described["backbones"]),
        fingerprints=tuple(Fingerprint(each["fingerprint"]) for each in described["backbones"]),
        classes=tuple(described["classes"]),
        test_hash=described["test_subset"],
        folds=folds,
        views=SavedViews.restored(described["views"]) if "views" in described else None,
    )


def check_answer(path: Path, saved: SavedHead) -> None:
    """Refuse arrays that tell apart another number of classes than are named, by asking about one made-up image."""
    for fold in saved.folds:
        dims = saved.dims if fold.backbone is None else (fold.backbone.dim,)
        image = [np.ones((1, dim), dtype=np.float32) for dim in dims]
        n_classes = fold.head.predict_proba(image).shape[1]
        if n_classes != len(saved.classes):
            raise DataError(
                f"{path} is damaged: it names {len(saved.classes)} classes, its {WEIGHTS} has {n_classes}; save it "
                "again"
            )


def _arrays(saved: SavedHead) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    for number, fold in enumerate(saved.folds, start=1):
        own = fold.head.arrays() | {TRAIN_IDS: fold.train_ids, VALIDATION_IDS: fold.validation_ids}
        arrays |= {f"fold-{number}/{name}": np.asarray(value, order="C") for name, value in own.items()}
    return arrays


def _description(saved: SavedHead) -> dict[str, Any]:
    parts = zip(saved.backbones, saved.dims, saved.fingerprints, strict=True)
    number = MULTILABEL_FORMAT if saved.is_multilabel else FORMAT
    number = number if saved.views is None else VIEWS_FORMAT
    number = LISTED_FORMAT if any(getattr(fold.head, "is_listed", False) for fold in saved.folds) else number
    own = {} if saved.views is None else {"views": saved.views.described()}
    return own | {
        "format": SEGMENT_FORMAT if segments(saved.name) else TUNED_FORMAT if saved.own_backbones else number,
        "head": saved.name,
        "settings": written(asdict(saved.head)),  # type: ignore[call-overload]
        "backbones": [
            {"name": name, "dim": dim, "digest": fingerprint.digest, "fingerprint": dict(fingerprint.fields)}
            for name, dim, fingerprint in parts
        ],
        "classes": list(saved.classes),
        "test_subset": saved.test_hash,
        "folds": [
            {
                "settings": fold.head.settings(),
                "seed": fold.seed,
                "n_train": len(fold.train_ids),
                "train_subset": subset_hash(fold.train_ids),
                "n_validation": len(fold.validation_ids),
                "validation_subset": subset_hash(fold.validation_ids),
                "test": fold.metrics,
            }
            | ({"job": fold.job} if fold.job else {})
            | ({} if fold.backbone is None else {"backbone": fold.backbone.described()})
            for fold in saved.folds
        ],
    }


def _check_same(path: Path, found: str, expected: str) -> None:
    if found != expected:
        raise DataError(f"{path} is damaged: its {WEIGHTS} does not belong to its {DESCRIPTION}; save it again")
