"""What `hub dev` keeps in its data directory, and what other commands find there."""

import fcntl
import json
import os
import secrets
import shutil
from pathlib import Path

import click
from msgspec.structs import replace

from hub.settings import Settings, SettingsError, read_settings

DATA_DIR = ".hub"

_LOCK = "lock"


class Workspace:
    """The data directory: the stores' data, the signing secrets and the addresses of the last run."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self._secret = self.directory / "secret"
        self._stripe_secret = self.directory / "stripe-secret"
        self._addresses = self.directory / "run.json"
        self._hold: int | None = None

    def enter(self, *, alone: bool = False) -> bool:
        """Make the directory and hold it for as long as this process lives, shared unless `alone`; False
        where others are in the way."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._hold is None:
            self._hold = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._hold, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def wipe(self) -> None:
        """Everything but the hold on it."""
        for entry in self.directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != _LOCK:
                entry.unlink()

    def secret(self) -> str:
        """The signing secret of this workspace, made at first use."""
        return _made_once(self._secret, secrets.token_urlsafe(48))

    def existing_secret(self) -> str:
        return _existing(self._secret)

    def stripe_secret(self) -> str:
        """The secret with which test events of Stripe's are signed here, made at first use."""
        return _made_once(self._stripe_secret, f"whsec_{secrets.token_hex(32)}")

    def existing_stripe_secret(self) -> str:
        return _existing(self._stripe_secret)

    def write_addresses(self, addresses: dict[str, object]) -> None:
        self._addresses.write_text(json.dumps(addresses))

    def addresses(self) -> dict[str, object]:
        if not self._addresses.exists():
            return {}
        found: dict[str, object] = json.loads(self._addresses.read_text())
        return found

    def forget_addresses(self) -> None:
        self._addresses.unlink(missing_ok=True)


def _made_once(path: Path, secret: str) -> str:
    """What is in the file, which only its owner may read; this secret, where there was none."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret)
    return path.read_text()


def _existing(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def settings_or_usage_error() -> Settings:
    try:
        return read_settings()
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def settings_here(data_dir: str) -> Settings:
    """The environment's settings; where stores or secret are not set, those of a `hub dev` running here."""
    settings = settings_or_usage_error()
    workspace = Workspace(data_dir)
    addresses = workspace.addresses()
    return replace(
        settings,
        redis_url=settings.redis_url or str(addresses.get("redis_url", "")),
        postgres_url=settings.postgres_url or str(addresses.get("postgres_url", "")),
        jwt_secret=settings.jwt_secret or ("" if settings.jwks_url else workspace.existing_secret()),
    )


def postgres_url_here(data_dir: str) -> str:
    url = settings_here(data_dir).postgres_url
    if not url:
        raise click.UsageError("HUB_POSTGRES_URL is not set, and no `hub dev` is running here.")
    return url


data_dir_option = click.option(
    "--data-dir",
    default=DATA_DIR,
    show_default=True,
    envvar="HUB_DATA_DIR",
    help="The data directory of a `hub dev` to use where the environment names no stores.",
)
