"""Who hears what, while members come, go and fail to keep up."""

from collections.abc import Callable

from msgspec import Raw

from hub.domain.ids import new_id
from hub.domain.model import Role, Status
from hub.limiter import Bucket
from hub.sockets.frames import Outgoing, frame
from hub.sockets.registry import Registry

MESSAGE = Outgoing(Raw(b'{"type": "event"}'))


class Member:
    def __init__(self, registry: Registry, user_id: str, role: Role = Role.MECHANIC) -> None:
        self.id = new_id()
        self.user_id = user_id
        self.role = role
        self.watched: set[str] = set()
        self.got = 0
        self.keeps_up = True
        self.waits = False
        self._registry = registry
        registry.add(self)
        registry.joined(self)

    def send(self, message: Outgoing, written: Callable[[], None] | None = None) -> bool:
        if not self.keeps_up:
            self._registry.remove(self)
            return False
        self.got += 1
        return True

    def close(self, code: int, reason: str) -> None:
        self._registry.remove(self)


def online(registry: Registry, user_id: str) -> Member:
    member = Member(registry, user_id)
    registry.set_status(user_id, Status.ONLINE)
    registry.set_approved(user_id, True)
    return member


def test_one_who_does_not_keep_up_costs_the_others_nothing() -> None:
    registry = Registry()
    members = [online(registry, f"mechanic {n}") for n in range(5)]
    members[1].keeps_up = False

    assert registry.broadcast(MESSAGE, "a", exclude=()) == 4
    assert [member.got for member in members] == [1, 0, 1, 1, 1]


def test_nor_do_other_sockets_of_the_same_user() -> None:
    registry = Registry()
    members = [online(registry, "ana") for _ in range(3)]
    members[0].keeps_up = False

    assert registry.tell("ana", MESSAGE) == 2
    assert registry.broadcast(MESSAGE, "a", exclude=()) == 2


def test_only_the_approved_who_are_online_and_have_not_declined_hear_a_broadcast() -> None:
    registry = Registry()
    heard, busy, pending, declined = (online(registry, name) for name in ("a", "b", "p", "d"))
    registry.set_status("b", Status.BUSY)
    registry.set_approved("p", False)

    registry.broadcast(MESSAGE, "x", exclude=["d"])

    assert [m.got for m in (heard, busy, pending, declined)] == [1, 0, 0, 0]


def test_those_who_were_told_hear_the_end_and_nobody_else() -> None:
    registry = Registry()
    told = online(registry, "told")
    registry.broadcast(MESSAGE, "x", exclude=())
    late = online(registry, "late")

    registry.tell_told("x", MESSAGE)
    registry.forget_told("x")
    registry.tell_told("x", MESSAGE)

    assert (told.got, late.got) == (2, 0)
    assert registry.told_assignments() == []


def test_who_is_just_joining_hears_every_end() -> None:
    """What the welcome lists may have closed while it was being read."""
    registry = Registry()
    joining = Member(registry, "ana")
    registry.remove(joining)
    registry.add(joining)

    registry.tell_told("x", MESSAGE)
    registry.joined(joining)
    registry.tell_told("x", MESSAGE)

    assert joining.got == 1


def test_nothing_is_left_of_a_member_who_has_gone() -> None:
    registry = Registry()
    ana = online(registry, "ana")
    registry.choose("ana", Status.AWAY)
    registry.watch(ana, ["ben", "cat"])
    assert not registry.vacant.is_set()

    assert registry.remove(ana)

    assert not registry.remove(ana)
    registry.choose("ana", Status.BUSY)
    registry.set_status("ana", Status.ONLINE)
    assert registry.vacant.is_set()
    assert (len(registry), registry.online(), registry.watched()) == (0, [], [])
    assert registry.chosen("ana") is Status.ONLINE


def test_frames_have_the_three_lengths_of_the_protocol() -> None:
    assert frame(b"x" * 125, binary=False)[:2] == bytes((0x81, 125))
    assert frame(b"x" * 126, binary=True)[:4] == bytes((0x82, 126, 0, 126))
    assert frame(b"x" * 65_536, binary=True)[:10] == bytes((0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0))


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    time = 0.0
    bucket = Bucket(10, lambda: time)
    assert sum(bucket.take() for _ in range(100)) == 30
    time = 1.0
    assert sum(bucket.take() for _ in range(100)) == 10
    time = 1000.0
    assert sum(bucket.take() for _ in range(100)) == 30
