"""The standard health service, grpc.health.v1.Health, as methods of the table.

So it works on every front, and under load: the front answers a Check even
when it has no room for other calls.
"""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from mq.errors import InvalidArgument, MQError, Unavailable
from mq.server.call import Call, Method
from mq.server.fronts.base import UNLIMITED_PATH

HEALTH_SERVICE = "grpc.health.v1.Health"
# Not serving while some channel takes no publishes. The server itself goes on
# serving the others, so a probe that restarts it should ask for the server.
CHANNELS_SERVICE = "mq.channels"

_Response = health_pb2.HealthCheckResponse
_ANSWERS = {
    True: _Response(status=_Response.SERVING).SerializeToString(),
    False: _Response(status=_Response.NOT_SERVING).SerializeToString(),
    None: _Response(status=_Response.SERVICE_UNKNOWN).SerializeToString(),
}


class UnknownService(MQError):
    """Health was asked of a service that this server does not have."""

    code = "NOT_FOUND"
    reason = "unknown-service"


class HealthState:
    """Which services are serving; belongs to the event loop's thread.

    Args:
        services: Their full names; the empty one stands for the whole server.
            All begin as not serving.
    """

    def __init__(self, *services: str) -> None:
        self._serving = dict.fromkeys(("", *services), False)
        self._watchers: set[asyncio.Event] = set()
        self._stopped = False

    def set(self, service: str, serving: bool) -> None:
        """Change a service's state and tell its watchers; nothing after a shutdown."""
        if not self._stopped:
            self._serving[service] = serving
            self._notify()

    def set_all(self, serving: bool) -> None:
        """Change all of them."""
        for service in self._serving:
            self.set(service, serving)

    def shutdown(self) -> None:
        """Nothing serves any more: watchers are told so, and their streams ended."""
        self.set_all(False)
        self._stopped = True
        self._notify()

    def _notify(self) -> None:
        for changed in self._watchers:
            changed.set()

    def methods(self) -> list[Method]:
        """The service's entries of the method table."""
        return [
            Method(UNLIMITED_PATH, False, self._check),
            Method(f"/{HEALTH_SERVICE}/Watch", True, self._watch),
        ]

    def _check(self, call: Call) -> None:
        service = _service_of(call)
        if service not in self._serving:
            names = ", ".join(sorted(filter(None, self._serving)))
            raise UnknownService(
                f"no service {service!r} here; ask for one of {names}, or for '', the server"
            )
        call.reply(_ANSWERS[self._serving[service]])

    async def _watch(self, call: Call) -> None:
        service = _service_of(call)
        changed = asyncio.Event()
        self._watchers.add(changed)
        last = b""
        try:
            while True:
                changed.clear()
                answer = _ANSWERS[self._serving.get(service)]
                if answer != last and not await call.send(answer):
                    return
                last = answer
                if self._stopped:
                    raise Unavailable("the broker is stopping; watch again once it is back")
                await changed.wait()
        finally:
            self._watchers.discard(changed)


def _service_of(call: Call) -> str:
    try:
        return health_pb2.HealthCheckRequest.FromString(call.request).service
    except DecodeError as error:
        raise InvalidArgument(f"not a HealthCheckRequest: {error}") from error
