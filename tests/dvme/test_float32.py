"""Full float32 in host programs that round, by every switch that torch has; and the switches afterwards.

Nothing here reads a switch by the code under test: `everything` asks torch, and asks again after the switch of all
backends was changed, which tells an operation's own setting from one that it takes from there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from threading import Event, Thread
from typing import Any

import pytest
import torch
from torch import backends

from dvme.float32 import full_float32, is_rounding, tf32
from dvme.heads.fusion.attention import exact_token_attention, token_attention

CUDNN: Any = backends.cudnn
MKLDNN: Any = backends.mkldnn
NEW = hasattr(backends.cuda.matmul, "fp32_precision")
CPU = torch.device("cpu")
OPERATIONS: dict[str, Any] = {"cuda.matmul": backends.cuda.matmul, "mkldnn": backends.mkldnn}
if NEW:
    OPERATIONS |= {"conv": CUDNN.conv, "rnn": CUDNN.rnn, "mkldnn.matmul": MKLDNN.matmul}
    OPERATIONS |= {"mkldnn.conv": MKLDNN.conv, "mkldnn.rnn": MKLDNN.rnn, "cudnn": backends.cudnn}
    OPERATIONS |= {"all": backends}


def use(operation: str, precision: str) -> Callable[[], Any]:
    if operation == "mkldnn":  # whose attribute sets that of all backends
        return lambda: MKLDNN.set_flags(_fp32_precision=precision)
    return lambda: setattr(OPERATIONS[operation], "fp32_precision", precision)


def old_and_new() -> None:
    torch.set_float32_matmul_precision("high")
    use("cudnn", "tf32")()
    use("conv", "none")()


def half_sums_whole() -> None:
    backends.cuda.matmul.allow_bf16_reduced_precision_reduction = (False, False)
    backends.cuda.matmul.allow_fp16_accumulation = True


HOSTS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "old high": lambda: torch.set_float32_matmul_precision("high"),
    "old medium": lambda: torch.set_float32_matmul_precision("medium"),
    "old allow_tf32": lambda: setattr(backends.cuda.matmul, "allow_tf32", True),
    "old cudnn": lambda: setattr(backends.cudnn, "allow_tf32", False),
    "benchmark": lambda: setattr(backends.cudnn, "benchmark", True),
    "half sums kept": lambda: setattr(backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False),
    "half products summed in half": lambda: setattr(
        backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", True
    ),
}
if NEW:
    HOSTS |= {
        f"{operation} {precision}": use(operation, precision)
        for operation, precision in [
            *(("all", "tf32"), ("all", "bf16"), ("all", "ieee"), ("cudnn", "tf32"), ("cuda.matmul", "tf32")),
            *(("conv", "ieee"), ("conv", "none"), ("rnn", "none"), ("mkldnn", "bf16"), ("mkldnn.matmul", "tf32")),
            *(("mkldnn.matmul", "bf16"), ("mkldnn.conv", "bf16")),
        ]
    } | {"old and new": old_and_new, "half sums whole": half_sums_whole}
ROUND_ON_CPU = {"old high", "old medium", "all tf32", "all bf16", "mkldnn bf16", "old and new"} | {
    *("mkldnn.matmul tf32", "mkldnn.matmul bf16"),
    *([] if NEW else ["old allow_tf32"]),  # one switch for all devices
}


def half_sums() -> list[Any]:
    """Whether sums of bfloat16 and float16 products are rounded, split and kept in half."""
    names = [
        f"allow_{kind}_reduced_precision_reduction{split}" for kind in ("fp16", "bf16") for split in ("", "_split_k")
    ]
    return [getattr(backends.cuda.matmul, name, None) for name in (*names, "allow_fp16_accumulation")]


def everything() -> list[Any]:
    found: list[Any] = [backends.cudnn.enabled, backends.cudnn.benchmark, half_sums()]
    for read in (torch.get_float32_matmul_precision, lambda: backends.cudnn.allow_tf32):
        with suppress(RuntimeError):
            found.append(read())
    if NEW:
        found += [switch.fp32_precision for switch in OPERATIONS.values()]
        for general in ("all", "cudnn", "mkldnn"):
            use(general, "ieee")()
            found += [switch.fp32_precision for switch in OPERATIONS.values()]
    return found


def _answer(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    pipe.send(function(*arguments))


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, whose switches are as torch has them when it is imported."""
    here, there = Pipe()
    child = get_context("fork").Process(target=_answer, args=(there, function, arguments))
    child.start()
    there.close()
    try:
        return here.recv()
    finally:
        child.join()


def left_alone(host: str) -> tuple[bool, float, list[Any]]:
    """Whether products round in this program, the largest error of an attention, and its settings."""
    tokens, slopes = torch.randn(2, 96, generator=torch.Generator().manual_seed(14)), torch.ones(2)
    expected = exact_token_attention(tokens.double(), slopes.double())
    HOSTS[host]()
    error = float((token_attention(tokens, slopes).double() - expected).abs().max())
    return is_rounding(CPU), error, everything()


def afterwards(host: str) -> list[Any]:
    """The settings of this program once something was computed in full float32, which failed."""
    HOSTS[host]()
    with suppress(KeyError), full_float32(CPU):
        if NEW:
            assert {switch.fp32_precision for switch in OPERATIONS.values()} == {"ieee"}
            assert backends.cuda.matmul.allow_tf32 is False, "older code may ask"
        assert torch.get_float32_matmul_precision() == "highest"
        assert half_sums() in ([False, True, False, True, False], [False, None, False, None, None])
        raise KeyError
    return everything()


def rounded_afterwards(host: str) -> list[Any]:
    """The same of TF32, of which the CPU only has the switches."""
    HOSTS[host]()
    older = None
    with suppress(RuntimeError):  # where the host's switches contradict each other, they still do
        older = torch.get_float32_matmul_precision()
    with suppress(KeyError), tf32(torch.device("cuda")):
        if NEW:
            assert {switch.fp32_precision for switch in OPERATIONS.values()} == {"tf32"}
        if older is not None:
            assert (torch.get_float32_matmul_precision(), backends.cuda.matmul.allow_tf32) == ("high", True)
        raise KeyError
    return everything()


@pytest.mark.parametrize("host", HOSTS)
def test_full_float32__in_any_host_program(host: str) -> None:
    """Attention keeps its digits as well, by itself."""
    is_lossy, error, settings = in_a_process(left_alone, host)
    assert is_lossy == (host in ROUND_ON_CPU)
    assert error < 1e-5
    assert in_a_process(afterwards, host) == settings
    assert in_a_process(rounded_afterwards, host) == settings


def test_full_float32__threads_share_the_switches() -> None:
    """The first thread that leaves must not take them from the second, nor the second keep them from the host."""
    seen, settings = in_a_process(two_threads)
    assert seen == (["ieee", "ieee", "tf32"] if NEW else [False, False, True])
    assert settings == in_a_process(everything)


def two_threads() -> tuple[list[Any], list[Any]]:
    """What the second of two threads computes in, beside the first and alone, and a third that waits for both."""
    read = (lambda: backends.cuda.matmul.fp32_precision) if NEW else (lambda: backends.cudnn.allow_tf32)
    seen: list[Any] = []
    first_left, second_in = Event(), Event()

    def second() -> None:
        with full_float32(CPU):
            seen.append(read())
            second_in.set()
            first_left.wait(30)
            seen.append(read())

    def third() -> None:
        with tf32(torch.device("cuda")):
            seen.append(read())

    with full_float32(CPU), full_float32(CPU):
        threads = [Thread(target=second)]
        threads[0].start()
        second_in.wait(30)
        threads.append(Thread(target=third))
        threads[1].start()
    first_left.set()
    for thread in threads:
        thread.join(30)
    return seen, everything()


def test_tf32__within_full_float32_is_refused() -> None:
    with full_float32(CPU), pytest.raises(RuntimeError, match="products are in ieee here"), tf32(CPU):
        pass
