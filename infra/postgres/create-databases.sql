-- MLflow and Optuna each keep a table of their schema's version under the same name, so each has a database of its own.
CREATE DATABASE mlflow;
CREATE DATABASE optuna;
