"""Reflection on both fronts, as tools use it."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2 as pb

import mq.pb.mq_pb2  # noqa: F401 its descriptor is what is asked for
from mq.server.fronts.choose import Chosen, native_installed
from mq.server.reflection import reflection_handlers
from tests.server.toys import LIMIT_S, Served, serving

SERVICES = ["mq.MQService", "grpc.reflection.v1alpha.ServerReflection"]


@pytest.fixture
async def served(front: Chosen) -> AsyncIterator[Served]:
    """A front that tells of mq.MQService."""
    extra = reflection_handlers(["mq.MQService"])
    async with serving(front, extra=extra) as served, asyncio.timeout(LIMIT_S):
        yield served


async def _ask(
    channel: aio.Channel, version: str, *requests: pb.ServerReflectionRequest
) -> list[pb.ServerReflectionResponse]:
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=pb.ServerReflectionRequest.SerializeToString,
        response_deserializer=pb.ServerReflectionResponse.FromString,
    )
    return [response async for response in method(iter(requests))]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_lists_the_services(served: Served, version: str) -> None:
    """Both versions of the protocol name all services."""
    (answer,) = await _ask(served.channel, version, pb.ServerReflectionRequest(list_services=""))
    assert [service.name for service in answer.list_services_response.service] == [
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "mq.MQService",
    ]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_describes_each_service(served: Served, version: str) -> None:
    """Every service that is listed can be described."""
    symbols = [
        "mq.MQService",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    requests = [pb.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
    answers = await _ask(served.channel, version, *requests)
    for symbol, answer in zip(symbols, answers, strict=True):
        files = answer.file_descriptor_response.file_descriptor_proto
        names = {
            f"{file.package}.{service.name}"
            for file in map(descriptor_pb2.FileDescriptorProto.FromString, files)
            for service in file.service
        }
        assert symbol in names


async def test_an_unknown_symbol_is_not_found(served: Served) -> None:
    """The error is in the answer, and the stream goes on."""
    unknown = pb.ServerReflectionRequest(file_containing_symbol="no.Such")
    answers = await _ask(served.channel, "v1alpha", unknown, unknown)
    assert [answer.error_response.error_code for answer in answers] == [5, 5]


async def test_the_rest_is_served_as_before(served: Served) -> None:
    """Reflection takes nothing from the other methods."""
    assert await served.unary("echo")(b"x") == b"x"


@pytest.mark.skipif(not native_installed(), reason="pygrpc-native is not installed")
async def test_the_socket_behind_the_native_front_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else can reach it, and it is gone after the stop."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with serving("native", extra=reflection_handlers([])):
        (name,) = os.listdir(tmp_path)  # noqa: PTH208
        status = os.stat(f"{tmp_path}/{name}")  # noqa: PTH116
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert status.st_uid == os.getuid()
    assert not os.listdir(tmp_path)  # noqa: PTH208


@pytest.mark.skipif(not native_installed(), reason="pygrpc-native is not installed")
async def test_what_a_killed_server_left_is_removed_and_a_live_one_s_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket whose directory nobody holds a lock on is nobody's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = tmp_path / "mq-front-killed"
    killed.mkdir()
    (killed / "fallback.sock").touch()
    async with serving("native", extra=reflection_handlers([])):
        (live,) = os.listdir(tmp_path)  # noqa: PTH208
        async with serving("native", extra=reflection_handlers([])):
            assert live in os.listdir(tmp_path)  # noqa: PTH208
        assert os.listdir(tmp_path) == [live]  # noqa: PTH208
