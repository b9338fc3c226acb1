"""A file of lines that is there whole or not at all, and takes the place of no other."""

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast


class ExportError(Exception):
    """The file cannot be written; a sentence for people."""


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"Cannot export: {error}") from error


class ExportFile:
    """Written under a name of its own and put at `path` at the end; compressed where that ends in .gz.

    Readable by its owner only. Everything raises `ExportError`, `force` or not, and leaves nothing behind.
    """

    @_told()
    def __init__(self, path: Path, *, force: bool = False) -> None:
        if path.exists() and not force:
            raise ExportError(f"{path} exists already.")
        self._path = path
        self._force = force
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        self._draft = Path(name)
        self._text = self._open("wt")

    def __enter__(self) -> "ExportFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._draft.unlink(missing_ok=True)
        self._text.close()

    @_told()
    def write(self, line: str) -> None:
        self._text.write(f"{line}\n")

    @_told()
    def close(self) -> int:
        """Returns when the lines would outlive the machine: how many a reader finds."""
        self._text.close()
        _sync(self._draft)
        with self._open("rt") as text:
            return sum(1 for _ in text)

    @_told()
    def place(self) -> None:
        if self._force:
            self._draft.replace(self._path)
        else:
            # Unlike a move, this fails where somebody has put a file there meanwhile.
            self._path.hardlink_to(self._draft)
        _sync(self._path.parent)

    def _open(self, mode: str) -> TextIO:
        opened = gzip.open if self._path.suffix == ".gz" else open
        return cast("TextIO", opened(self._draft, mode, encoding="utf-8", newline="\n"))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
