"""What loading a backbone has shown before, kept in the user's cache folder: its tensors' hash and its dimension.

With them a fingerprint is known without torch. They are of one file, one description, one set of sources and library
versions on one machine: under any other there is nothing to recall, and the backbone is loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from dvme.backbones.description.code_identity import is_plain
from dvme.backbones.description.spec import BackboneSpec
from dvme.backbones.description.variation import seen_in
from dvme.backbones.description.view import PLAIN
from dvme.backbones.own.custom import spec_to_mapping
from dvme.backbones.weights.finding import find_weights
from dvme.environment import installed
from dvme.files import DIGEST_BYTES, rest_digest
from dvme.runtime import kept_folder

FOLDER = "weights"
LIBRARIES = ("torch", "torchvision", "timm", "safetensors")
"""What reads a file, builds the model and adapts it; another version of one of them may give other tensors."""
SETTLED_NS = 2_000_000_000
"""A file that changed later than this before it was looked at could change once more without showing it."""
_OTHER_WEIGHTS = ("pretrained", "checkpoint")
"""How arguments of timm begin that let it read further files, which nothing here would notice."""


@dataclass(frozen=True)
class Facts:
    """What only the loaded model tells of its fingerprint."""

    weights: str
    """Of its tensors, see `hash_weights`."""
    dim: int
    """D, measured."""
    choice: str = ""
    """Which of several sets of weights in its file it has, a sentence."""
    maps: str = ""
    """The grids of dense features, as fingerprints have them."""


@dataclass(frozen=True)
class Place:
    """Where the facts of one backbone are kept, and its weights file as it was when this was made."""

    key: str
    file: Path | None
    """None: the backbone needs none."""
    seen: tuple[int, ...]
    """Device, inode, size and times of the file."""
    looked_at: int = field(compare=False)
    """When it was seen, in nanoseconds."""

    def recall(self) -> Facts | None:
        """What was kept; None where nothing sound is, or the file is not the one that it was found of."""
        kept = self._read()
        if kept is None:
            return None
        facts = Facts(kept["weights"], kept["dim"], kept["choice"], kept["maps"])
        if self.file is None or kept["seen"] == list(self.seen):
            return facts
        if kept["size"] != self.seen[2] or self._digest() != kept["digest"]:
            return None
        self._write(facts, kept["digest"])  # moved about, or touched: the same bytes
        return facts

    def keep(self, facts: Facts) -> None:
        """Keep what a load has shown that began after this place was made, if the file stayed as it was."""
        if self.recall() == facts:
            return
        digest = "" if self.file is None else self._digest()
        if digest is not None:
            self._write(facts, digest)

    def _digest(self) -> str | None:
        """Of the file's bytes; None where it cannot be read, or is no longer as it was seen."""
        assert self.file is not None
        try:
            with self.file.open("rb") as file:
                found = rest_digest(file)
            return found if _seen(self.file) == self.seen else None
        except OSError:
            return None

    def _read(self) -> dict[str, Any] | None:
        try:
            kept = json.loads((kept_folder(FOLDER) / f"{self.key}.json").read_bytes())
            seal = kept.pop("seal")
        except (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError):
            return None
        return kept if seal == self._seal(kept) else None

    def _write(self, facts: Facts, digest: str) -> None:
        """Whole or not at all; where nothing can be written nothing is kept."""
        is_settled = self.file is None or max(self.seen[3:]) + SETTLED_NS < self.looked_at
        size = self.seen[2] if self.file else 0
        kept: dict[str, Any] = asdict(facts) | {"digest": digest, "size": size}
        kept["seen"] = list(self.seen) if is_settled else None
        with suppress(OSError, RuntimeError):  # the second: there is no home
            path = kept_folder(FOLDER) / f"{self.key}.json"
            aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                aside.write_text(json.dumps(kept | {"seal": self._seal(kept)}), encoding="utf-8")
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)

    def _seal(self, kept: dict[str, Any]) -> str:
        """What proves that the content is whole, and kept under this key."""
        return _hash([self.key, kept])


def place_of(spec: BackboneSpec, given: Path | None = None) -> Place | None:
    """Where the facts of a backbone are kept; None where they cannot be known without loading it.

    That is so for models that Python builds, and where nothing shows which file it would be loaded from.

    Args:
        spec: what would be loaded.
        given: the user's own checkpoint.

    Raises:
        WeightsError: if that does not exist.
    """
    arguments = spec.architecture_args
    if spec.build is not None or not is_plain(arguments) or any(key.startswith(_OTHER_WEIGHTS) for key in arguments):
        return None
    file = find_weights(spec, given) if spec.source != "random" else None
    if (file is None) != (spec.source == "random") or (spec.source == "random" and given is not None):
        return None
    sources, versions = _sources(), [installed(name) for name in LIBRARIES]
    whose = ["" if file is None else os.fspath(file.absolute()), given is not None, platform.machine(), platform.node()]
    looked_at = time.time_ns()
    try:
        seen = () if file is None else _seen(file)
        plain = replace(spec, name=seen_in(spec.name, PLAIN), view=PLAIN)  # a view changes nothing of the model
        key = _hash([spec_to_mapping(plain), whose, versions, sources])
    except (OSError, TypeError, ValueError):  # the file has just gone; arguments that JSON cannot hold
        return None
    return Place(key, file, seen, looked_at) if sources else None


def _seen(file: Path) -> tuple[int, ...]:
    """Device, inode, size, and the times of the last change of content and of anything else, in nanoseconds."""
    status = file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def _sources() -> str:
    """Digest of the code that loads, adapts and hashes; "" where it is not there to be read."""
    folder = Path(__file__).parents[1]  # all of the backbones
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    paths = sorted(folder.rglob("*.py"))
    for path in paths:
        found.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest() if paths else ""


def _hash(parts: Any) -> str:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=DIGEST_BYTES).hexdigest()
