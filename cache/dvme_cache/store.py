"""The cache's files as a Zarr store: metadata is sealed, and everything small is kept twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import ParamSpec, Self, TypeVar

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from dvme_cache.layout import METADATA, copy_of, is_kept_twice
from dvme_cache.parallel import each, waiting_threads
from dvme_cache.protocol import Files
from dvme_cache.sealing import sealed, sound_file

P = ParamSpec("P")
R = TypeVar("R")


class CacheStore(Store):
    """A Zarr store over a cache's files.

    Every zarr.json is sealed when it is written and checked when it is read. What is small and cannot be
    extracted again (metadata, samples, tables) is written twice, the copy first: where the first is torn,
    flipped or gone, the copy is served. A copy is never older than what it stands in for.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(self, files: Files, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.files = files

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CacheStore) and str(self.files) == str(other.files)

    def __hash__(self) -> int:
        return hash(str(self.files))

    def __str__(self) -> str:
        return str(self.files)

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store, writable or not."""
        return type(self)(self.files, read_only=read_only)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """A file or a part of it, from whichever of its two places is sound."""
        data = await self._answer(sound_file, self.files, key)
        return None if data is None else prototype.buffer.from_bytes(_part(data, byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Parts of files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return await self._answer(sound_file, self.files, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file, whole and durable, or raise and leave the old one."""
        self._check_writable()
        await self._answer(self.save, key, value.to_bytes())

    async def delete(self, key: str) -> None:
        """Remove a file and its copy."""
        self._check_writable()
        for place in _places(key):
            await self._answer(self.files.delete, place)

    async def delete_dir(self, prefix: str) -> None:
        """Remove a folder and its copy."""
        self._check_writable()
        await self._answer(self.delete_tree, prefix)

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        for key in await self._answer(self.files.sizes):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every key that begins with a folder's name."""
        for key in await self._answer(self.files.sizes, prefix.rstrip("/")):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names right below a folder."""
        for name in await self._answer(self.files.names, prefix.rstrip("/")):
            yield name

    async def _answer(self, ask: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
        """What a call says that may wait; of an object store many may."""
        threads = waiting_threads() if self.files.n_readers > 1 else None
        return await asyncio.get_running_loop().run_in_executor(threads, partial(ask, *arguments, **options))

    def delete_tree(self, prefix: str) -> None:
        """Remove a folder and its copy."""
        each(self.files.delete_tree, (prefix, copy_of(prefix)), self.files.n_readers)

    def save(self, key: str, data: bytes) -> None:
        """Write a file, the copy first where it is kept twice."""
        if key.endswith(METADATA):
            data = sealed(key, data)
        for place in reversed(_places(key)):
            self.files.write(place, [data])


def _places(key: str) -> tuple[str, ...]:
    return (key, copy_of(key)) if is_kept_twice(key) else (key,)


def _part(data: bytes, byte_range: ByteRequest | None) -> bytes:
    match byte_range:
        case RangeByteRequest(start=start, end=end):
            return data[start:end]
        case OffsetByteRequest(offset=offset):
            return data[offset:]
        case SuffixByteRequest(suffix=suffix):
            return data[-suffix:]
    return data
