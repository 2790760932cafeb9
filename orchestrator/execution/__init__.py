"""Execution of fold runs: the Ray cluster, its tasks, the share of a GPU per run, the lease per driver."""
