"""Sweeps as YAML: a base config, a conditional space, folds, seeds, pruner, resources, budget."""
