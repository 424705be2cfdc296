from __future__ import annotations

from typing import Any

from dvme.backbones import get_spec
from dvme.paper.origins import Origin, origin_of


def described(name: str, **kept: Any) -> dict[str, Any]:
    """A backbone as run.json has it, with where it comes from."""
    return {"name": name, "dim": 4, "digest": "0" * 32, "fingerprint": {"architecture": "resnet50"}, "provenance": kept}


def test_origin_of__what_the_run_keeps_comes_first() -> None:
    found = origin_of(described("swav", paper="Somebody 2030", licence="not stated", method="own", source="checkpoint"))
    assert found == Origin(paper="Somebody 2030", method="own", source="checkpoint", is_listed=True)
    assert found.is_known
    assert not found.is_adapted


def test_origin_of__an_older_run_by_name_and_architecture() -> None:
    spec = get_spec("swav")
    old = {"name": "swav@size=96", "fingerprint": {"architecture": spec.architecture}}
    found = origin_of(old)
    assert (found.paper, found.licence, found.method) == (spec.paper, spec.licence, spec.method)
    assert found.is_listed
    assert origin_of({"name": "swav", "fingerprint": {"architecture": "vit_small_patch16_224"}}) == Origin()
    assert origin_of({"name": "nobodys", "fingerprint": {"architecture": spec.architecture}}) == Origin()
    assert not origin_of({"name": "nobodys", "fingerprint": None}).is_known


def test_origin_of__imported_embeddings_under_a_published_name() -> None:
    plain = origin_of({"name": "dino", "fingerprint": {"imported": "0" * 32}})
    assert plain.is_imported
    assert plain.is_known
    assert not plain.paper
    told = origin_of(
        {"name": "dino", "fingerprint": {"made_by": "mine"}, "provenance": {"imported": {"file": "x.npz"}}}
    )
    assert told.imported == {"made_by": "mine", "file": "x.npz"}


def test_origin_of__adapted_and_untrained() -> None:
    remark = "swav adapted by simclr on 40 images for 2 epochs"
    adapted = origin_of(
        described("swav-simclr-0a", paper="Caron et al. 2020, SwAV", remark=remark, adapted_from="swav")
    )
    assert (adapted.is_adapted, adapted.began_random, adapted.is_listed) == (True, False, False)
    begun = origin_of(
        described("x", paper="He et al. 2016", remark=remark.replace("swav adapted", "random weights adapted"))
    )
    assert (begun.is_adapted, begun.began_random) == (True, True)
    untrained = origin_of(described("random", paper="untrained control, seed 0", source="random"))
    assert untrained.is_known
    assert untrained.source == "random"
