"""What can be wrong with a cache. Every error is also a built-in."""


class CacheError(Exception):
    """Base of every error that this package raises on purpose."""


class CacheNotFoundError(CacheError, FileNotFoundError):
    """There is no cache at this place."""


class NotACacheError(CacheError, ValueError):
    """The place holds something else, or a cache of another format version."""


class CacheLockedError(CacheError, RuntimeError):
    """Another process is writing to this cache."""


class CacheAccessError(CacheError, OSError):
    """The place cannot be reached, or it cannot be written to."""


class FingerprintMismatchError(CacheError, ValueError):
    """The cached embeddings were made by something else than what is asked for now."""


class MissingEmbeddingsError(CacheError, LookupError):
    """Rows or backbones are asked for that were never extracted."""


class CorruptCacheError(CacheError, RuntimeError):
    """Stored bytes fail their checksum, or committed rows are gone."""
