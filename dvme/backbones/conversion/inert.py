"""Pickles read without running anything they name: foreign objects become records of what they were made of.

`pickle` calls whatever a file names. Here a name is never looked up: it gives a rebuilder written in this package,
or a class of records that only remember. What the file may still do is build lists, dicts and numbers.
"""

from __future__ import annotations

import pickle
import pickletools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

from dvme.errors import CheckpointError

REFUSED_OPCODES = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER"}
MEMO_OPCODES = {"PUT", "BINPUT", "LONG_BINPUT"}
MODULE_PARTS = ("_parameters", "_buffers", "_modules")
"""What holds the tensors of a torch.nn.Module, in its state."""
SPELLINGS = {"numpy._core": "numpy.core", "__builtin__": "builtins", "copy_reg": "copyreg", "dill.dill": "dill._dill"}
"""The same modules under the names of other versions."""


class TornError(CheckpointError):
    """A pickle that is cut off, or is none."""


class NeedsCodeError(CheckpointError):
    """A pickle whose tensors only its own code can rebuild."""


class Inert:
    """A record in place of an object of a class that was neither imported nor called."""

    origin: ClassVar[str] = ""
    """The name in the file, `module.name`."""
    fields: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments, where the file gives them."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    state: Any
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *args: Any, **keywords: Any) -> Inert:
        """Record what the class would have been given; unpickling may never call __init__."""
        record = super().__new__(cls)
        record.args, record.keywords, record.state, record.items, record.elements = args, keywords, None, {}, []
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __call__(self, *args: Any) -> Inert:
        """What a recorded function would have returned."""
        return record_class(f"{self.origin}()")(*args)

    def append(self, value: Any) -> None:
        """One more element of a recorded list."""
        self.elements.append(value)

    def extend(self, values: Any) -> None:
        """More elements of a recorded list."""
        self.elements.extend(values)

    add = append

    def children(self) -> list[tuple[Any, Any]]:
        """What the object was made of, by the names that its class would have used, as far as known."""
        states = self.state if isinstance(self.state, tuple) else () if self.state is None else (self.state,)
        if len(states) == 1 and isinstance(states[0], Mapping) and any(part in states[0] for part in MODULE_PARTS):
            return [pair for part in MODULE_PARTS for pair in _pairs(states[0].get(part), part)]
        if len(self.args) == 1:
            found = _pairs(self.args[0], "args.0")
        elif self.fields and len(self.fields) == len(self.args):
            found = list(zip(self.fields, self.args, strict=True))
        else:
            found = [(f"args.{i}", value) for i, value in enumerate(self.args)]
        found += [pair for i, state in enumerate(states) for pair in _pairs(state, f"state.{i}")]
        return [*found, *self.keywords.items(), *self.items.items(), *enumerate(self.elements)]


class Known:
    """A name that this package rebuilds by itself: a function, or a constant."""

    __slots__ = ("_call", "name", "value")

    def __init__(self, name: str, call: Callable[..., Any] | None = None, value: Any = None) -> None:
        self.name, self._call, self.value = name, call, value

    def __call__(self, *args: Any) -> Any:
        """What the function of that name would have rebuilt."""
        if self._call is None:
            raise NeedsCodeError(f"it calls {self.name}")
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        """Without this, a file could overwrite what a name means."""
        raise NeedsCodeError(f"it changes {self.name}")


def record_class(origin: str, fields: tuple[str, ...] = ()) -> type[Inert]:
    """A class of records for one name of a file."""
    return type("Inert", (Inert,), {"origin": origin, "fields": fields})


def _pairs(value: Any, name: str) -> list[tuple[Any, Any]]:
    """The content of a mapping; anything else under the name given."""
    if isinstance(value, Mapping):
        return list(value.items())
    return [] if value is None else [(name, value)]


def load_inert(file: IO[bytes], known: Mapping[str, Known], persistent: Callable[[Any], Any] | None = None) -> Any:
    """The next pickle of a file, nothing of it executed; the file then stands behind it.

    Args:
        file: open for reading, seekable.
        known: rebuilders by `module.name`; names of other versions as in SPELLINGS.
        persistent: gives what lies outside the pickle; without it, such a pickle is refused.

    Raises:
        TornError: if it is no whole pickle.
        NeedsCodeError: if it does what only running its code could follow.
    """
    start = file.tell()
    _scan(file)
    file.seek(start)
    try:
        return _InertUnpickler(file, known, persistent).load()
    except CheckpointError:
        raise
    except MemoryError as error:
        raise TornError("it asks for more memory than there is") from error
    # A file may apply its opcodes to whatever it built before: any of these is the file's fault.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise NeedsCodeError(f"it cannot be followed without running it ({reason or type(error).__name__})") from error


def _scan(file: IO[bytes]) -> None:
    """Refuse what the C reader does not let us intercept, before it sees it."""
    n_seen = 0
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes in damaged text
            for opcode, argument, _ in pickletools.genops(file):
                n_seen += 1
                if opcode.name in REFUSED_OPCODES:
                    raise NeedsCodeError(f"it uses the pickle instruction {opcode.name}")
                # An index far ahead would have the reader reserve memory for all before it.
                if opcode.name in MEMO_OPCODES and int(argument or 0) > n_seen:
                    raise TornError("its memo is damaged")
    except CheckpointError:
        raise
    except (ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise TornError(f"it is no whole pickle ({(str(error).splitlines() or ['cut off'])[0]})") from error


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], known: Mapping[str, Known], persistent: Callable[[Any], Any] | None) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 wrote bytes as text; latin1 keeps them
        self._known = known
        self._persistent = persistent
        self._records: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        for theirs, ours in SPELLINGS.items():
            if module == theirs or module.startswith(f"{theirs}."):
                module = ours + module[len(theirs) :]
        origin = f"{module}.{name}"
        if origin in self._known:
            return self._known[origin]
        if origin == "collections.OrderedDict":
            return OrderedDict
        return self._records.setdefault(origin, record_class(origin))

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise NeedsCodeError("it refers to objects outside of it")
        return self._persistent(pid)
