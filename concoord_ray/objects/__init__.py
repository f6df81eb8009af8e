"""The objects that come with the package, as plain classes. ``concoord_ray`` has them replicated."""

from concoord_ray.objects.barrier import Barrier
from concoord_ray.objects.condition import Condition
from concoord_ray.objects.counter import Counter
from concoord_ray.objects.election import Election
from concoord_ray.objects.event import Event
from concoord_ray.objects.latch import CountDownLatch
from concoord_ray.objects.lock import Lock, RLock
from concoord_ray.objects.queue import Queue
from concoord_ray.objects.rwlock import RWLock
from concoord_ray.objects.semaphore import BoundedSemaphore, Semaphore

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "CountDownLatch",
    "Counter",
    "Election",
    "Event",
    "Lock",
    "Queue",
    "RLock",
    "RWLock",
    "Semaphore",
]
