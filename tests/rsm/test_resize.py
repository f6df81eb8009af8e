"""How many members there are to be is said in the log, and by nothing else."""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.rsm.command import Resize
from tests.rsm.log import Log, refused, result


def test_a_number_that_is_not_given_stays_what_it_was_to_be() -> None:
    client = Log().open()
    start = Config()
    slot, *size = result(*client.send(Resize(None, 5)))
    assert size == [start.acceptors, 5]
    later, *size = result(*client.send(Resize(1, None)))
    assert size == [1, 5]
    assert later > slot
    assert result(*client.send(Resize(None, None)))[1:] == (1, 5)


def test_an_ensemble_of_nobody_is_refused_and_changes_nothing() -> None:
    client = Log().open()
    for command in (Resize(0, None), Resize(3, -1)):
        assert refused(*client.send(command)) == "ConfigurationError"
    assert result(*client.send(Resize(None, 2)))[1:] == (Config().acceptors, 2)
