"""Every error of ours that can reach a user can be caught by its name, as ``concoord.<name>``."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import concoord_ray as concoord
from concoord_ray.errors import ConcoordError

#: What ends inside, and where. Whoever adds to these says so.
INSIDE = {
    "StorageBusy": "A role goes around the directory or tries again (storage.places, actors), a retirement logs it.",
    "HandshakeFailed": "A connection; it is logged, and tried again.",
    "SlowPeer": "A connection.",
    "TLSFailed": "A connection.",
    "WrongMember": "A connection.",
}


def kinds(of: type[ConcoordError] = ConcoordError) -> Iterator[type[ConcoordError]]:
    """All errors of the package."""
    for module in pkgutil.walk_packages(concoord.__path__, "concoord_ray."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    pending = [of]
    while pending:
        kind = pending.pop()
        yield kind
        pending += [each for each in kind.__subclasses__() if each.__module__.startswith("concoord_ray.")]


def test_what_can_reach_users_has_a_name_for_them() -> None:
    named = {kind.__name__ for kind in kinds() if getattr(concoord, kind.__name__, None) is kind}
    assert {kind.__name__ for kind in kinds()} == named | INSIDE.keys()
    assert not named & INSIDE.keys()
    assert named <= set(concoord.__all__)


def test_they_survive_the_way_to_another_process() -> None:
    """Ray brings those that a replica or a gateway raises."""
    for kind in kinds():
        if kind.__name__ not in INSIDE:
            error = kind("what it says")
            again = pickle.loads(pickle.dumps(error))
            assert type(again) is kind
            assert (str(again), vars(again)) == (str(error), vars(error))
