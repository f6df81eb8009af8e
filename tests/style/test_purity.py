"""The core is deterministic, and Ray stays at the edge.

import-linter holds the same for imports through other modules; here are the rules that are not about imports, and the
modules whose names import-linter would have to know beforehand.
"""

from __future__ import annotations

from tests.style import rules
from tests.style.source import Module, modules
from tests.style.test_house import assert_none

PURE = (
    "concoord_ray.objects",
    "concoord_ray.paxos",
    "concoord_ray.rsm",
    "concoord_ray.session",
    "concoord_ray.threadingobject",
)

MAY_IMPORT_RAY = frozenset(
    {
        "concoord_ray.actors",
        "concoord_ray.attach",
        "concoord_ray.building",
        "concoord_ray.cli",
        "concoord_ray.demo",
        "concoord_ray.ensemble",
        "concoord_ray.placement",
        "concoord_ray.recovery",
        "concoord_ray.genesis",
        "concoord_ray.handle",
        "concoord_ray.owner",
        "concoord_ray.refs",
        "concoord_ray.resizing",
        "concoord_ray.restart",
    }
)


def pure_modules() -> list[Module]:
    """The modules that replicas and the simulator must be able to run with equal results."""
    return [
        module
        for module in modules("concoord_ray")
        if any(module.dotted == name or module.dotted.startswith(f"{name}.") for name in PURE)
    ]


def test_the_core_is_pure() -> None:
    pure = pure_modules()
    assert "concoord_ray.paxos.ballot" in {module.dotted for module in pure}
    assert_none(line for module in pure for line in rules.impurities(module))


def test_only_the_edge_imports_ray() -> None:
    assert_none(line for module in modules("concoord_ray") for line in rules.ray_imports(module, MAY_IMPORT_RAY))
