"""Finding an ensemble again by its data, when nothing of it is left in Ray.

Every node that is alive is asked what its disk has. Who has acceptor i's data gets acceptor i back; of two that have
some (it was once moved from a node that was lost, and is back), the one that came to the later epoch.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from concoord_ray.errors import ConfigurationError
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import View
from concoord_ray.storage.survey import Kept, survey

logger = logging.getLogger(__name__)

#: How long one node may take to look at its disk.
_SURVEY_TIMEOUT_S = 60.0


class Found(NamedTuple):
    """An ensemble that was before."""

    plan: Plan
    view: View
    #: By index of acceptor, the node with its data.
    nodes: dict[int, str]
    size: Size


def find_data(storage: str, name: str) -> Found | None:
    """The ensemble called ``name`` whose data are on the nodes, None if there is none.

    Raises ConfigurationError if there are two, neither of which was recovered from the other.
    """
    kept = _ask_nodes(storage, name)
    if not kept:
        return None
    latest = max(each.birth.generation for _, each in kept)
    births = {each.birth.ensemble: each.birth for _, each in kept if each.birth.generation == latest}
    if len(births) > 1:
        raise ConfigurationError(
            f"There are data of {len(births)} ensembles called {name!r} in {storage}: {', '.join(births)}. Move all "
            f"but one of these directories elsewhere, on every node."
        )
    (birth,) = births.values()
    mine = [(node, each) for node, each in kept if each.birth.ensemble == birth.ensemble]
    best: dict[int, tuple[int, str]] = {}
    newest = birth.view
    for node, each in mine:
        for index, view in each.acceptors.items():
            best[index] = max(best.get(index, (-2, "")), (-1 if view is None else view.epoch, node))
            newest = max(newest, view or newest, key=lambda view: view.epoch)
    size = Size(max(acceptor.index for acceptor in newest.acceptors) + 1, max(newest.replicas) + 1)
    config = msgspec.structs.replace(birth.config, storage=storage)
    plan = Plan(birth.name, birth.ensemble, birth.secret, config, birth.generation)
    return Found(plan, birth.view, {index: node for index, (_, node) in best.items()}, size)


def _ask_nodes(storage: str, name: str) -> list[tuple[str, Kept]]:
    alive: Any = ray.nodes  # It has no types.
    nodes = [node["NodeID"] for node in alive() if node["Alive"]]
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        asked[_survey.options(scheduling_strategy=there).remote(storage, name)] = node
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_SURVEY_TIMEOUT_S)
    if silent:
        logger.warning("%d nodes did not say what they have of %r; it is started without them", len(silent), name)
    found = []
    for ref in ready:
        found += [(asked[ref], kept) for kept in msgspec.msgpack.decode(ray.get(ref), type=list[Kept])]
    return found


def _look(storage: str, name: str) -> bytes:
    return msgspec.msgpack.encode(survey(storage, name))


_remote: Any = ray.remote
_survey = _remote(num_cpus=0)(_look)
