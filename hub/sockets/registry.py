"""Who is connected to this node, and which of them hears what."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from hub.domain.model import Role, Status
from hub.sockets.frames import Outgoing


class Member(Protocol):
    """A connection as the registry sees it."""

    id: str
    watched: set[str]

    @property
    def user_id(self) -> str: ...
    @property
    def role(self) -> Role: ...
    @property
    def waits(self) -> bool: ...
    def send(self, message: Outgoing, written: Callable[[], None] | None = None) -> bool: ...
    def close(self, code: int, reason: str) -> None: ...


class Registry:
    """`told` remembers per open assignment which of this node's mechanics were told of it, so that they and
    nobody else hear how it ended; `announced`, which ones were broadcast here at all; `open`, which of those
    can still be had. Who hears the same is kept in the order of coming: that of their places in memory, which
    spares a broadcast a tenth of its CPU."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._users: dict[str, list[Member]] = {}
        self._watchers: dict[str, dict[Member, None]] = {}
        self._status: dict[str, Status] = {}
        self._approved: set[str] = set()
        self._listeners: dict[str, list[Member]] = {}
        self._told: dict[str, set[str]] = {}
        self._announced: set[str] = set()
        self._open: dict[str, None] = {}
        self._joining: set[Member] = set()
        self._chosen: dict[str, Status] = {}
        self.vacant = asyncio.Event()
        self.vacant.set()

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: Member) -> None:
        self.vacant.clear()
        if member.role is Role.MECHANIC:
            self._joining.add(member)
        self._members[member.id] = member
        self._users.setdefault(member.user_id, []).append(member)

    def joined(self, member: Member) -> None:
        """The welcome is ready: from here on it is noted what the member was told."""
        self._joining.discard(member)

    def remove(self, member: Member) -> bool:
        """False where it had gone before."""
        self._joining.discard(member)
        if self._members.pop(member.id, None) is None:
            return False
        left = self._users[member.user_id]
        left.remove(member)
        if not left:
            del self._users[member.user_id]
            self._status.pop(member.user_id, None)
            self._approved.discard(member.user_id)
            self._listeners.pop(member.user_id, None)
            self._chosen.pop(member.user_id, None)
        if not self._members:
            self.vacant.set()
        self.unwatch(member, list(member.watched))
        return True

    def get(self, connection: str) -> Member | None:
        return self._members.get(connection)

    def of_user(self, user_id: str) -> list[Member]:
        return self._users.get(user_id, [])

    def members(self) -> list[Member]:
        return list(self._members.values())

    def mechanics(self) -> list[str]:
        return [user for user, members in self._users.items() if members[0].role is Role.MECHANIC]

    def any_mechanic(self) -> bool:
        return any(members[0].role is Role.MECHANIC for members in self._users.values())

    def customers(self) -> list[str]:
        return [user for user, members in self._users.items() if members[0].role is Role.CUSTOMER]

    def set_status(self, mechanic_id: str, status: Status) -> None:
        if mechanic_id in self._users:
            self._status[mechanic_id] = status
            self._listen(mechanic_id)

    def set_approved(self, mechanic_id: str, approved: bool) -> None:
        if mechanic_id in self._users:
            (self._approved.add if approved else self._approved.discard)(mechanic_id)
            self._listen(mechanic_id)

    def choose(self, mechanic_id: str, status: Status) -> None:
        """What the mechanic chose here, to be announced again where the store forgets it."""
        if mechanic_id in self._users:
            self._chosen[mechanic_id] = status

    def status(self, mechanic_id: str) -> Status | None:
        """As others see it; None where it is not known here."""
        return self._status.get(mechanic_id)

    def chosen(self, mechanic_id: str) -> Status:
        return self._chosen.get(mechanic_id, Status.ONLINE)

    def online(self) -> list[str]:
        """Approved mechanics of this node who are online: those who hear broadcasts."""
        return list(self._listeners)

    def hears(self, mechanic_id: str) -> bool:
        return mechanic_id in self._listeners

    def broadcast(self, message: Outgoing, assignment_id: str, exclude: Iterable[str]) -> int:
        """To every listener but those excluded; how many sockets took it."""
        left_out = set(exclude)
        told = self._told.setdefault(assignment_id, set())
        self._announced.add(assignment_id)
        self._open[assignment_id] = None
        reached = 0
        # Copies: a member that does not keep up is closed, and gone from here, while it is being written to.
        for user_id, members in list(self._listeners.items()):
            if user_id in left_out:
                continue
            told.add(user_id)
            for member in tuple(members):
                reached += member.send(message)
        return reached

    def tell(self, user_id: str, message: Outgoing) -> int:
        return sum(member.send(message) for member in tuple(self.of_user(user_id)))

    def note_told(self, assignment_id: str, user_id: str) -> None:
        self._told.setdefault(assignment_id, set()).add(user_id)

    def was_announced(self, assignment_id: str) -> bool:
        return assignment_id in self._announced

    def was_told(self, assignment_id: str, user_id: str) -> bool:
        return user_id in self._told.get(assignment_id, ())

    def missed(self, user_id: str) -> list[str]:
        """What was announced here and is still to be had, but was not told to this user; oldest first."""
        return [assignment for assignment in self._open if not self.was_told(assignment, user_id)]

    def taken(self, assignment_id: str) -> None:
        """Nobody can have it any more; it may be announced again."""
        self._open.pop(assignment_id, None)

    def told_assignments(self) -> list[str]:
        return list(self._told)

    def tell_told(self, assignment_id: str, message: Outgoing, also: str = "") -> None:
        self.taken(assignment_id)
        told = self._told.get(assignment_id, set()) | {also}
        for user_id in tuple(told):
            self.tell(user_id, message)
        for member in tuple(self._joining):
            if member.user_id not in told:
                member.send(message)

    def forget_told(self, assignment_id: str) -> None:
        self._told.pop(assignment_id, None)
        self._announced.discard(assignment_id)
        self.taken(assignment_id)

    def watch(self, member: Member, mechanic_ids: Iterable[str]) -> None:
        for mechanic_id in mechanic_ids:
            member.watched.add(mechanic_id)
            self._watchers.setdefault(mechanic_id, {})[member] = None

    def unwatch(self, member: Member, mechanic_ids: Iterable[str]) -> None:
        for mechanic_id in mechanic_ids:
            member.watched.discard(mechanic_id)
            watching = self._watchers.get(mechanic_id)
            if watching is not None:
                watching.pop(member, None)
                if not watching:
                    del self._watchers[mechanic_id]

    def watchers(self, mechanic_id: str) -> Iterable[Member]:
        return tuple(self._watchers.get(mechanic_id, ()))

    def watched(self) -> list[str]:
        return list(self._watchers)

    def _listen(self, mechanic_id: str) -> None:
        if mechanic_id in self._approved and self._status.get(mechanic_id) is Status.ONLINE:
            self._listeners[mechanic_id] = self._users[mechanic_id]
        else:
            self._listeners.pop(mechanic_id, None)
