"""All that customers, mechanics and services may do and see, put together."""

from hub.api.credits import CreditsApi
from hub.api.customer import CustomerApi
from hub.api.favorites import FavoritesApi
from hub.api.gone import GoneApi
from hub.api.mechanic import MechanicApi
from hub.api.operation import Operation
from hub.api.presence import PresenceApi, States
from hub.api.statistics import StatisticsApi
from hub.booking import BookingDesk
from hub.desk import Desk
from hub.ports import Clock, Stores


def people(
    *, stores: Stores, booking: BookingDesk, desk: Desk, clock: Clock, capacity: int, presence: States
) -> list[Operation]:
    directory = stores.directory
    return [
        *CustomerApi(booking=booking, desk=desk, directory=directory, clock=clock).operations(),
        *CreditsApi(ledger=stores.ledger).operations(),
        *MechanicApi(desk=desk, clock=clock).operations(),
        *FavoritesApi(favorites=stores.favorites, directory=directory).operations(),
        *StatisticsApi(statistics=stores.statistics, desk=desk, capacity=capacity).operations(),
        *GoneApi().operations(),
        *PresenceApi(presence=stores.presence, states=presence, directory=directory).operations(),
    ]
