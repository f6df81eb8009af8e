"""The main job, live: ``python -m concoord_ray.demo``.

A Ray of its own on this machine, an ensemble of three acceptors, three replicas and a registry, and worker processes
that share a semaphore and a counter. Half-way the leader's process is killed. At the end the workers' own records are
held against what the ensemble says: nothing lost, nothing counted twice, never more holders than permits.
"""
