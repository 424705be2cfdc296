"""Work on the machines of a Ray cluster: `connection.py` reaches one, `workers.py` hands out the work."""

from dvme.cluster.connection import Cluster, cluster
from dvme.cluster.workers import Share

__all__ = ["Cluster", "Share", "cluster"]
