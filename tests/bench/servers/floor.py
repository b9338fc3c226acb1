"""The floor: what the kernel alone costs, by a C program that calls `send()` once a socket."""

import shutil
import subprocess
from collections.abc import Sequence

from tests.bench.servers.server import APPS, Place, Reference


class Floor(Reference):
    name = "C floor"

    @classmethod
    def missing(cls) -> str | None:
        return None if shutil.which("cc") else "there is no C compiler (`cc`)"

    def command(self, place: Place) -> Sequence[str]:
        program = place.directory / "floor"
        if not program.exists():
            subprocess.run(["cc", "-O2", "-o", str(program), str(APPS / "floor.c")], check=True)
        return [str(program), str(self.port)]
