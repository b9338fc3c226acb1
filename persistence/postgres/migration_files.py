"""What the schema is made of, read from package data, so that an installed wheel migrates like a checkout."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files

SCHEMA = "public"
"""Where people's dashboards and scripts expect the tables."""

_FILE = re.compile(r"(?P<name>\d{4}_\w+)\.up\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema: idempotent SQL there and back, naming no schema."""

    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        return sha256(self.up.encode()).hexdigest()


@cache
def load_migrations() -> Sequence[Migration]:
    """All migrations in order. A file without its counterpart is a FileNotFoundError."""
    folder = files("persistence.postgres").joinpath("migrations")
    names = sorted(match["name"] for entry in folder.iterdir() if (match := _FILE.fullmatch(entry.name)))
    return tuple(
        Migration(
            name,
            up=folder.joinpath(f"{name}.up.sql").read_text("utf-8"),
            down=folder.joinpath(f"{name}.down.sql").read_text("utf-8"),
        )
        for name in names
    )


@cache
def history_sql() -> str:
    """Creates hub_migrations, which no migration can, since it records them."""
    return files("persistence.postgres").joinpath("migrations", "hub_migrations.sql").read_text("utf-8")


@cache
def catalog_sql() -> str:
    """Query for the facts of one schema ($1)."""
    return files("persistence.postgres").joinpath("catalog.sql").read_text("utf-8")
