"""Commands over a real Postgres."""

from tests.postgres.conftest import committed, database_url, empty_url, postgres_url, server

__all__ = ["committed", "database_url", "empty_url", "postgres_url", "server"]
