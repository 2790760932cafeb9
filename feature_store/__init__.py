"""Sound in, tensors out. Knows nothing of models, Ray Tune, Optuna or MLflow."""
