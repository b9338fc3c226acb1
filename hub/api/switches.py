"""Feature flags and run-time settings."""

from msgspec.structs import asdict

from hub.api.operation import ADMINS, Ask, Operation, operation
from hub.domain.errors import Refused
from hub.domain.flags import Flag
from hub.domain.run_time import RunTimeSettings, run_time_settings, whole_split
from hub.ports import Switches
from hub.wire.admin import FlagBody, FlagList, FlagView, SettingsBody


class SwitchesApi:
    """`default_window_seconds`: what holds where no admin has said otherwise."""

    def __init__(self, *, switches: Switches, default_window_seconds: float) -> None:
        self._switches = switches
        self._default_window_seconds = default_window_seconds

    def operations(self) -> list[Operation]:
        one = "/api/admin/flags/{key}"
        return [
            operation("GET", "/api/admin/flags", self.flags, ADMINS),
            operation("GET", one, self.flag, ADMINS, refuses=("not_found",)),
            operation("PUT", one, self.set_flag, ADMINS, refuses=("not_found",)),
            operation("GET", "/api/admin/settings", self.settings, ADMINS),
            operation("PUT", "/api/admin/settings", self.set_settings, ADMINS),
        ]

    async def flags(self, ask: Ask[None, None]) -> FlagList:
        """Every flag."""
        return FlagList(items=[flag_view(flag) for flag in await self._switches.flags()], next_cursor=None)

    async def flag(self, ask: Ask[None, None]) -> FlagView:
        """One flag."""
        return flag_view(await self._known(ask.path("key")))

    async def set_flag(self, ask: Ask[None, FlagBody]) -> FlagView:
        """Change a flag; what the body leaves out stays. Other nodes hear of it."""
        known, body = await self._known(ask.path("key")), ask.body
        roles = body.enabled_for_roles
        flag = await self._switches.set_flag(
            known.key,
            is_enabled=body.is_enabled,
            enabled_for_roles=None if roles is None else list(dict.fromkeys(roles)),
            rollout_percentage=body.rollout_percentage,
        )
        if flag is None:
            raise _no_such_flag()
        return flag_view(flag)

    async def settings(self, ask: Ask[None, None]) -> RunTimeSettings:
        """The settings as they hold, whether stored or by default."""
        return run_time_settings(await self._switches.settings(), self._default_window_seconds)

    async def set_settings(self, ask: Ask[None, SettingsBody]) -> RunTimeSettings:
        """Change settings for bookings from now on; what the body leaves out stays."""
        changed = {name: value for name, value in asdict(ask.body).items() if value is not None}
        if not whole_split(ask.body.sequence_split or ()):
            raise Refused("invalid_request", "The shares are more than the whole.", field="sequence_split")
        stored = await self._switches.set_settings(changed)
        return run_time_settings(stored, self._default_window_seconds)

    async def _known(self, key: str) -> Flag:
        for flag in await self._switches.flags():
            if flag.key == key:
                return flag
        raise _no_such_flag()


def flag_view(flag: Flag) -> FlagView:
    return FlagView(
        flag_key=flag.key,
        flag_name=flag.name,
        description=flag.description,
        is_enabled=flag.is_enabled,
        enabled_for_roles=flag.enabled_for_roles,
        rollout_percentage=flag.rollout_percentage,
    )


def _no_such_flag() -> Refused:
    return Refused("not_found", "There is no such flag.")
