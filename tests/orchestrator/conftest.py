"""Fixtures of MLflow's empty database, and of registered models: a home with trained fold runs, a registry."""

from tests.support.empty_mlflow import empty_database_fixture, quick_databases_fixture  # noqa: F401
from tests.support.registry_home import (  # noqa: F401
    home_fixture,
    register_fixture,
    registered_at_fixture,
    registry_fixture,
    train_fixture,
)
