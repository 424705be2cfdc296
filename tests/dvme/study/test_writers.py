from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from dvme.errors import OptionError
from dvme.study.writers import one_part, one_writer
from dvme_cache import CacheAccessError
from dvme_cache.parts import Part


def test_one_writer__who_opened_the_lock_before_it_was_let_go_has_the_same_one(tmp_path: Path) -> None:
    """Of two sweeps that wait for the lock at once, one gets it: the file stays where the next one looks."""
    run = tmp_path / "run"
    with one_writer(run), pytest.raises(OptionError, match="another dvme is writing to"), one_writer(run):
        pass
    with one_writer(run):
        waiting = os.open(tmp_path / ".run.lock", os.O_RDWR)
    fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(OptionError, match=r"another dvme is writing to .*run; wait for it"), one_writer(run):
        pass
    os.close(waiting)
    with one_writer(run):
        pass


def test_one_writer__where_nothing_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))  # as NFS without its daemon

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        refusal = r"\.run\.lock cannot be locked \(No locks available\); write elsewhere"
        with pytest.raises(CacheAccessError, match=refusal), one_writer(tmp_path / "run"):
            pass
    (tmp_path / ".other.lock").mkdir()
    with pytest.raises(CacheAccessError, match=r"\.other\.lock cannot be"), one_writer(tmp_path / "other"):
        pass


def test_one_part__others_of_its_total_begin_once_it_lets_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with one_part(run, Part(1, 3)) as begun:
        begun()
        with one_part(run, Part(3, 3)) as begun_as_well:
            begun_as_well()
            assert {each.name for each in (tmp_path / ".run.parts").iterdir()} == {"1-of-3.lock", "3-of-3.lock"}
            with pytest.raises(OptionError, match=r"part 1/3 of .* is being fitted already"), one_part(run, Part(1, 3)):
                pass
            with pytest.raises(OptionError, match=r"in 3 parts.*part='3/3'"), one_part(run, Part(4, 5)):
                pass
            with pytest.raises(OptionError, match="is being fitted; wait until all parts are done"), one_writer(run):
                pass
    with one_part(run, Part(4, 5)) as begun:
        begun()
    (tmp_path / ".run.parts" / "note.txt").touch()  # someone's own stays
    with one_writer(run):
        assert [each.name for each in (tmp_path / ".run.parts").iterdir()] == ["note.txt"]
        with pytest.raises(OptionError, match="another dvme is writing to"), one_part(run, Part(1, 3)):
            pass
