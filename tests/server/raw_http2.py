"""Just enough HTTP/2 to say what no proper client would."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4


class Frame(NamedTuple):
    """One frame as received."""

    type: int
    flags: int
    stream: int
    payload: bytes


def frame(type_: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """A frame as sent."""
    return (
        len(payload).to_bytes(3, "big") + bytes([type_, flags]) + stream.to_bytes(4, "big")
    ) + payload


def headers(path: str, **changed: str) -> bytes:
    """A header block of a gRPC request, each a literal without Huffman coding."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "test",
        "content-type": "application/grpc",
        "te": "trailers",
    } | {key.replace("_", "-"): value for key, value in changed.items()}
    return b"".join(
        b"\x00" + bytes([len(key)]) + key.encode() + bytes([len(value)]) + value.encode()
        for key, value in fields.items()
    )


def message(data: bytes, length: int | None = None, compressed: int = 0) -> bytes:
    """A gRPC message with its prefix, true or not."""
    return bytes([compressed]) + (len(data) if length is None else length).to_bytes(4, "big") + data


class RawConnection:
    """A connection on which anything can be written."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: str, greet: bool = True) -> RawConnection:
        """Connect; with the preface and empty settings unless told otherwise."""
        host, _, port = address.rpartition(":")
        connection = cls(*await asyncio.open_connection(host, int(port)))
        if greet:
            connection.send(PREFACE + frame(SETTINGS))
        return connection

    def send(self, *data: bytes) -> None:
        """Write."""
        self.writer.write(b"".join(data))

    async def receive(self) -> Frame:
        """The next frame.

        Raises:
            asyncio.IncompleteReadError: If the server has closed the connection.
        """
        head = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        return Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def until(self, types: Iterable[int], stream: int | None = None) -> Frame | None:
        """The next frame of these types; None if the connection is closed first."""
        wanted = set(types)
        while True:
            try:
                received = await self.receive()
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            if received.type in wanted and stream in (None, received.stream):
                return received

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
