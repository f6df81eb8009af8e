"""Settings that cannot work are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from concoord_ray.config import LARGEST_FRAME_BYTES, MAX_MEMBERS, Config
from concoord_ray.errors import ConfigurationError


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"acceptors": 0}, "acceptors=0: an ensemble needs at least one"),
        ({"replicas": -1}, "replicas=-1: an ensemble needs at least one"),
        ({"acceptors": MAX_MEMBERS + 1}, f"at most {MAX_MEMBERS}"),
        ({"registries": 2**70}, f"at most {MAX_MEMBERS}"),
        ({"max_sessions": 2**70}, "give a number up to"),
        ({"heartbeat_interval_s": 0.0}, "positive number of seconds"),
        ({"session_ttl_s": float("nan")}, "positive number of seconds"),
        ({"election_timeout_s": float("inf")}, "positive number of seconds"),
        ({"max_sessions": 0}, "nothing would get through"),
        ({"checkpoint_interval_slots": 0}, "nothing would get through"),
        ({"send_window_bytes": -1}, "nothing would get through"),
        ({"max_frame_bytes": LARGEST_FRAME_BYTES + 1}, f"at most {LARGEST_FRAME_BYTES} bytes"),
        ({"placement": "spread"}, "use SPREAD"),
        ({"session_ttl_s": 0.3}, "4 times heartbeat_interval_s .* live clients would expire"),
        ({"election_timeout_s": 0.15}, "2 times heartbeat_interval_s .* leaders that live"),
        ({"report_interval_s": 1.0}, "3 times report_interval_s .* count as silent"),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Config(**settings)


def test_one_of_each_is_an_ensemble_and_the_largest_frame_is_one() -> None:
    Config(acceptors=1, replicas=1, registries=1, max_frame_bytes=LARGEST_FRAME_BYTES)
