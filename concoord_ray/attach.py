"""This process's attachments: one client per ensemble, and the gateway of this process's node.

Keyed by Ray's own worker id, which is new after every ``ray.init``: an attachment never outlives the connection to the
cluster that it was made on.

A forked child has lost its threads, and Ray: any question to Ray's GCS would hang there. So it makes attachments of its
own, with sessions of their own, from what its parent knew: direct calls work, ``.remote()`` is refused.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import socket
import threading
from typing import Any

import ray

from concoord_ray import genesis
from concoord_ray.actors import RayDiscovery, gateway_index, gateway_on
from concoord_ray.client import Client
from concoord_ray.directory import Directory
from concoord_ray.errors import ConfigurationError, NoSuchObject
from concoord_ray.genesis import Plan
from concoord_ray.net.identity import Address
from concoord_ray.owner import TASKS
from concoord_ray.paxos.view import Role, View
from concoord_ray.roles.boot import Boot, Discovery
from concoord_ray.rsm.command import ListObjects, Lookup


class Attachment:
    """One ensemble, as this process reaches it."""

    def __init__(
        self, plan: Plan, worker_id: bytes, inherited: Directory | None = None, inherited_node_id: str = ""
    ) -> None:
        """``inherited`` is what the parent of a forked child knew."""
        self.plan = plan
        self.worker_id = worker_id
        boot = plan.boot(Role.CLIENT, 0)
        self._is_inherited = inherited is not None
        discovery: Discovery = _OwnDiscovery(boot, worker_id) if inherited is None else _InheritedDiscovery(inherited)
        # After ray.shutdown nobody can release what this process holds: the session ends with the connection to Ray.
        description = f"pid {os.getpid()} on {socket.gethostname()}"
        node_id = _node_id() if inherited is None else inherited_node_id
        self.node_id = node_id
        self.client = Client(
            boot,
            discovery,
            description,
            lambda: _worker_id() == worker_id,
            gateway=gateway_index(node_id),
            is_task_running=TASKS.is_running,
            is_current=(lambda: True) if self._is_inherited else lambda: _is_current(plan, worker_id),
        )
        self.client.start()
        #: The place of the next call in this process's line at the gateway.
        self.orders = itertools.count()
        # Also for those who never call ``.remote()``: the gateway notices when this process dies.
        self._gateway: Any = gateway_on(plan, node_id) if inherited is None else None

    @property
    def gateway(self) -> Any:
        """The actor handle of this node's gateway."""
        if self._is_inherited:
            raise ConfigurationError(
                "This process was forked from one that uses Ray, which does not work in forked children. Call "
                "handle.method(...) or await handle.method.aio(...) here, or start the process by 'spawn'."
            )
        return self._gateway


class _OwnDiscovery(RayDiscovery):
    """Asks Ray only as long as this process is connected to it as it was: any other question would start a new Ray."""

    def __init__(self, boot: Boot, worker_id: bytes) -> None:
        super().__init__(boot)
        self._worker_id = worker_id

    async def registries(self) -> dict[int, tuple[Address, int]]:
        """See ``Discovery``."""
        is_ending = not threading.main_thread().is_alive()  # Its executor takes no more work.
        return await super().registries() if _worker_id() == self._worker_id and not is_ending else {}


class _InheritedDiscovery:
    """Implements ``roles.boot.Discovery`` with what was known at the fork; the registries tell the rest."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    async def view(self) -> View:
        """See ``Discovery``. Clients do not ask."""
        raise ConfigurationError("A forked child cannot ask for the view of an ensemble.")

    async def registries(self) -> dict[int, tuple[Address, int]]:
        """See ``Discovery``."""
        known = self._directory.members
        return {r.member.index: (r.address, r.member.incarnation) for r in known if r.member.role is Role.REGISTRY}


_attachments: dict[str, Attachment] = {}
#: In a forked child: what its parent was attached to, and the parent's attachments, kept from being finalized here.
_inherited: dict[str, tuple[Plan, Directory, str]] = {}
_parents: list[Attachment] = []
_lock = threading.Lock()


def find_attachment(name: str, ensemble: str | None = None, life: str | None = None) -> Attachment | None:
    """The attachment to the ensemble called ``name``, made if the ensemble exists.

    Whoever knows the id of the ``ensemble`` gets that one, unless it has ceased to be the one of that name; the same
    holds for the ``life`` of it.
    """
    worker_id = _worker_id()
    known = _attachments.get(name)
    if known is not None and _is_usable(known, worker_id) and _is_meant(known.plan, ensemble, life):
        return known
    if not worker_id:
        return None
    with _lock:
        known = _attachments.get(name)
        is_usable = known is not None and _is_usable(known, worker_id)
        if known is not None and is_usable and _is_meant(known.plan, ensemble, life):
            return known
        plan, directory, node_id = _inherited.get(name, (None, None, ""))
        if plan is None and not _parents:
            held = genesis.find_holder(name)
            plan = None if held.is_ending else held.plan
        if plan is None:
            return None
        if known is not None and is_usable and plan.life == known.plan.life:
            return known  # It is who asks that is out of date.
        if known is not None and is_usable:
            known.client.declare_gone()
        elif known is not None:
            known.client.close()
        made = _attachments[name] = Attachment(plan, worker_id, directory, node_id)
        return made


def _is_meant(plan: Plan, ensemble: str | None, life: str | None) -> bool:
    return ensemble in (None, plan.ensemble) and life in (None, plan.life)


def _is_usable(attachment: Attachment, worker_id: bytes) -> bool:
    return attachment.worker_id == worker_id and not attachment.client.is_closed


def _is_current(plan: Plan, worker_id: bytes) -> bool:
    """Whether the ensemble of the plan's name is still the plan's, and to stay. Asks GCS, if it can be asked."""
    if _worker_id() != worker_id or not threading.main_thread().is_alive():
        return True
    return genesis.is_held_by(plan)


def _worker_id() -> bytes:
    """Who this process is to Ray, empty if it is nobody; new after every ``ray.init``.

    The public ``ray.get_runtime_context().get_worker_id()`` says the same in ten times the time, and every call asks.
    """
    worker = ray._private.worker.global_worker
    return bytes(worker.worker_id) if worker.connected else b""


def _node_id() -> str:
    return str(ray.get_runtime_context().get_node_id())


def attachment_to(name: str, ensemble: str | None = None, life: str | None = None) -> Attachment:
    """The attachment to an ensemble that must exist; see ``find_attachment``."""
    found = find_attachment(name, ensemble, life)
    if found is None:
        if not ray.is_initialized():
            raise ConfigurationError("Ray is not initialized here: call ray.init() or concoord.init() first.")
        raise ConfigurationError(
            f"There is no ensemble called {name!r} on this Ray cluster. Start it with concoord.init(name={name!r}); "
            f"those that exist: {', '.join(genesis.plan_names()) or 'none'}."
        )
    return found


def ask(name: str, question: Lookup | ListObjects) -> tuple[Attachment, Any]:
    """The answer of the ensemble called ``name``, and the attachment to it.

    If the one that this process was attached to turns out to be gone, the one that has its name now is asked.
    """
    while True:
        attachment = attachment_to(name)
        try:
            return attachment, attachment.client.call(question, readonly=True)
        except NoSuchObject:
            if not attachment.client.is_gone:
                raise


def detach(name: str) -> None:
    """Close this process's connection to an ensemble."""
    with _lock:
        known = _attachments.pop(name, None)
    if known is not None:
        known.client.close()


def _detach_all() -> None:
    for name in list(_attachments):
        detach(name)


def _forget_in_child() -> None:
    """The threads are not there any more, and the connections are the parent's."""
    global _lock  # noqa: PLW0603  # It may have been held at the fork.
    _lock = threading.Lock()
    for name, attachment in _attachments.items():
        _inherited[name] = (attachment.plan, attachment.client.directory, attachment.node_id)
        _parents.append(attachment)
        for descriptor in attachment.client.descriptors():
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _attachments.clear()


atexit.register(_detach_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
