"""Adapters to the stores: Redis, Postgres, and embedded copies of both for development."""
