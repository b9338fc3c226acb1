"""The Lua scripts, read once from the package."""

import hashlib
from importlib import resources


class Script:
    """A script's text and digest. Presence scripts share an opening."""

    __slots__ = ("digest", "text")

    def __init__(self, *names: str) -> None:
        folder = resources.files(__package__) / "lua"
        self.text = "\n".join((folder / f"{name}.lua").read_text() for name in names)
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


LOAD = Script("load")
COMMIT = Script("commit")
DUE = Script("due")
SETTLE = Script("settle")
LEASE = Script("lease")
RESTORE = Script("restore")
BURY = Script("bury")
ALIGN = Script("align")
GHOSTS = Script("ghosts")
TALLY = Script("tally")
RETRY = Script("retry")
CONNECT = Script("presence_common", "connect")
DISCONNECT = Script("presence_common", "disconnect")
GRACE = Script("presence_common", "grace")
STATUS = Script("presence_common", "status")
WORK = Script("presence_common", "work")
CLAIM = Script("presence_common", "claim")
