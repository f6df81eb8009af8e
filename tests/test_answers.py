"""What a caller is told of a result that it cannot read."""

from __future__ import annotations

import pickle

import pytest

from concoord_ray.answers import Encoded, unpack
from concoord_ray.errors import ConcoordError
from concoord_ray.rsm.command import Outcome, Reply


class Stubborn:
    """Can be pickled, and not be unpickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> tuple[object, tuple[type[BaseException]]]:
        return _raise, (self.kind,)


def _raise(kind: type[BaseException]) -> None:
    raise kind("no such thing here")


@pytest.mark.parametrize("kind", [ModuleNotFoundError, ValueError, SystemExit, GeneratorExit])
def test_a_result_that_cannot_be_read_was_made_all_the_same(kind: type[BaseException]) -> None:
    """A bare error would invite its caller to call again."""
    with pytest.raises(ConcoordError, match=f"was executed.*{kind.__name__}: no such thing here") as raised:
        unpack(Reply(1, 1, Outcome.VALUE, pickle.dumps(Stubborn(kind))))
    assert isinstance(raised.value.__cause__, kind)


def test_where_a_ref_is_read_it_is_said_too() -> None:
    on_its_way = pickle.dumps(Encoded(pickle.dumps(Stubborn(ValueError))))
    with pytest.raises(ConcoordError, match="was executed"):
        pickle.loads(on_its_way)
