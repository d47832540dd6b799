"""Compressed requests that are small on the wire and large in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import Rpc
from tests.helpers.server import ServerProcess

MIB = 1 << 20


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="memory is measured through /proc")
def test_a_compressed_bomb_is_refused(
    front: str, start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """64 MiB of zeros in 64 KiB of gzip: refused, and others are served.

    The grpcio front does not unpack it. The native one can't be kept from that.
    """
    server = start(env={"SERVER_MAX_RECV_MSG_SIZE": str(MIB)})
    rpc = connect(server)
    rpc.create("c")
    before = server.resident_bytes()
    request = pb.PublishRequest(channel="c", content=bytes(64 * MIB)).SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    for _ in range(3):
        with grpc.insecure_channel(
            server.address, options=options, compression=grpc.Compression.Gzip
        ) as channel:
            publish: Any = channel.unary_unary("/mq.MQService/Publish")
            with pytest.raises(grpc.RpcError) as caught:
                publish(request, timeout=30)
            refusal = "UNIMPLEMENTED" if front == "grpcio" else "RESOURCE_EXHAUSTED"
            assert caught.value.code().name == refusal
    if front == "grpcio":
        assert server.resident_bytes() - before < 48 * MIB
    rpc.publish_batch("c", [b"still there"])
