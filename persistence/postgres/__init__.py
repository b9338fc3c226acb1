"""Postgres keeps the record: schema migrations, pool, named queries and repositories."""
