"""A sweep: Optuna proposes trials, Ray Tune runs their folds, the best ones are trained again and registered."""
