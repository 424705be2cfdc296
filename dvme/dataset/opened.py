"""`dvme.open`: a cache to look at, to learn from, and to take elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvme.dataset.rows import Rows
from dvme.places import open_cache

if TYPE_CHECKING:
    import anndata
    import datasets

    from dvme.dataset.torch_rows import EmbeddingDataset


def open(cache: str | Path) -> OpenCache:  # noqa: A001 - what h5py, zarr and Pillow call it
    """Open a cache to look at: its labels, groups and paths, and its embeddings, which are read where they are used.

    Args:
        cache: path or URL.

    Raises:
        OptionError, CacheError: if there is no cache.

    Example:
        >>> data = dvme.open("my.zarr")
        >>> data.backbones, data["dino"].shape, data.labels[0]
        (('dino', 'efficientnet-lite0'), (40, 8), 'dark')
    """
    return OpenCache.of(open_cache(cache))


class OpenCache(Rows):
    """The images of a cache beside their embeddings; `Rows` has what there is to look at."""

    def torch(self, backbones: str | Sequence[str], **options: Any) -> EmbeddingDataset:
        """A data set of torch: embeddings and classes of the images. `EmbeddingDataset` has the options."""
        from dvme.dataset.torch_rows import EmbeddingDataset

        return EmbeddingDataset(self, backbones, **options)

    def to_anndata(self, backbones: str | Sequence[str] | None = None) -> anndata.AnnData:
        """The images that have all of these embeddings, for scanpy and its kin.

        Args:
            backbones: of one they are `X`, of several each is in `obsm` by its name; None: all of the cache.

        Raises:
            EnvironmentMismatchError: if the package is not installed, with the command that brings it.
        """
        from dvme.dataset.handing_over import as_anndata

        return as_anndata(self, self.named(backbones))

    def to_datasets(self, backbones: str | Sequence[str] | None = None) -> datasets.Dataset:
        """The images that have all of these embeddings, as a data set of Hugging Face, a column for each backbone.

        Args:
            backbones: None: all of the cache.

        Raises:
            EnvironmentMismatchError: if the package is not installed, with the command that brings it.
        """
        from dvme.dataset.handing_over import as_datasets

        return as_datasets(self, self.named(backbones))
