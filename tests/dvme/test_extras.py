from __future__ import annotations

import subprocess
import sys

import pytest

from dvme.errors import EnvironmentMismatchError, MissingPackageError
from dvme.extras import NEEDS, needed, require


@pytest.mark.parametrize(("module", "line"), [(module, line) for module, (line, _) in NEEDS.items()])
def test_require__a_missing_package_is_one_line_with_its_command(
    module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(module)
    monkeypatch.setitem(sys.modules, module, None)
    for ask in (lambda: require("h5py" if module != "h5py" else "umap", module), lambda: needed(f"{module}.inner")):
        with pytest.raises(MissingPackageError) as caught:
            ask()
        assert str(caught.value) == f"{line}: pip install 'dvme[{NEEDS[module][1]}]'"
    assert isinstance(caught.value, EnvironmentMismatchError)


def test_needed__is_the_module_itself() -> None:
    import h5py
    import plotly.subplots

    assert needed("plotly.subplots") is plotly.subplots
    assert needed("h5py") is h5py


def test_require__imports_nothing() -> None:
    code = "import sys; from dvme.extras import NEEDS, require; require(*NEEDS); print({*NEEDS} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
