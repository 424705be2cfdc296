"""Caches of a few rows, whose values follow from the row's index, ways to break them, and an object store."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvme_cache import EmbeddingCache, Fingerprint, content_id, samples, tables, verification

Features = Callable[..., NDArray[Any]]
Ids = Callable[[Sequence[int] | range], list[bytes]]
MakeCache = Callable[..., Path]
Spawn = Callable[..., "subprocess.Popen[str]"]
FailFsync = Callable[[int], AbstractContextManager[None]]


MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder in memory, where the system has one: these tests make tens of thousands of small files."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="dvme-tests-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def tmp_path(scratch: Path) -> Iterator[Path]:
    """As pytest's, below `scratch`, and gone after the test."""
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the disk: a busy one makes these tests minutes. test_files.py checks that syncs are real."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session", autouse=True)
def small_chunks() -> Iterator[None]:
    """Samples and columns in chunks of 100 rows: padding to 262,144 takes most of the time, and hides bugs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (samples, tables, verification):
            patch.setattr(module, "ROWS_PER_SAMPLE_CHUNK", 100)
        yield


@pytest.fixture(scope="session")
def fingerprint() -> Fingerprint:
    """What every cache of these tests was made by."""
    return Fingerprint({"weights": "abc", "size": 224})


@pytest.fixture(scope="session")
def ids() -> Ids:
    """The content ids of images numbered by integers."""
    return lambda numbers: [content_id(f"image {number}".encode()) for number in numbers]


@pytest.fixture(scope="session")
def features_of() -> Features:
    """(B, dim) features that depend on the row alone, so that any writer of a row writes the same bits."""

    def features(rows: Sequence[int] | NDArray[Any], dim: int = 3, dtype: str = "float32") -> NDArray[Any]:
        table = np.array([[1 + int(row) + axis / 7 for axis in range(dim)] for row in rows])
        return table.astype(dtype).reshape(-1, dim)

    return features


@pytest.fixture
def make_cache(tmp_path: Path, ids: Ids, fingerprint: Fingerprint) -> MakeCache:
    """A cache of n_rows samples with empty embeddings of each named backbone."""

    def make(n_rows: int, *backbones: str, dim: int = 3, dtype: str = "float32", name: str = "data.zarr") -> Path:
        path = tmp_path / name
        with EmbeddingCache.writing(path) as cache:
            cache.samples.add(ids(range(n_rows)), [f"{row}.png" for row in range(n_rows)])
            for backbone in backbones:
                cache.ensure_embeddings(backbone, fingerprint, dim=dim, dtype=dtype, provenance={"device": "cpu"})
        return path

    return make


@pytest.fixture(scope="session")
def fill(ids: Ids, features_of: Features, fingerprint: Fingerprint) -> Callable[[Path | str], None]:
    """Write what `full` holds to a path or URL: 130 rows, labels, backbone m in 3 shards of which row 100 failed."""

    def write(location: Path | str) -> None:
        with EmbeddingCache.writing(location) as cache:
            cache.samples.add(ids(range(130)), [f"{row}.png" for row in range(130)])
            cache.update_columns(np.arange(130), {"label": ["cat"] * 130})
            embeddings = cache.ensure_embeddings("m", fingerprint, dim=3, dtype="float32", provenance={})
            for rows in embeddings.pending_shards():
                embeddings.commit(rows, features_of(rows), {100: "broken"} if 100 in rows else {})

    return write


@pytest.fixture(scope="session")
def full_once(scratch: Path, fill: Callable[[Path | str], None]) -> Path:
    """The cache that `full` copies."""
    path = scratch / "full" / "data.zarr"
    fill(path)
    return path


@pytest.fixture
def full(tmp_path: Path, full_once: Path) -> Path:
    """130 rows in shards of 64, 64 and 2; row 100 failed; every label is "cat"."""
    return Path(shutil.copytree(full_once, tmp_path / "data.zarr"))


@pytest.fixture
def fail_fsync(monkeypatch: pytest.MonkeyPatch) -> FailFsync:
    """Make the n-th fsync, counted from one, fail as it does on a full disk, and those before do nothing."""

    @contextmanager
    def fail(at: int) -> Iterator[None]:
        calls = 0

        def fsync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            yield

    return fail


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Run a script in a process of its own, with its stdin and stdout as pipes; killed at the end of the test."""
    children: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1, env=environment)
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 service in this process, on loopback; moto's other services, and the search for the right one, left out."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    class Handler(MotoRequestHandler):
        """Sends the body of an answer without waiting for news of its head."""

        disable_nagle_algorithm = True

    server = make_server("127.0.0.1", 0, create_backend_app("s3"), threaded=True, request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Iterator[Any]:
    """Plain boto3, which knows nothing of caches."""
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, **keys)
    for name in ("bucket", "kept"):
        client.create_bucket(Bucket=name)
    yield client
    client.close()


@pytest.fixture
def s3(s3_endpoint: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A boto3 client of a service that the environment leads to, with an empty bucket, `bucket`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    found = [{"Key": item["Key"]} for item in s3_client.list_objects_v2(Bucket="bucket").get("Contents", [])]
    if found:
        s3_client.delete_objects(Bucket="bucket", Delete={"Objects": found})
    return s3_client
