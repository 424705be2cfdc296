"""Work on the machines of a Ray cluster: `connection.py` reaches one, `workers.py` hands out the work."""

from dvme.cluster.connection import Cluster, check_cluster, cluster
from dvme.cluster.workers import Share

__all__ = ["Cluster", "Share", "check_cluster", "cluster"]
