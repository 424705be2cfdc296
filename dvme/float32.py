"""How products of float32 are computed: in full, or in TF32, whatever the host program lets torch round to.

torch has three layers of switches. Those since 2.9 are called `fp32_precision`: an operation without a setting of its
own takes that of its backend, and a backend that of all backends. The older ones are `allow_tf32` and
`float32_matmul_precision`; torch raises where one is read that contradicts a new one. The third is autocast.

All but autocast are the process's, not a thread's: threads that want the same share them, and others wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import backends

HAS_NEW_SWITCHES = hasattr(backends.cuda.matmul, "fp32_precision")
CUDNN: Any = backends.cudnn
MKLDNN: Any = backends.mkldnn
NOT_SET, FULL, TF32 = "none", "ieee", "tf32"
OLD_NAMES = {FULL: "highest", TF32: "high"}
HALF_SUMS = (
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_accumulation",
)
"""Switches of cuBLAS that let sums of bfloat16 and float16 products be rounded on the way."""
SPLIT = "_split_k"


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Round no factor of a product or convolution, so that the device is no part of a fingerprint.

    Sums of bfloat16 and float16 products are kept in float32. The host program's settings are restored exactly, what an
    operation takes from its backend included.
    """
    with _without_autocast(device), _SHARED.held(FULL):
        yield


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Let a CUDA device round the factors of products and convolutions of float32 to TF32; restores as above."""
    with _without_autocast(device), _SHARED.held(TF32):
        yield


def is_rounding(device: torch.device) -> bool:
    """Whether products of float32 on a device round their factors."""
    if torch.is_autocast_enabled(device.type):
        return True
    if not HAS_NEW_SWITCHES:
        return torch.get_float32_matmul_precision() != OLD_NAMES[FULL]
    products: Any = backends.cuda.matmul if device.type == "cuda" else MKLDNN.matmul
    return products.fp32_precision not in {NOT_SET, FULL}


class _Shared:
    """The switches of the process: changed by the first thread that needs them, restored by the last."""

    def __init__(self) -> None:
        self._freed = threading.Condition()
        self._precision = NOT_SET
        self._n_holders = 0
        self._host = ExitStack()
        self._own = threading.local()

    @contextmanager
    def held(self, precision: str) -> Iterator[None]:
        """Compute in a precision; waits while other threads compute in another one.

        Raises:
            RuntimeError: if this very thread does, which would wait for itself.
        """
        outer = getattr(self._own, "precision", None)
        if outer not in {None, precision}:
            raise RuntimeError(f"products are in {outer} here; those within them cannot be in {precision}")
        with self._freed:
            self._freed.wait_for(lambda: not self._n_holders or self._precision == precision)
            if not self._n_holders:
                with ExitStack() as stack:
                    _set_all(stack, precision)
                    self._host = stack.pop_all()
                self._precision = precision
            self._n_holders += 1
        self._own.precision = precision
        try:
            yield
        finally:
            self._own.precision = outer
            with self._freed:
                self._n_holders -= 1
                if not self._n_holders:
                    self._host.close()
                    self._freed.notify_all()


_SHARED = _Shared()


def _set_all(stack: ExitStack, precision: str) -> None:
    before = _old_precision()
    stack.enter_context(_new_switches(precision) if HAS_NEW_SWITCHES else _cudnn(allow_tf32=precision == TF32))
    stack.enter_context(_old_products(before or _old_precision(), OLD_NAMES[precision]))
    stack.enter_context(_half_sums())
    # cuDNN is on, and does not choose algorithms by their time, which differs from run to run.
    stack.enter_context(_cudnn(enabled=True, benchmark=False))


@contextmanager
def _without_autocast(device: torch.device) -> Iterator[None]:
    with ExitStack() as stack:
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        yield


class _AllOfMkldnn:
    """oneDNN's switch for all operations; `backends.mkldnn.fp32_precision` of torch 2.14 sets that of all backends."""

    @property
    def fp32_precision(self) -> str:
        return str(MKLDNN.fp32_precision)

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        MKLDNN.set_flags(_fp32_precision=precision)


@contextmanager
def _new_switches(wanted: str) -> Iterator[None]:
    """A switch that follows a general one is left to follow it, once that is as wanted.

    cuDNN's single ones begin as a default that cannot be set again: TF32, unless a general one says something else.
    """
    general: list[Any] = [backends, CUDNN, _AllOfMkldnn()]
    products: list[Any] = [backends.cuda.matmul, MKLDNN.matmul]
    others = [CUDNN.conv, CUDNN.rnn, MKLDNN.conv, MKLDNN.rnn]
    found = []
    try:
        for switch in general + products:
            found.append((switch, switch.fp32_precision))
            switch.fp32_precision = NOT_SET  # so that the next ones tell what is their own
        for switch in general + products:
            switch.fp32_precision = wanted
        for switch in others:
            if switch.fp32_precision != wanted:
                found.append((switch, switch.fp32_precision))
                switch.fp32_precision = wanted
        yield
    finally:
        for switch, precision in found:
            switch.fp32_precision = precision


def _old_precision() -> str | None:
    """The older switch of products; None where it contradicts the new ones."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None


@contextmanager
def _old_products(found: str | None, wanted: str) -> Iterator[None]:
    """Where the older one says otherwise, it agrees with the new ones meanwhile, for code that reads it."""
    if found in {None, wanted}:
        yield
        return
    try:
        torch.set_float32_matmul_precision(wanted)
        yield
    finally:
        torch.set_float32_matmul_precision(str(found))


@contextmanager
def _half_sums() -> Iterator[None]:
    products: Any = backends.cuda.matmul
    found: list[tuple[str, Any]] = []
    for name in HALF_SUMS:
        is_rounded = getattr(products, name, False)  # older versions of torch lack one or the other
        may_split = getattr(products, name + SPLIT, None)
        if is_rounded or may_split is False:
            found.append((name, is_rounded if may_split is None else (is_rounded, may_split)))
    try:
        for name, _ in found:
            setattr(products, name, False)
        yield
    finally:
        for name, value in found:
            setattr(products, name, value)


@contextmanager
def _cudnn(**switches: bool) -> Iterator[None]:
    found = {name: getattr(CUDNN, name) for name in switches}
    try:
        for name, is_on in switches.items():
            setattr(CUDNN, name, is_on)
        yield
    finally:
        for name, is_on in found.items():
            setattr(CUDNN, name, is_on)
