"""How many processor cores this process may use: fewer than the machine has, in a container or under a scheduler."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

CGROUP, OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
OLD_QUOTA, OLD_PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"


def available_cores() -> int:
    """Cores that the system lets this process run on at once: its affinity, and the quota of its control groups.

    A quota of one and a half cores counts as two: work in two independent lanes uses all of it.
    """
    counts = [os.cpu_count() or 1]
    with suppress(AttributeError, OSError):  # macOS and Windows have no such call
        counts.append(len(os.sched_getaffinity(0)))
    counts += [math.ceil(quota) for quota in quotas(CGROUP, OWN_CGROUP)]
    return max(1, min(counts))


def quotas(root: Path, own: Path) -> list[float]:
    """Cores that control groups allow, those of this process and all above them; where they are not limited, none.

    Args:
        root: where control groups are mounted.
        own: the file that says which ones this process is in, a line `ID:CONTROLLERS:PATH` each.
    """
    found: list[float] = []
    lines = own.read_text().splitlines() if own.is_file() else []
    for line in lines or ["0::/"]:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root if not controllers else root / "cpu"
        # In a container the path may be that of the host, of which only the mount's own root is to be seen.
        folders = {mount, *(mount / place.strip("/")).parents, mount / place.strip("/")}
        limits = [_quota(folder) for folder in folders if folder.is_relative_to(mount)]
        found += [limit for limit in limits if limit is not None]
    return found


def _quota(folder: Path) -> float | None:
    """Cores that one group allows; None where it sets no limit or says nothing that can be read."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        limit, period = ((folder / name).read_text() for name in (OLD_QUOTA, OLD_PERIOD))
        return int(limit) / int(period) if int(limit) > 0 else None
    return None
