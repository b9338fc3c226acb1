"""Feature flags: who has one switched on."""

import hashlib

from msgspec import Struct

FAVORITES_PRIORITY = "ENABLE_FAVORITES_PRIORITY"


class Flag(Struct, frozen=True, kw_only=True):
    key: str
    name: str = ""
    description: str = ""
    is_enabled: bool = False
    enabled_for_roles: tuple[str, ...] = ()
    rollout_percentage: int = 100

    def enabled_for(self, role: str, user_id: str) -> bool:
        """Whether this user has it: switched on, for their role, and their stable bucket is rolled out."""
        return (
            self.is_enabled
            and role in self.enabled_for_roles
            and bucket(self.key, user_id) < self.rollout_percentage
        )


def bucket(key: str, user_id: str) -> int:
    """0 to 99, always the same for a flag and a user, independent between flags."""
    digest = hashlib.blake2b(f"{key}:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100
