"""Server reflection: clients such as grpcurl learn the services from the server.

It streams both ways, which a `Method` does not, so these are grpcio's generic
handlers: the grpcio front serves them itself, the native one through a small
grpcio server behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

_ALPHA = "grpc.reflection.v1alpha"
_STABLE = "grpc.reflection.v1"


def reflection_handlers(services: Sequence[str]) -> list[grpc.GenericRpcHandler]:
    """The handlers of both versions of the reflection service.

    Args:
        services: Full names of the services to tell of, besides reflection;
            their descriptors have to be in protobuf's default pool.
    """
    _add_stable_descriptor()
    own = [f"{package}.ServerReflection" for package in (_ALPHA, _STABLE)]
    servicer = reflection_aio.ReflectionServicer([*services, *own])
    # The two versions differ in the package's name alone, which is not on the wire.
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        pb.ServerReflectionRequest.FromString,
        pb.ServerReflectionResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
        for name in own
    ]


def _add_stable_descriptor() -> None:
    """Describe v1, which grpcio-reflection lacks, as a copy of v1alpha."""
    pool = descriptor_pool.Default()
    name = "grpc/reflection/v1/reflection.proto"
    try:
        pool.FindFileByName(name)
    except KeyError:
        pool.AddSerializedFile(_renamed(name).SerializeToString())


def _renamed(name: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = name, _STABLE
    for field in (field for message in file.message_type for field in message.field):
        if field.type_name:
            field.type_name = field.type_name.replace(_ALPHA, _STABLE)
    for method in (method for service in file.service for method in service.method):
        method.input_type = method.input_type.replace(_ALPHA, _STABLE)
        method.output_type = method.output_type.replace(_ALPHA, _STABLE)
    return file
