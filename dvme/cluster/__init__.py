"""Work on the machines of a Ray cluster: `connection.py` reaches one, `workers.py` hands out the work.

`workers` keeps the table of who has what: two items for each worker, one in work and one waiting, and `ray.wait` for
what comes next. Ray's own pool and retries are not used. The pool knows no faults, and a retried call goes to the same
actor. What a dead worker had goes back to the front of the queue; only the item that it was at is blamed. A worker gets
items once it has answered, so that none waits for a machine that never comes. The tool is made in the first call, not
in the constructor, so that its errors arrive as themselves.

`ray.init` tries for minutes where no head node answers. So `connection` speaks the first frame of HTTP/2 to it before,
with ten seconds to answer. Ray's processes print to stdout whatever their settings are; file 1 is file 2 while a
connection lives.
"""

from dvme.cluster.connection import Cluster, check_cluster, cluster
from dvme.cluster.workers import Share

__all__ = ["Cluster", "Share", "check_cluster", "cluster"]
