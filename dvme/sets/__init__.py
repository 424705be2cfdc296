"""Public sets: a download as it was unpacked becomes a manifest. A set is a module here and a line of the catalogue."""

from dvme.sets.building import BuiltManifest, public_set
from dvme.sets.catalogue import PublicSet, public_sets

__all__ = ["BuiltManifest", "PublicSet", "public_set", "public_sets"]
