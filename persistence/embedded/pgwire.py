"""One query to the embedded Postgres, synchronously: the server is started by code that runs no event loop.

The few messages needed of the frontend/backend protocol (Postgres documentation, "Message Formats"). No
authentication, because the embedded server asks for none.
"""

import socket
import struct
from typing import BinaryIO

_PROTOCOL_3_0 = 196608
# CREATE DATABASE writes a whole new directory, on a slow disk for seconds.
_TIMEOUT_SECONDS = 15.0


class QueryRefusedError(Exception):
    """The server answered with an error."""

    def __init__(self, sqlstate: str, detail: str) -> None:
        super().__init__(f"{sqlstate}: {detail}")
        self.sqlstate = sqlstate


def run_query(port: int, database: str, statement: str) -> None:
    """Runs one statement as `postgres` and drops its rows; raises `QueryRefusedError` or OSError."""
    parameters = b"".join(word.encode() + b"\0" for word in ("user", "postgres", "database", database))
    startup = struct.pack("!ii", len(parameters) + 9, _PROTOCOL_3_0) + parameters + b"\0"
    query = statement.encode() + b"\0"
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS) as connection,
        connection.makefile("rb") as replies,
    ):
        connection.sendall(startup)
        _until_ready(replies)
        connection.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        _until_ready(replies)
        connection.sendall(b"X" + struct.pack("!i", 4))


def _until_ready(replies: BinaryIO) -> None:
    while True:
        kind, body = _message(replies)
        if kind == b"Z":
            return
        if kind == b"E":
            # Fields: a letter, then a string that ends with a zero byte.
            fields = {field[:1]: field[1:].decode(errors="replace") for field in body.split(b"\0")}
            raise QueryRefusedError(fields.get(b"C", ""), fields.get(b"M", ""))


def _message(replies: BinaryIO) -> tuple[bytes, bytes]:
    header = replies.read(5)
    if len(header) < 5:
        raise ConnectionError("the server closed the connection")
    return header[:1], replies.read(struct.unpack("!i", header[1:])[0] - 4)
