"""run.json: the configuration of a run, and whether it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dvme.errors import DataError, parameter
from dvme.files import written_aside
from dvme.json_values import as_json, plain
from dvme.places import check_run as check_place
from dvme.study.ledger import versions

FORMAT = 2
"""1 kept probabilities, and its summary lacks what is said now."""
RUN, SUBSETS = "run.json", "subsets.json"


def write_run(folder: Path, described: Mapping[str, Any], *, is_kept: bool = False) -> None:
    """Write run.json.

    Args:
        folder: of the run.
        described: its configuration; with `jobs`, once it is finished.
        is_kept: leave that of a finished run of the same configuration, which stays finished whatever comes.
    """
    before = described_in(folder) if is_kept else None
    if before is not None and before.get("jobs") and plain(described).items() <= before.items():
        return
    header = {"format": FORMAT, "dvme": version("dvme"), "versions": dict(versions())}
    with written_aside(folder / RUN) as aside:
        aside.write_text(as_json(header | dict(described), indent=1) + "\n", encoding="utf-8")


def read_described(folder: str | Path) -> dict[str, Any]:
    """The configuration of a finished run, which no later call has begun to change.

    Raises:
        DataError: if the folder is not a run, is not finished, or is of another dvme.
        OptionError: if it is something else of the user's.
    """
    folder = Path(folder)
    check_place(folder)
    described = described_in(folder)
    if described is None:
        raise DataError(f"{folder} is not a run; dvme sweep CACHE --out {folder} makes one")
    if not described.get("jobs"):
        raise unfinished(folder, described)
    return described


def unfinished(folder: Path, described: Mapping[str, Any]) -> DataError:
    """What to say of a run that is not finished."""
    return DataError(f"{folder} is not finished; {again(described)}, it goes on from there")


def again(described: Mapping[str, Any]) -> str:
    """What to do; an older dvme knew runs of sweeps only, and did not write which command made one."""
    return f"run the same dvme {described.get('command', 'sweep')} again"


def described_in(folder: Path) -> dict[str, Any] | None:
    """run.json; None if there is none.

    Raises:
        DataError: if it is torn or of another dvme.
    """
    try:
        described = json.loads((folder / RUN).read_text(encoding="utf-8"))
        if not isinstance(described, dict):
            raise ValueError("it is no JSON object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / RUN} cannot be read ({error}); run dvme sweep into another folder") from error
    if described.get("format") != FORMAT:
        found = described.get("format")
        old = "sweep again with " + parameter("subsets", folder / SUBSETS) + " into another folder"
        step = old if isinstance(found, int) and found < FORMAT else "update dvme"
        raise DataError(f"{folder} is of run format {found}, this dvme reads {FORMAT}; " + step)
    return described
