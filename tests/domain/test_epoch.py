"""An epoch tells whether data was lost before it, and when."""

from hub.domain.epoch import lost_since, new_epoch
from hub.domain.ids import new_id


def test_only_an_epoch_after_a_loss_tells_of_one() -> None:
    assert new_epoch() != new_epoch()
    assert new_epoch(5) != new_epoch(5)
    for whole in (new_epoch(), new_id(), "12345678-1234-4123-8123-123456781234", ""):
        assert not lost_since(whole, 0)
    assert lost_since(new_epoch(1_000), 999)
    assert not lost_since(new_epoch(1_000), 1_000)
