"""What `dvme report` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dvme.maps.quality import MapQuality
from dvme.shown.result import Shown
from dvme.shown.table import record_of


@dataclass(frozen=True, repr=False)
class ReportResult(Shown):
    """What `dvme report` wrote; `to_frame()` has a row for each map, see `MapQuality`."""

    run: str
    html: str
    verdict: str
    answers: dict[str, str]
    """Question to answer."""
    n_points: int
    """Images in the maps; 0 without maps."""
    n_without_thumbnail: int
    maps: dict[str, dict[str, MapQuality]]
    """Method to embedding to the quality of its map."""
    notices: list[str]
    """Why a part is missing, and what the reader has to know."""
    figures: list[str]
    """Files of `figures`."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def _lines(self) -> list[str]:
        answers = [f"{question} {answer}" for question, answer in self.answers.items()]
        return [f"{self.html} is the report of {self.run}", self.verdict, *answers]

    def _records(self) -> list[dict[str, Any]]:
        return quality_records(self.maps)


def quality_records(maps: Mapping[str, Mapping[str, MapQuality]]) -> list[dict[str, Any]]:
    """A record for each map: method, embedding, and what is known of it."""
    return [
        {"method": method, "embedding": name, **record_of(quality)}
        for method, own in maps.items()
        for name, quality in own.items()
    ]
