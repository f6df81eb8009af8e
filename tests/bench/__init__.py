"""How fast calls are, as ratios to a bare Ray actor measured in the same run: ``python -m tests.bench``."""
