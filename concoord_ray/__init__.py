"""Replicated Python objects and fault-tolerant distributed threading on Ray, by Paxos.

``import concoord_ray as concoord``; the README begins with an example.
"""

from concoord_ray.determinism import NondeterminismWarning
from concoord_ray.ensemble import Ensemble, delete, get, init, list_objects, shutdown, status
from concoord_ray.errors import (
    CallCancelled,
    CallTimeout,
    ConcoordError,
    ConfigurationError,
    Diverged,
    FrameTooLarge,
    NoSuchObject,
    NotDeterministic,
    ObjectExists,
    OutcomeUnknown,
    Overloaded,
    ProtocolViolation,
    QuorumLost,
    SessionExpired,
    StorageCorrupt,
    StorageError,
    StorageFailed,
    Unauthorized,
)
from concoord_ray.handle import Handle, Method
from concoord_ray.recovery import backup, recover
from concoord_ray.replicated import ReplicatedClass, replicated
from concoord_ray.rsm.context import now, random
from concoord_ray.rsm.methods import blocking, readonly, when
from concoord_ray.rsm.snapshot import SnapshotFailed, SnapshotUnusable
from concoord_ray.shipped import (
    Barrier,
    BoundedSemaphore,
    Condition,
    CountDownLatch,
    Counter,
    Election,
    Event,
    Lock,
    Queue,
    RLock,
    RWLock,
    Semaphore,
)
from concoord_ray.status import EnsembleStatus, MemberStatus

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "CallCancelled",
    "CallTimeout",
    "ConcoordError",
    "Condition",
    "ConfigurationError",
    "CountDownLatch",
    "Counter",
    "Diverged",
    "Election",
    "Ensemble",
    "EnsembleStatus",
    "Event",
    "FrameTooLarge",
    "Handle",
    "Lock",
    "MemberStatus",
    "Method",
    "NoSuchObject",
    "NondeterminismWarning",
    "NotDeterministic",
    "ObjectExists",
    "OutcomeUnknown",
    "Overloaded",
    "ProtocolViolation",
    "Queue",
    "QuorumLost",
    "RLock",
    "RWLock",
    "ReplicatedClass",
    "Semaphore",
    "SessionExpired",
    "SnapshotFailed",
    "SnapshotUnusable",
    "StorageCorrupt",
    "StorageError",
    "StorageFailed",
    "Unauthorized",
    "backup",
    "blocking",
    "delete",
    "get",
    "init",
    "list_objects",
    "now",
    "random",
    "readonly",
    "recover",
    "replicated",
    "shutdown",
    "status",
    "when",
]
