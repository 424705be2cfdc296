from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import dvme
import dvme.cluster.connection
from dvme.cluster import check_cluster, cluster
from dvme.errors import ClusterError, EnvironmentMismatchError, OptionError
from dvme.runtime import Runtime


@contextmanager
def _listening(answer: bytes | None) -> Iterator[str]:
    """A server that says this to whoever comes, or nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            connection, _ = server.accept()
            if answer is not None:
                connection.sendall(answer)
            connection.recv(1)
            time.sleep(1.0)
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_cluster__nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would try for minutes."""
    monkeypatch.setattr(dvme.cluster.connection, "ANSWER_S", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        free = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(
        ClusterError, match=rf"no Ray head node answers at {free} .*start Ray there, or name another ray_address$"
    ):
        cluster(free).__enter__()
    monkeypatch.setenv("RAY_ADDRESS", free)
    with pytest.raises(ClusterError, match=f"no Ray head node answers at {free}"):
        cluster().__enter__()
    with _listening(None) as silent, pytest.raises(ClusterError, match=r"answers at .* \(timed out\)"):
        cluster(silent).__enter__()
    with _listening(b"HTTP/1.1 400 Bad Request\r\n") as other, pytest.raises(ClusterError, match="is no Ray head node"):
        cluster(other).__enter__()
    with pytest.raises(ClusterError, match=r"answers at nosuch\.invalid:6379"):
        cluster("nosuch.invalid:6379").__enter__()


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":6379", "head:port", "http://head:8265"])
def test_cluster__no_address_of_a_head_node(address: str) -> None:
    with pytest.raises(OptionError, match=r"is no address of a head node; pass ray_address='HOST:6379'"):
        cluster(address).__enter__()


def test_cluster__without_ray(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'dvme\[ray\]'"):
        cluster().__enter__()
    print("a result")
    assert capfd.readouterr().out == "a result\n"


def test_check_cluster__refuses_what_shows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvme.cluster.connection, "ANSWER_S", 0.5)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentMismatchError, match=r"pip install 'dvme\[ray\]'"):
        check_cluster(Runtime(engine="ray"))
    check_cluster(Runtime())
    monkeypatch.setattr(dvme.cluster.connection, "find_spec", lambda _: object())
    monkeypatch.delitem(sys.modules, "ray")
    check_cluster(Runtime(engine="ray"))
    with pytest.raises(ClusterError, match="no Ray head node answers"):
        check_cluster(Runtime(engine="ray", ray_address="127.0.0.1:1"))
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(OptionError, match="is no address of a head node"):
        check_cluster(Runtime(engine="ray"))


def test_extract__a_cluster_that_does_not_answer_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(ClusterError, match="no Ray head node answers"):
        dvme.extract(
            tmp_path / "no images",
            tmp_path / "c.zarr",
            backbones=["random"],
            runtime=Runtime(engine="ray", ray_address="127.0.0.1:1"),
            progress=lambda stage, *_: told.append(stage),
        )
    assert not told
    assert not list(tmp_path.iterdir())
