"""Products in full float32, whatever the host program lets torch round to: TF32 or bfloat16.

torch has three layers of switches. Those since 2.9 are called `fp32_precision`: an operation without a setting of its
own takes that of its backend, and a backend that of all backends. The older ones are `allow_tf32` and
`float32_matmul_precision`; torch raises where one is read that contradicts a new one. The third is autocast.
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
NOT_SET, FULL, OLD_FULL = "none", "ieee", "highest"


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Round no factor of a product or convolution, so that the device is no part of a fingerprint.

    The host program's settings are restored exactly, what an operation takes from its backend included. All but
    autocast are of the whole process: of several threads the first sets them, and the last restores them.
    """
    with ExitStack() as stack:
        if torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_SWITCHES)
        yield


class _Switches:
    """Those of the whole process, set while anybody needs them."""

    def __init__(self) -> None:
        self._lock, self._n_users, self._stack = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_users:
                self._set()
            self._n_users += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._n_users -= 1
            if not self._n_users:
                self._stack.close()

    def _set(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(_new_switches() if HAS_NEW_SWITCHES else _cudnn(allow_tf32=False))
            stack.enter_context(_old_products())
            # cuDNN is on, and does not choose algorithms by their time, which differs from run to run.
            stack.enter_context(_cudnn(enabled=True, benchmark=False))
            self._stack = stack.pop_all()


_SWITCHES = _Switches()


def is_rounding(device: torch.device) -> bool:
    """Whether products of float32 on a device round their factors."""
    if torch.is_autocast_enabled(device.type):
        return True
    if not HAS_NEW_SWITCHES:
        return torch.get_float32_matmul_precision() != OLD_FULL
    products: Any = backends.cuda.matmul if device.type == "cuda" else MKLDNN.matmul
    return products.fp32_precision not in {NOT_SET, FULL}


class _AllOfMkldnn:
    """oneDNN's switch for all operations; `backends.mkldnn.fp32_precision` of torch 2.14 sets that of all backends."""

    @property
    def fp32_precision(self) -> str:
        return str(MKLDNN.fp32_precision)

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        MKLDNN.set_flags(_fp32_precision=precision)


@contextmanager
def _new_switches() -> Iterator[None]:
    """A switch that follows a general one is left to follow it, once that is full.

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
            switch.fp32_precision = FULL
        for switch in others:
            if switch.fp32_precision != FULL:
                found.append((switch, switch.fp32_precision))
                switch.fp32_precision = FULL
        yield
    finally:
        for switch, precision in found:
            switch.fp32_precision = precision


@contextmanager
def _old_products() -> Iterator[None]:
    """Where a program set the older one, it agrees with the new ones meanwhile, for code that reads it."""
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:
        precision = OLD_FULL
    if precision == OLD_FULL:
        yield
        return
    try:
        torch.set_float32_matmul_precision(OLD_FULL)
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


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
