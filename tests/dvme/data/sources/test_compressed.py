from __future__ import annotations

from pathlib import Path

import pytest
from archives import pictures, write_tar

from dvme.data import load_samples
from dvme.data.sources.compressed import refuse_compressed
from dvme.errors import DataError


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("images.tar.gz", "gunzip images.tar.gz makes images.tar"),
        ("images_01.TGZ", "gunzip images_01.TGZ makes images_01.tar"),
        ("a.b.tar.bz2", "bunzip2 a.b.tar.bz2 makes a.b.tar"),
        ("x.txz", "unxz x.txz makes x.tar"),
        ("x.tar.zst", "unzstd x.tar.zst makes x.tar"),
    ],
)
def test_refuse_compressed__says_what_makes_a_tar(name: str, command: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "archives" / name, pictures("a/1.png"))
    for place in (path, path.parent):  # alone, and a folder of such
        with pytest.raises(DataError, match="compressed as a whole") as refused:
            load_samples(place)
        assert f"; {command} of it, give that" in str(refused.value)


def test_refuse_compressed__other_names() -> None:
    refuse_compressed(Path("scan.nii.gz"))
    refuse_compressed(Path("images.tar"))
