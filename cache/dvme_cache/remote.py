"""A cache in an object store (S3, Google Cloud, Azure), by URL. Needs the extra `remote`.

Credentials and the endpoint come from the environment, as for every tool of the provider: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and so on. An object appears whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dvme_cache.errors import CacheAccessError
from dvme_cache.parallel import each
from dvme_cache.protocol import Run

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
RETRIES, RETRY_FOR = 5, timedelta(seconds=20)
NEAR_BYTES = 1 << 20
"""Between two ranges that are fetched as one."""


class RemoteFiles:
    """Objects below a URL such as `s3://bucket/name.zarr`. An answer takes long, many at a time hardly longer."""

    n_readers, n_writers = 64, 16

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        is_place = parts.scheme in SCHEMES and parts.netloc and parts.path.strip("/")
        if not is_place or parts.query or parts.fragment:
            known = ", ".join(f"{scheme}://bucket/name.zarr" for scheme in SCHEMES)
            raise CacheAccessError(f"{url} is not the URL of a cache; write {known}, or a local path")
        self.store = open_store(self.url)
        self.before_write: list[Callable[[], None]] = []
        """Asked before anything is changed; each raises if it must not be."""

    def __str__(self) -> str:
        return self.url

    def read(self, key: str) -> bytes | None:
        """The whole object, or None where there is none."""
        import obstore

        with access_errors(self.url):
            try:
                return bytes(obstore.get(self.store, key).bytes())
            except FileNotFoundError:
                return None

    def read_into(self, key: str, runs: Sequence[Run]) -> None:
        """Fill every buffer from its place in the object; near ranges are fetched together, others at a time."""

        def fill(near: list[Run]) -> None:
            begin, end = near[0][0], max(start + len(buffer) for start, buffer in near)
            data = self._range(key, begin, end)
            for start, buffer in near:
                buffer[:] = data[start - begin : start - begin + len(buffer)]

        each(fill, _near(runs), self.n_readers)

    def _range(self, key: str, start: int, end: int) -> memoryview:
        """Bytes of an object, by one request.

        Raises:
            FileNotFoundError: there is no such object.
            EOFError: it ends before.
        """
        import obstore
        from obstore.exceptions import BaseError

        with access_errors(self.url):
            try:
                data = memoryview(obstore.get(self.store, key, options={"range": (start, end)}).bytes())
                size = start + len(data)
            except FileNotFoundError:
                raise
            except BaseError:  # of a range that begins behind the end a store says only that it is refused
                size = obstore.head(self.store, key)["size"]
                if size > start:
                    raise
        if size < end:
            raise EOFError(f"{key} ends at byte {size}")
        return data

    def write(self, key: str, parts: Sequence[memoryview | bytes]) -> None:
        """Replace an object by the concatenation of the parts."""
        import obstore

        self._check_lease()
        with access_errors(self.url, is_writing=True):
            obstore.put(self.store, key, b"".join(parts))

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        import obstore

        self._check_lease()
        with access_errors(self.url), suppress(FileNotFoundError):
            obstore.delete(self.store, key)

    def delete_tree(self, prefix: str) -> None:
        """Remove every object below a prefix."""
        each(self.delete, self.sizes(prefix), self.n_readers)

    def stamp(self, key: str) -> object:
        """The object's tag and date; None where there is none."""
        import obstore

        with access_errors(self.url):
            try:
                found = obstore.head(self.store, key)
            except FileNotFoundError:
                return None
        return found["e_tag"], found["last_modified"]

    def _check_lease(self) -> None:
        """A writer that lost one of its leases must not change anything any more."""
        for check in tuple(self.before_write):
            check()

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Key to bytes, of every object below a prefix."""
        import obstore

        with access_errors(self.url):
            pages = obstore.list(self.store, prefix or None)
            return {item["path"]: item["size"] for page in pages for item in page}

    def names(self, prefix: str) -> list[str]:
        """Names of the objects and prefixes right below a prefix."""
        import obstore

        with access_errors(self.url):
            found = obstore.list_with_delimiter(self.store, prefix or None)
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return [path.rstrip("/").rpartition("/")[2] for path in paths]


def _near(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs by their place, those together between which little lies."""
    groups: list[list[Run]] = []
    end = 0
    for start, buffer in sorted(runs, key=lambda run: run[0]):
        if groups and start - end <= NEAR_BYTES:
            groups[-1].append((start, buffer))
        else:
            groups.append([(start, buffer)])
        end = max(end, start + len(buffer))
    return groups


def open_store(url: str) -> ObjectStore:
    """The object store at a URL; a plain http endpoint is allowed where the environment names one.

    Raises:
        CacheAccessError: if the extra is not installed, or the URL is refused.
    """
    try:
        from obstore.store import from_url
    except ImportError as error:
        step = "pip install 'dvme[remote]', or in a clone, without dvme, './cache[remote]'"
        raise CacheAccessError(f"{url} needs obstore: {step}") from error
    endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
    if endpoint and (urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).netloc):
        raise CacheAccessError(f"AWS_ENDPOINT_URL is {endpoint!r}; it begins with http:// or https:// and names a host")
    with access_errors(url):
        return from_url(
            url,
            client_options={"allow_http": endpoint.startswith("http://")},
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_FOR},
        )


@contextmanager
def access_errors(url: str, *, is_writing: bool = False) -> Iterator[None]:
    """Turn what an object store refuses into one line that names the URL.

    Raises:
        CacheAccessError: for everything but the next two.
        FileNotFoundError: of a read, as it is, for the caller to say what was missing.
        AlreadyExistsError, PreconditionError: of a conditional write, as they are.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except FileNotFoundError as error:
        if is_writing:
            raise CacheAccessError(f"{url} cannot be written: there is no such bucket; create it first") from error
        raise
    except (AlreadyExistsError, PreconditionError):
        raise
    except BaseError as error:
        reason = str(error).split("\n")[0].strip()
        message = f"{url} cannot be reached or refuses ({reason}); check the URL, the credentials and the endpoint"
        raise CacheAccessError(message) from error
