"""Embedding maps: where the images lie in the plane, side by side for several backbones, and how far to trust it.

- `maps`: one map per embedding, aligned, each with its quality; nothing is computed twice.
- `projection`: the positions of one map by t-SNE, UMAP or PCA.
- `alignment`: turns one map onto another.
- `quality`: what a map keeps of the embedding, and what the embedding itself says about the labels.
- `kept`: the folder of maps that were computed before.
"""

from dvme.maps.alignment import aligned
from dvme.maps.map_store import Kept, default_folder, key_of
from dvme.maps.maps import MIN_ROWS, EmbeddingMap, Source, make_maps
from dvme.maps.projection import METHODS, initial_positions, project
from dvme.maps.quality import MapQuality, measure

__all__ = [
    "METHODS",
    "MIN_ROWS",
    "EmbeddingMap",
    "Kept",
    "MapQuality",
    "Source",
    "aligned",
    "default_folder",
    "initial_positions",
    "key_of",
    "make_maps",
    "measure",
    "project",
]
