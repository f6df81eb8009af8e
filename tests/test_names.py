"""What an object can be called."""

from __future__ import annotations

from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray import ensemble
from concoord_ray.errors import ConfigurationError


@pytest.mark.parametrize("name", ["\ud800", "", object(), 123, None, b"name"])
def test_what_cannot_be_a_name_is_refused_before_anybody_is_asked(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="name="):
        ensemble.get(name)
    with pytest.raises(ConfigurationError, match="name="):
        ensemble.delete(name)
    if name is not None:
        with pytest.raises(ConfigurationError, match="name="):
            concoord.Counter.options(name=name)
