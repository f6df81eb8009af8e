"""The objects that come with the package, as plain classes. ``concoord_ray`` has them replicated."""

from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore

__all__ = ["Counter", "Lock", "Semaphore"]
