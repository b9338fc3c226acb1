"""A few people to try things with."""

import asyncpg

MECHANICS = (
    ("5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a01", "Ana", "Silva", "approved"),
    ("5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a02", "Ben", "Okafor", "approved"),
    ("5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a03", "Chloe", "Martin", "approved"),
    ("5b1f6f0e-0c38-4d8e-9a57-1f1f6a2f0a04", "Dario", "Rossi", "pending"),
)
CUSTOMERS = (
    ("c0a1d3e4-77b2-4f0b-8d6c-2e4b9c1d0b01", "Mia Berg"),
    ("c0a1d3e4-77b2-4f0b-8d6c-2e4b9c1d0b02", "Noah Lind"),
)
ADMIN = ("ad317b1c-3d52-4a8e-b1a9-6c0e5f7d0c01", "Operator")

_KNOWN = "SELECT EXISTS (SELECT FROM customers WHERE id = $1)"
_MECHANIC = """
INSERT INTO mechanics (id, first_name, last_name, status) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_CUSTOMER = "INSERT INTO customers (id, full_name) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_FAVORITE = """
INSERT INTO customer_favorites (customer_id, mechanic_id, rank) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
"""
_CREDITS = "INSERT INTO credit_ledger (customer_id, delta, reason) VALUES ($1, $2, 'grant')"
_GRANTED = 10


async def load_demo(url: str) -> list[tuple[str, str, str]]:
    """Enter them once; (role, name, id) of each who can have a token."""
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval(_KNOWN, CUSTOMERS[0][0]):
            async with connection.transaction():
                await _enter(connection)
    finally:
        await connection.close()
    mechanics = [("mechanic", f"{first} {last}", id_) for id_, first, last, s in MECHANICS if s == "approved"]
    customers = [("customer", name, id_) for id_, name in CUSTOMERS]
    return [*mechanics, *customers, ("admin", ADMIN[1], ADMIN[0])]


async def _enter(connection: asyncpg.Connection) -> None:
    await connection.executemany(_MECHANIC, MECHANICS)
    await connection.executemany(_CUSTOMER, CUSTOMERS)
    favorites = [
        (customer, mechanic, rank)
        for customer, _ in CUSTOMERS
        for rank, (mechanic, *_rest) in enumerate(MECHANICS[:3], 1)
    ]
    await connection.executemany(_FAVORITE, favorites)
    await connection.executemany(_CREDITS, [(customer, _GRANTED) for customer, _ in CUSTOMERS])
