"""The deterministic simulator: the production cores under virtual time, in the spirit of TigerBeetle's VOPR.

Everything here follows from one seed: no wall clock, no threads, no iteration over sets of strings. Two runs of a seed
give the same trace hash; a failing seed is a complete bug report.

    python -m tests.sim --seeds 20000                  the whole system
    python -m tests.sim --seeds 20000 --kind protocol  consensus alone
    python -m tests.sim --seeds 20000 --kind storage   consensus on the production storage, on real files
    python -m tests.sim --seeds 20000 --kind thin      consensus on large values, over a slow network
    python -m tests.sim --seed 42 --trace              one seed, with everything that happened in it

From the ground up: ``clock``, ``host``, ``links``, ``network``, ``connection``, ``store`` and ``disk`` are the world,
with ``real_disk``, ``real_journal``, ``trouble`` and ``spoilt`` for real files; ``faults`` is the storm, and
``promises`` says how much of it the ensemble is to survive; ``scenario`` says what a seed is made of. ``acceptor``,
``replica``, ``follower`` and ``client`` are thin shells around the production classes, as ``concoord_ray.roles`` are,
and ``lines`` is how they reach their peers; ``cluster``, ``protocol`` and ``full_stack`` put them together.
``workload`` is what clients do. ``invariants`` and ``written`` hold at every step, ``judgement`` at the end. ``run``
runs a seed and ``many`` runs many; the ``mutants`` are the mistakes that all of this must find.

``history``, ``models`` and ``linearizability`` know nothing of the simulator: they also judge histories recorded on
Ray.
"""
