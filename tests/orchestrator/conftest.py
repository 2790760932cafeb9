"""Fixtures that the tests of registered models share: a home with trained fold runs, and a registry of its own."""

from tests.registry_home import (  # noqa: F401
    empty_database_fixture,
    home_fixture,
    register_fixture,
    registered_at_fixture,
    registry_fixture,
    train_fixture,
)
