from __future__ import annotations

import subprocess
import sys

import dvme.stats


def test_stats__is_light_to_import() -> None:
    code = "import sys, dvme.stats; print(sorted({'torch', 'sklearn', 'pandas', 'scipy.stats'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_stats__offers_no_wilcoxon_test_and_says_why() -> None:
    assert dvme.stats.__doc__ is not None
    assert "0.0625" in dvme.stats.__doc__
    assert not [name for name in dvme.stats.__all__ if "wilcoxon" in name]
    assert all(hasattr(dvme.stats, name) for name in dvme.stats.__all__)
