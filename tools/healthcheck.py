"""Ask a broker for its health: exit code 0 where it serves, 1 where it doesn't.

    python healthcheck.py [HOST:PORT]

The default is 127.0.0.1 and ``SERVER_PORT``, or 50051. Used by the container's
health check; it needs grpcio and grpcio-health-checking, and nothing of mq.
"""

from __future__ import annotations

import os
import sys

import grpc
from grpc_health.v1 import health_pb2

TIMEOUT_S = 3.0


def main() -> None:
    """Check, and print what was found."""
    local = f"127.0.0.1:{os.environ.get('SERVER_PORT') or '50051'}"
    address = sys.argv[1] if len(sys.argv) > 1 else local
    try:
        with grpc.insecure_channel(address) as connection:
            check = connection.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        sys.exit(f"{address}: {error.code().name}: {error.details()}")
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    print(f"{address}: {status}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(1)


if __name__ == "__main__":
    main()
