"""Settings, read once from the environment and then passed on as values."""

import os
import re
from collections.abc import Mapping

from msgspec import Struct


class SettingsError(Exception):
    """A setting is missing or makes no sense; the message names it."""


class Settings(Struct, frozen=True, kw_only=True):
    """The hub's settings; each is `HUB_` and the field's name in capitals in the environment."""

    redis_url: str = ""
    redis_wait: str = ""
    postgres_url: str = ""
    jwt_secret: str = ""
    jwks_url: str = ""
    jwt_audience: str = ""
    jwt_role_claim: str = "role"
    allowed_origins: tuple[str, ...] = ()
    priority_window_seconds: float = 600.0
    orphan_seconds: float = 7200.0
    notify_timeout_seconds: float = 2.0
    offline_grace_seconds: float = 15.0
    node_lease_seconds: float = 6.0
    ping_interval_seconds: float = 10.0
    ping_timeout_seconds: float = 5.0
    hello_timeout_seconds: float = 5.0
    max_message_bytes: int = 16_384
    max_outbox_bytes: int = 1_048_576
    messages_per_second: float = 20.0
    connections_per_user: int = 5
    mechanic_capacity: int = 0
    shards: int = 16
    journal_max: int = 1_000_000
    stripe_webhook_secrets: tuple[str, ...] = ()
    drain_seconds: float = 20.0
    log_format: str = "console"

    def missing(self) -> list[str]:
        """The variables that a production node cannot do without."""
        absent = [f"HUB_{n.upper()}" for n in ("redis_url", "postgres_url") if not getattr(self, n)]
        if not self.jwt_secret and not self.jwks_url:
            absent.append("HUB_JWT_SECRET or HUB_JWKS_URL")
        return absent


_ORIGIN = re.compile(r"(?!https://.*:443$|http://.*:80$)[a-z][a-z0-9+.-]*://[^\s/?#@,*A-Z]+")
_WAIT = re.compile(r"WAIT [1-9]|WAITAOF [01] [0-9]")
_SCHEMES = {
    "redis_url": ("redis://", "rediss://", "unix://"),
    "postgres_url": ("postgresql://", "postgres://"),
    "jwks_url": ("https://", "http://"),
}


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Raises `SettingsError` for values that are not of the setting's kind or out of range."""
    values: dict[str, object] = {}
    for name, default in zip(Settings.__struct_fields__, Settings.__struct_defaults__, strict=True):
        variable = f"HUB_{name.upper()}"
        text = environ.get(variable, "").strip()
        if text:
            values[name] = _parse(variable, text, default)
    settings = Settings(**values)  # type: ignore[arg-type]  # each value was made by its default's kind
    if not 1 <= settings.shards <= 1024:
        raise SettingsError("HUB_SHARDS must be from 1 to 1024.")
    for name, schemes in _SCHEMES.items():
        url = getattr(settings, name)
        if url and not url.startswith(schemes):
            raise SettingsError(f"HUB_{name.upper()} must start with {' or '.join(schemes)}.")
    for origin in settings.allowed_origins:
        if not _ORIGIN.fullmatch(origin):
            # Browsers send exactly this; anything else here would never match, or everything.
            raise SettingsError(
                f"HUB_ALLOWED_ORIGINS: {origin!r} is not of the form https://app.example.com."
            )
    if settings.redis_wait and not _WAIT.fullmatch(settings.redis_wait):
        raise SettingsError("HUB_REDIS_WAIT must be of the form WAIT 1 or WAITAOF 1 1.")
    if settings.log_format not in ("console", "json"):
        raise SettingsError("HUB_LOG_FORMAT must be console or json.")
    if settings.jwt_secret and settings.jwks_url:
        raise SettingsError("Set HUB_JWT_SECRET or HUB_JWKS_URL, not both: the algorithm is pinned by it.")
    return settings


def _parse(variable: str, text: str, default: object) -> object:
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, str):
        return text
    try:
        number = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        raise SettingsError(f"{variable} must be a number, not {text!r}.") from None
    zero_is_fine = variable in ("HUB_MECHANIC_CAPACITY", "HUB_DRAIN_SECONDS", "HUB_OFFLINE_GRACE_SECONDS")
    if number < 0 or (number == 0 and not zero_is_fine):
        raise SettingsError(f"{variable} must be positive.")
    return number
