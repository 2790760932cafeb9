"""Optuna's side of a sweep: the study per search space, its status, its budget, and what earlier studies teach."""
