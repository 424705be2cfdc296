"""Embeddings on disk: extracted once, checksummed, resumed row by row. Knows nothing of torch."""

from dvme_cache.cache import EmbeddingCache, count_states
from dvme_cache.embeddings import Embeddings
from dvme_cache.errors import (
    CacheError,
    CacheLockedError,
    CacheNotFoundError,
    CorruptCacheError,
    FingerprintMismatchError,
    MissingEmbeddingsError,
    NotACacheError,
)
from dvme_cache.fingerprint import Fingerprint
from dvme_cache.identity import content_id, unreadable_id
from dvme_cache.layout import RowState
from dvme_cache.tables import MISSING

__all__ = [
    "MISSING",
    "CacheError",
    "CacheLockedError",
    "CacheNotFoundError",
    "CorruptCacheError",
    "EmbeddingCache",
    "Embeddings",
    "Fingerprint",
    "FingerprintMismatchError",
    "MissingEmbeddingsError",
    "NotACacheError",
    "RowState",
    "content_id",
    "count_states",
    "unreadable_id",
]
