"""A short rage; ``python -m tests.integration.chaos`` runs longer ones, with failures of Ray's own calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.chaos import rage
from tests.integration.conftest import MakeEnsemble

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("keeps", [False, True])
def test_a_history_under_chaos_is_linearizable(own_ensemble: MakeEnsemble, tmp_path: Path, keeps: bool) -> None:
    name = own_ensemble(f"chaos-{keeps}", storage=str(tmp_path) if keeps else None).name
    assert "0 undecided" in rage(name, 12.0, seed=7)
