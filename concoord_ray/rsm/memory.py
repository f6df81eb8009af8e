"""Whether a MemoryError says something about this process, which must stop then, or about what was asked of it."""

from __future__ import annotations

#: Who cannot have this much has no memory left.
_ORDINARY_BYTES = 64 << 20


def has_memory() -> bool:
    """Whether this process could get memory for what is ordinary."""
    try:
        bytearray(_ORDINARY_BYTES)
    except MemoryError:
        return False
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether what user code raised is no answer: other replicas may have had enough.

    With memory left it is one like any other: who asks for what no machine has fails alike on all replicas.
    """
    return issubclass(type(error), MemoryError) and not has_memory()
