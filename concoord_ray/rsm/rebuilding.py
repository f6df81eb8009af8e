"""Which code of users runs while state is unpickled.

Users' is all code that is neither Python's nor ours, shipped or installed. (If it is installed and in C it is trusted:
arrays are common, large, and can be unpickled.) It runs not only in classes that say how they are pickled. Items are
put into a ``dict``, ``list`` or ``deque`` by the subclass's own methods, before it has its attributes; a ``set`` or
``Counter`` is made by a call of its class, whatever arguments that wants; and a class is made by its metaclass.
"""

from __future__ import annotations

import sys
import traceback
from collections import deque
from types import FunctionType
from typing import Any

from concoord_ray.rsm.codec import came_by_value

_RESTORING = (
    "__getattr__",
    "__getattribute__",
    "__hash__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__setattr__",
    "__setstate__",
)
#: Of containers.
_FILLING = ("__setitem__", "append", "extend")
#: Of what is made by a call.
_CALLED = ("__init__", "__call__", "__prepare__")
_IN_PYTHON = (FunctionType, classmethod, staticmethod)
_KNOWN = frozenset({*sys.stdlib_module_names, "cloudpickle", "msgspec", __name__.partition(".")[0]})


def runs_to_restore(obj: Any) -> bool:
    """Whether code of users runs when this, or anything else of its type, is unpickled."""
    kind: Any = type(obj)
    names = set(_RESTORING)
    is_class = issubclass(kind, type)
    if is_class or (kind.__reduce__, kind.__reduce_ex__) != (object.__reduce__, object.__reduce_ex__):
        names.update(_CALLED)
    if issubclass(kind, (list, dict, deque)):
        names.update(_FILLING)
    if is_class and any(_is_users(base, "__init_subclass__") for base in type.mro(obj)[1:]):
        return True
    return any(_is_users(base, name) for base in kind.__mro__ for name in names)


def raised_in(error: BaseException) -> str:
    """The users' code that raised an error, in brackets; empty if it was Python's or ours."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames or _is_known(frames[-1].f_globals.get("__name__")):
        return ""
    code = frames[-1].f_code
    return f" (raised in {getattr(code, 'co_qualname', code.co_name)} of {code.co_filename})"


def _is_users(base: type, name: str) -> bool:
    """Whether this class has a method of that name, and is a user's."""
    method = vars(base).get(name)
    if method is None:
        return False
    return came_by_value(base) or (isinstance(method, _IN_PYTHON) and not _is_known(vars(base).get("__module__")))


def _is_known(module: object) -> bool:
    """Whether the module is Python's own, or ours, or one of those that pickle for us."""
    return not isinstance(module, str) or (module.partition(".")[0] in _KNOWN and module != "__main__")
