"""Users by number: each has an id and a token without a look-up."""

from functools import cache

from hub.identity import issue

SECRET = "a secret of the benchmark, long enough for HS256"
_TTL_S = 86_400


def mechanic_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-00000000a000"


def customer_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-00000000c000"


def number_of(user_id: str) -> int:
    return int(user_id[:8], 16)


@cache
def mechanic_token(number: int) -> str:
    return issue(SECRET, role="mechanic", user_id=mechanic_id(number), ttl=_TTL_S, name=f"Mechanic {number}")


def customer_token(number: int) -> str:
    return issue(SECRET, role="customer", user_id=customer_id(number), ttl=_TTL_S, name="Mia Berg")
