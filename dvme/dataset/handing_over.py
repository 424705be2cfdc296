"""Embeddings and columns of a cache as other packages have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvme.data import MISSING, Task
from dvme.errors import DataError, EnvironmentMismatchError

if TYPE_CHECKING:
    import anndata
    import datasets

    from dvme.dataset.rows import Rows


def as_anndata(data: Rows, backbones: Sequence[str]) -> anndata.AnnData:
    """See `OpenCache.to_anndata`. Names of observations are those of the images, or rows where these are not unique."""
    import pandas as pd

    package = needed("anndata")
    some = data.complete(backbones)
    is_unique = len(set(some.images.tolist())) == len(some)
    index = some.images.tolist() if is_unique else [f"{row}" for row in some.rows]
    table = pd.DataFrame(_of_images(some), index=pd.Index(index, dtype=object))
    features = {name: np.asarray(some[name], dtype=np.float32) for name in backbones}
    made = [some.store.embeddings(name).fingerprint.digest for name in backbones]
    told = {"cache": some.location, "backbones": list(backbones), "fingerprints": made}
    if len(features) == 1:
        return package.AnnData(X=next(iter(features.values())), obs=table, uns={"dvme": told})
    keys = {name: name.replace("/", "_") for name in features}  # a slash is a folder in HDF5
    _refuse_one_name_twice([*keys.values()])
    return package.AnnData(obs=table, obsm={keys[name]: own for name, own in features.items()}, uns={"dvme": told})


def as_datasets(data: Rows, backbones: Sequence[str]) -> datasets.Dataset:
    """See `OpenCache.to_datasets`. Where an image has one class `label` is a `ClassLabel` of those of the cache."""
    package = needed("datasets")
    import pyarrow as pa

    some, text = data.complete(backbones), package.Value("string")
    known = _of_images(some)
    _refuse_one_name_twice([*known, *backbones])
    columns = {name: pa.array([value or None for value in values], pa.string()) for name, values in known.items()}
    kinds = dict.fromkeys(columns, text)
    task = Task.from_labels(data.every["label"], data.class_order)  # of the whole cache, so that parts agree on it
    if task.classes and not task.is_multilabel:
        codes = task.encode(some.labels)
        columns["label"] = pa.array(codes, pa.int64(), mask=some.labels == MISSING)
        kinds["label"] = package.ClassLabel(names=list(task.classes))
    for name in backbones:
        values = np.asarray(some[name], dtype=np.float32)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        kinds[name] = package.Sequence(package.Value("float32"), length=values.shape[1])
    return package.Dataset(pa.table(columns), info=package.DatasetInfo(features=package.Features(kinds)))


def _of_images(data: Rows) -> dict[str, NDArray[Any]]:
    """See `Rows.of_images`; a column of the cache by the name of one of dvme's is refused."""
    _refuse_one_name_twice(["image", "path", *data.columns])
    return data.of_images


def _refuse_one_name_twice(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"two columns would be called {twice[0]!r}; choose other backbones, or take arrays")


def needed(package: str) -> Any:
    """A package that only this needs.

    Raises:
        EnvironmentMismatchError: if it is not installed, with the command that brings it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise EnvironmentMismatchError(f"this needs the package {package}: pip install {package}") from error
