"""What goes over the socket between the package and the sandbox: a JSON object and some byte strings."""

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any

_MOST = 1 << 30  # bytes of one part: a length beyond that is no length


@dataclass(frozen=True)
class Limits:
    """What one program may use; `execution.SandboxLimits` describes it."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 10  # of each process
    memory_megabytes: int = 512
    disk_megabytes: int = 16
    output_bytes: int = 1 << 20
    processes: int = 16
    descriptors: int = 64  # open at a time in each process


class Broken(Exception):
    """The other side ended, or sent what is no frame."""


def send(connection: socket.socket, header: dict[str, Any], *parts: bytes) -> None:
    """Send a frame. Raises OSError if the other side is gone."""
    encoded = json.dumps([header, [len(part) for part in parts]]).encode()
    connection.sendall(b"".join((struct.pack("!I", len(encoded)), encoded, *parts)))


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[bytes]]:
    """The next frame. Raises Broken; TimeoutError where the socket has a timeout."""
    (length,) = struct.unpack("!I", _receive_exactly(connection, 4))
    header, lengths = json.loads(_receive_exactly(connection, length))
    return header, [_receive_exactly(connection, length) for length in lengths]


def _receive_exactly(connection: socket.socket, count: int) -> bytes:
    if not 0 <= count <= _MOST:
        raise Broken(f"a part of {count} bytes")
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(min(count - len(received), 1 << 20))
        if not chunk:
            raise Broken("the other side ended")
        received += chunk
    return bytes(received)
