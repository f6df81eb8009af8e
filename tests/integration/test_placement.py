"""Several nodes: members apart where that is asked for, and a gateway for each node that calls."""

from __future__ import annotations

import pytest

from tests.integration.conftest import INIT_TIMEOUT_S
from tests.integration.drivers import Drivers

pytestmark = [pytest.mark.ray, pytest.mark.slow]

TWO_NODES = """
import ray
import concoord_ray as concoord
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
concoord.init("spread", acceptors=1, replicas=2, placement="STRICT_SPREAD")
counter = concoord.Counter.options(ensemble="spread").remote()

@ray.remote
def count(counter):
    return ray.get(counter.increment.remote()), counter.increment()

for n, node in enumerate(ray.nodes()):
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    print(*ray.get(count.options(scheduling_strategy=there).remote(counter)))
status = concoord.status("spread")
print(len({replica.node_id for replica in status.replicas}), len({gateway.node_id for gateway in status.gateways}))
concoord.shutdown("spread")
ray.shutdown()
cluster.shutdown()
"""


def test_strict_spread_puts_each_replica_on_a_node_and_each_node_has_a_gateway(drivers: Drivers) -> None:
    """The nodes have one CPU each, which the ensemble leaves to the tasks."""
    assert drivers.run(TWO_NODES, connect=False, timeout_s=INIT_TIMEOUT_S) == ["1 2", "3 4", "2 2"]
