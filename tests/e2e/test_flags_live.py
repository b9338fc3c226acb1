"""The flag is toggled by plain SQL while bookings run on every node: none fails, and each toggle holds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest_asyncio

from hub.domain.flags import FAVORITES_PRIORITY, bucket
from tests.e2e.world import Person, World

NODES = (0, 1)


@pytest_asyncio.fixture
async def restored(world: World) -> AsyncIterator[None]:
    """The flag as the other tests expect it, on every node."""
    yield
    await world.postgres.execute("ALTER TABLE feature_flags ENABLE TRIGGER USER")
    await flag(world, is_enabled=True, enabled_for_roles=["admin", "customer"], rollout_percentage=100)
    ana = await world.mechanic()
    await ana.online()
    await holds(world, ana, priority=True)


async def flag(world: World, **values: object) -> None:
    """By plain SQL, as somebody at psql does it."""
    columns = ", ".join(f"{name} = ${n}" for n, name in enumerate(values, 2))
    await world.postgres.execute(
        f"UPDATE feature_flags SET {columns} WHERE flag_key = $1", FAVORITES_PRIORITY, *values.values()
    )


async def prioritised(customer: Person, mechanic: Person, node: int) -> bool:
    """Whether a booking with a favourite got priority. The customer is free again afterwards."""
    booked = await customer.book(mechanic, node=node)
    await customer.post(f"/api/customer/sessions/{booked['session']['id']}/end", node=node)
    routing = booked["routing"]
    assert (routing["type"], routing["reason"]) in (("priority", None), ("broadcast", "flag_disabled"))
    return bool(routing["type"] == "priority")


async def holds(world: World, mechanic: Person, *, priority: bool) -> None:
    """Every node books this way."""
    customer = world.customer()
    for node in NODES:

        async def as_said(node: int = node) -> bool:
            return await prioritised(customer, mechanic, node) is priority

        await world.eventually(as_said)


@contextlib.asynccontextmanager
async def bookings(world: World, mechanic: Person) -> AsyncIterator[list[bool]]:
    """Customers who book and cancel on both nodes, again and again; what their bookings became."""
    became: list[bool] = []
    over = asyncio.Event()

    async def keep_booking(node: int) -> None:
        customer = world.customer()
        while not over.is_set():
            became.append(await prioritised(customer, mechanic, node))

    running = [asyncio.create_task(keep_booking(node)) for node in NODES * 2]
    yield became
    over.set()
    await asyncio.gather(*running)


async def test_toggles_under_load_fail_no_booking_and_hold_on_every_node(
    world: World, restored: None
) -> None:
    ana = await world.mechanic()
    await ana.online()
    async with bookings(world, ana) as became:
        for is_enabled in (False, True, False, True):
            await flag(world, is_enabled=is_enabled)
            await holds(world, ana, priority=is_enabled)
    assert {True, False} == set(became)


async def test_a_toggle_that_notifies_nobody_is_found_by_the_poll(world: World, restored: None) -> None:
    ana = await world.mechanic()
    await ana.online()
    await world.postgres.execute("ALTER TABLE feature_flags DISABLE TRIGGER USER")
    async with bookings(world, ana):
        await flag(world, is_enabled=False)
        await holds(world, ana, priority=False)


async def test_the_rollout_is_the_same_for_a_customer_on_every_node(world: World, restored: None) -> None:
    ana = await world.mechanic()
    await ana.online()
    await flag(world, rollout_percentage=0)
    await holds(world, ana, priority=False)
    await flag(world, rollout_percentage=50)
    customers = [world.customer() for _ in range(16)]
    lucky = next(c for c in customers if bucket(FAVORITES_PRIORITY, c.id) < 50)
    for node in NODES:

        async def rolled_out(node: int = node) -> bool:
            return await prioritised(lucky, ana, node)

        await world.eventually(rolled_out)
    for customer in customers:
        has_it = bucket(FAVORITES_PRIORITY, customer.id) < 50
        answers = [await prioritised(customer, ana, node) for node in (*NODES, *NODES)]
        assert answers == [has_it] * 4


async def test_only_the_roles_that_are_named_have_it(world: World, restored: None) -> None:
    ana = await world.mechanic()
    await ana.online()
    await flag(world, enabled_for_roles=["admin", "mechanic", "service"])
    await holds(world, ana, priority=False)
    service, mia = world.somebody("service"), world.customer()
    booked = await service.book(ana, customer_id=mia.id)
    assert booked["routing"]["reason"] == "flag_disabled"
    await flag(world, enabled_for_roles=["customer"])
    await holds(world, ana, priority=True)
