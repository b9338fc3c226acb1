"""Valkey and Postgres without installing either: real servers from wheels, for `hub dev` and for tests."""

from persistence.embedded.postgres import EmbeddedPostgres
from persistence.embedded.process import EmbeddedStoreError
from persistence.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedStoreError", "EmbeddedValkey"]
