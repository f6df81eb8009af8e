"""What blocking objects are built from: an object of yours holds them, and returns what their methods return."""

from concoord_ray.threadingobject.dbarrier import DBarrier
from concoord_ray.threadingobject.dboundedsemaphore import DBoundedSemaphore
from concoord_ray.threadingobject.dcondition import DCondition
from concoord_ray.threadingobject.devent import DEvent
from concoord_ray.threadingobject.dlatch import DCountDownLatch
from concoord_ray.threadingobject.dlock import DLock
from concoord_ray.threadingobject.dqueue import DQueue
from concoord_ray.threadingobject.drlock import DRLock
from concoord_ray.threadingobject.drwlock import DRWLock
from concoord_ray.threadingobject.dsemaphore import DSemaphore

__all__ = [
    "DBarrier",
    "DBoundedSemaphore",
    "DCondition",
    "DCountDownLatch",
    "DEvent",
    "DLock",
    "DQueue",
    "DRLock",
    "DRWLock",
    "DSemaphore",
]
