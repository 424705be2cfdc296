"""What is made once for all workers of a test run, and lent as links."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """The folder, filled by the first worker that asks; the others wait for it.

    Args:
        folder: below the run's folder, that all workers share.
        make: fills it. What it writes may hold the folder's own path.
    """
    marker = folder.with_name(f"{folder.name}.digest")
    with FileLock(f"{folder}.lock"):
        if not marker.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            make(folder)
            marker.write_text(digest(folder))
    return folder


def assert_untouched(folder: Path) -> None:
    """No test wrote into what is lent: a link shares its bytes with everyone."""
    assert digest(folder) == folder.with_name(f"{folder.name}.digest").read_text(), f"a test changed {folder}"


def linked(folder: Path, target: Path) -> Path:
    """A copy whose files are hard links. dvme replaces files and writes into locks alone; a test takes `replaced`."""
    ignored = shutil.ignore_patterns("*.lock")
    return Path(shutil.copytree(folder, target, copy_function=os.link, ignore=ignored))


def replaced(path: Path, content: bytes) -> None:
    """Give a linked file another content, and leave the lender's as it is."""
    path.unlink()
    path.write_bytes(content)


def digest(folder: Path) -> str:
    """Of all files' names and bytes, but for locks."""
    found = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"):
        found.update(f"{path.relative_to(folder)}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()
