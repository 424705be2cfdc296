"""Embeddings on disk: extracted once, checksummed, resumed row by row. Knows nothing of torch."""

from dvme_cache.cache import EmbeddingCache
from dvme_cache.embeddings import Embeddings, count_states
from dvme_cache.errors import (
    CacheAccessError,
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
from dvme_cache.integrity import Finding, check_shard, remains_of, salvage_damaged, salvage_shard
from dvme_cache.layout import FORMAT_VERSION, MAX_SHARD_ROWS, RowState
from dvme_cache.parts import Part, check_unlocked
from dvme_cache.tables import MISSING
from dvme_cache.verification import Repair, Verification, repair_cache, verify_cache

__all__ = [
    "FORMAT_VERSION",
    "MAX_SHARD_ROWS",
    "MISSING",
    "CacheAccessError",
    "CacheError",
    "CacheLockedError",
    "CacheNotFoundError",
    "CorruptCacheError",
    "EmbeddingCache",
    "Embeddings",
    "Finding",
    "Fingerprint",
    "FingerprintMismatchError",
    "MissingEmbeddingsError",
    "NotACacheError",
    "Part",
    "Repair",
    "RowState",
    "Verification",
    "check_shard",
    "check_unlocked",
    "content_id",
    "count_states",
    "remains_of",
    "repair_cache",
    "salvage_damaged",
    "salvage_shard",
    "unreadable_id",
    "verify_cache",
]
