"""All that admins may do and see, put together."""

from collections.abc import Callable, Iterable

from hub.api.admin import AdminApi
from hub.api.operation import Operation
from hub.api.oversight import Mend, OversightApi
from hub.api.switches import SwitchesApi
from hub.control import ControlDesk
from hub.dispatch import Dispatcher
from hub.ports import Analytics, Clock, History, Inspection, Switches


def administration(
    *,
    dispatcher: Dispatcher,
    history: History,
    switches: Switches,
    inspection: Inspection,
    analytics: Analytics,
    clock: Clock,
    default_window_seconds: float,
    journal_max: int,
    mended: Callable[[], Iterable[Mend]],
) -> list[Operation]:
    control = ControlDesk(dispatcher=dispatcher, history=history, inspection=inspection, clock=clock)
    oversight = OversightApi(
        inspection=inspection,
        switches=switches,
        analytics=analytics,
        clock=clock,
        journal_max=journal_max,
        mended=mended,
    )
    return [
        *SwitchesApi(switches=switches, default_window_seconds=default_window_seconds).operations(),
        *AdminApi(control=control, inspection=inspection, clock=clock).operations(),
        *oversight.operations(),
    ]
