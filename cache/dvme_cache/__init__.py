"""Embeddings on disk: extracted once, checksummed, resumed row by row. Knows nothing of torch.

FORMAT.md describes the bytes. This is why they are as they are.

Commits. Every file is written aside, synced and renamed, and its folder is synced. Four writes are commits, each the
replacement of one file. This is what a crash before the commit leaves:

- rows are appended (attribute `n_rows`): columns longer than `n_rows`, which the next append overwrites;
- columns are replaced (`current`, `columns`, `class_order`): a generation that nobody points to, removed later;
- a backbone comes or goes (`backbones`): a folder that nobody points to, deleted by the next one of that name;
- a shard (its chunk of `state`): features and checksums that no reader returns; what of them proves itself is kept.

Shards. The one writer writes a shard whole, so two writers never meet in one; Zarr loses rows in silence when they do.
A data set has about 256 shards, of 64 to 32,768 rows each: a kill loses well under one per cent of the work, and a
hundred million rows are still thousands of files. `state`, `checksum` and `reason` have the same boundaries, so that
committing a shard rewrites nothing else. When images are added, the last, partial shard is rewritten whole, its old
rows bit by bit. Rows of dense features are long. Their shards hold at most 128 MiB of features, because whoever reads a
shard holds it as a whole. State and reason are those of a backbone, not of an image: a failure can belong to one
backbone (not finite in float16), and it commits with the shard.

Readers need no lock. A row counts once its state is there, and states turn to done after the row and its checksum lie
on disk. A row that is pruned or replaced while it is read fails its proof, is looked up anew, and is then refused.
Columns that are asked for together come from one generation. A backbone's metadata are read again when
`embeddings/zarr.json` is another file (inode, time and size; in an object store tag and date). Where these do not tell
two versions apart, rows that are read by the old layout fail their proofs.

Parts. Part K of N owns the shards s of each backbone with s mod N = K - 1. The one writer looks for all parts. A part
looks for itself and for parts of another total only, as 3/16 and 2/8 may own the same shards. Parts wait for parts that
are beginning, whose lock says so. A lock that names another writer is believed after it has said the same for 5 s: its
next holder may be about to write who it is. Rows may be added while parts work. A part goes on with the N that it began
with: of a chunk of its own that has grown since, it writes the rows that it knows and keeps the others. New rows in the
shards of such a part stay pending until it is run again, and it says so. What a part holds in memory is never read
again, so labels are those of the part that began last. The owner of a shard salvages it, takes over embeddings and
removes leftovers. A part never prunes.

Object stores take tens of milliseconds for an answer, to one question or to sixty-four. A place says how many files to
read at a time (`Files.n_readers`: 1 in a folder, 64 in a store) and how many shards to commit (`n_writers`: 2 and 16).
Features and checksums of a shard are two requests at once. A range is one request, which also tells where the object
ends. A commit writes features, checksums and reasons at once, and the states after them. Fewer parts are read at a time
where more than 256 MiB would be on their way. A new backbone takes about 25 answers, one after another. The lock is a
lease, renewed every 20 s.

Verification cannot see a shard of which all files are gone, the states above all. Those rows are pending, as if they
were never extracted; `verify` says how many there are. Numbers that were wrong when they were committed pass every
checksum. `verify --images` finds them: it embeds random images again, and allows 1e-3 of the largest element. Repair
never touches foreign files. `dvme extract` checks every committed shard before it counts it as reused.

Pruning. A pruned row keeps its number, so that nothing that refers to rows has to change. Everything else of it is
overwritten, in every generation of the columns. The space of its row stays.
"""

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
