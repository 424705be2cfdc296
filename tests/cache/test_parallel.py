"""The same for every item, by threads that help: in order, with the errors that one thread would meet first."""

from __future__ import annotations

import os
import threading
import time

import pytest

from dvme_cache.parallel import THREADS, each, helping_threads


@pytest.mark.parametrize("n_threads", [0, 1, 2, 200])
def test_each__results_are_in_the_order_of_the_items(n_threads: int) -> None:
    assert each(lambda item: item * item, iter(range(100)), n_threads) == [item * item for item in range(100)]
    assert each(str, [], n_threads) == []


def test_each__at_most_so_many_at_a_time_and_this_thread_among_them() -> None:
    together, one_at_a_time = threading.Barrier(3), threading.Lock()
    seen, running, most = set[int](), 0, 0

    def wait(item: int) -> None:
        nonlocal running, most
        with one_at_a_time:
            running += 1
            most = max(most, running)
            seen.add(threading.get_ident())
        together.wait(timeout=20)  # breaks if fewer than three are at work
        with one_at_a_time:
            running -= 1

    each(wait, range(12), 3)
    assert most == 3
    assert threading.get_ident() in seen


def test_each__raises_what_the_first_item_raises_that_fails_and_begins_no_other() -> None:
    begun, later_failed = list[int](), threading.Event()

    def fail(item: int) -> None:
        begun.append(item)
        if item == 3:
            later_failed.wait(20)
            raise KeyError(item)
        if item == 4:
            later_failed.set()
            raise ValueError(item)

    with pytest.raises(KeyError, match="3"):
        each(fail, range(1000), 8)
    assert len(begun) < 1000
    n_begun = len(begun)
    time.sleep(0.02)
    assert len(begun) == n_begun, "none is worked at any more"


class PanicError(BaseException):
    """As compiled code raises it."""


def test_each__what_is_no_exception_is_raised_too() -> None:
    def panic(item: int) -> None:
        if item == 5:
            raise PanicError

    with pytest.raises(PanicError):
        each(panic, range(8), 8)


def test_each__within_itself_when_all_threads_wait() -> None:
    """More calls than there are threads, each of which asks for help."""

    def outer(item: int) -> int:
        time.sleep(0.001)
        return sum(each(lambda inner: item + inner, range(4), 4))

    assert each(outer, range(4 * THREADS), THREADS) == [4 * item + 6 for item in range(4 * THREADS)]


def test_each__in_a_forked_process() -> None:
    each(str, range(10), 4)
    child = os.fork()
    if not child:
        os._exit(0 if each(str, range(10), 4) == [*"0123456789"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_helping_threads__stay() -> None:
    assert helping_threads() is helping_threads()
