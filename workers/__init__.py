"""One fold run: tensors in, result out. Imports and runs without ray, mlflow or optuna."""
