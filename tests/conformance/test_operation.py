"""What operators use: health, reflection, metrics, the log."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client.parser import text_string_to_metric_families

from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import Rpc, messages, refused, wait_until
from tests.helpers.server import ROOT, ServerProcess

HEALTH = "/grpc.health.v1.Health"
LONG_MS = 600_000

# ---- Health ---------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", "mq.MQService", "mq.channels"])
def test_health_is_serving(rpc: Rpc, service: str) -> None:
    """The server as a whole and its service can be asked for, once or to be watched."""
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    assert rpc.raw(f"{HEALTH}/Check", request) == serving.SerializeToString()
    watching = rpc.stream(f"{HEALTH}/Watch", request)
    assert next(watching) == serving.SerializeToString()
    watching.cancel()


def test_health_of_something_else(rpc: Rpc) -> None:
    """NOT_FOUND for a check; a watcher is told that it is unknown."""
    request = health_pb2.HealthCheckRequest(service="mq.Other").SerializeToString()
    with refused("NOT_FOUND"):
        rpc.raw(f"{HEALTH}/Check", request)
    watching = rpc.stream(f"{HEALTH}/Watch", request)
    answer = health_pb2.HealthCheckResponse.FromString(next(watching))
    assert answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watching.cancel()


def health_of(rpc: Rpc, service: str) -> int:
    """What a check of a service is answered."""
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return health_pb2.HealthCheckResponse.FromString(rpc.raw(f"{HEALTH}/Check", request)).status


def test_a_channel_that_has_failed_shows(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """In its description, the health of the channels and the metrics, until it is deleted."""
    process = start("--metrics-listen", "127.0.0.1:0")
    rpc = connect(process)
    for name in ("sound", "bad"):
        rpc.create(name)
        rpc.publish(name, b"x")
    (segment,) = (process.data_dir / "channels" / rpc.describe("bad").id).glob("*.seg")
    process.stop()
    segment.write_bytes(b"")
    process.start()
    rpc = connect(process)
    with refused("FAILED_PRECONDITION"):
        rpc.publish("bad", b"y")
    described = rpc.describe("bad")
    assert described.state == pb.CHANNEL_STATE_FAILED
    assert segment.name in described.state_reason
    serving = health_pb2.HealthCheckResponse.SERVING
    assert health_of(rpc, "mq.channels") == health_pb2.HealthCheckResponse.NOT_SERVING
    assert health_of(rpc, "") == health_of(rpc, "mq.MQService") == serving
    assert metrics_of(process)["mq_read_only_channels"] == 1
    rpc.publish("sound", b"y")
    rpc.delete("bad")
    assert health_of(rpc, "mq.channels") == serving


# ---- Reflection -----------------------------------------------------------------------


def reflect(
    rpc: Rpc, version: str, *requests: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    """Ask the reflection service."""
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    answers = rpc.both_ways(path, [request.SerializeToString() for request in requests])
    return [reflection_pb2.ServerReflectionResponse.FromString(answer) for answer in answers]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(rpc: Rpc, version: str) -> None:
    """What `grpcurl list` shows."""
    (answer,) = reflect(rpc, version, reflection_pb2.ServerReflectionRequest(list_services="*"))
    names = {service.name for service in answer.list_services_response.service}
    assert {"mq.MQService", "grpc.health.v1.Health"} <= names


def test_a_client_without_stubs(rpc: Rpc, channel: str) -> None:
    """What reflection tells is enough to make a call, as grpcurl does."""
    (answer,) = reflect(
        rpc,
        "v1",
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="mq.MQService"),
    )
    pool = descriptor_pool.DescriptorPool()
    for serialized in answer.file_descriptor_response.file_descriptor_proto:
        pool.Add(descriptor_pb2.FileDescriptorProto.FromString(serialized))
    method = pool.FindServiceByName("mq.MQService").methods_by_name["Publish"]
    request = GetMessageClass(method.input_type)(channel=channel, content=b"reflected")
    response = GetMessageClass(method.output_type).FromString(
        rpc.raw("Publish", request.SerializeToString())
    )
    assert response.offset == 0  # type: ignore[attr-defined]
    assert rpc.contents(channel) == [b"reflected"]


# ---- Metrics --------------------------------------------------------------------------


def metrics_of(server: ServerProcess) -> dict[str, float]:
    """A scrape: value by metric, labels included."""
    address = server.wait_for("metrics")["address"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        sample.name
        + "".join(f"{{{key}={sample.labels[key]}}}" for key in sorted(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def scrape(shared: ServerProcess) -> Callable[[], dict[str, float]]:
    """A function that scrapes the shared server; see `metrics_of`."""
    return lambda: metrics_of(shared)


def test_metrics_have_their_documented_names(
    rpc: Rpc, scrape: Callable[[], dict[str, float]]
) -> None:
    """Everything in docs/metrics.md is there once there was a call, but what only groups have."""
    rpc.list_channels()
    document = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(mq_\w+)`", document, re.MULTILINE))
    assert len(documented) > 15
    found = {name.partition("{")[0] for name in scrape()}
    found |= {name.removesuffix("_bucket") for name in found}
    missing = {name for name in documented - found if not name.startswith("mq_group_")}
    assert missing == set()


def test_metrics_follow_what_happens(
    rpc: Rpc, channel: str, scrape: Callable[[], dict[str, float]]
) -> None:
    """Published, pulled, waiting, refused: each shows."""
    before = scrape()
    rpc.publish_batch(channel, [b"x" * 1000] * 10)
    rpc.publish(channel, b"x")
    rpc.pull(channel)
    with refused("NOT_FOUND"):
        rpc.pull("unknown")
    stream = rpc.subscribe(channel, interval_ms=LONG_MS)
    messages(stream, 11)
    waiting = rpc.later("Pull", pb.PullRequest(channel=channel, offset=11, max_wait_ms=LONG_MS))
    rpc.wait_waiting(channel, 1)
    after = scrape()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("mq_published_messages_total") == 11
    assert 10_000 < grown("mq_published_bytes_total") < 10_500
    assert grown("mq_commits_total") == 2
    assert grown("mq_fsync_seconds_count") == 2
    assert grown("mq_pulls_total") >= 2
    assert grown("mq_pulled_bytes_total") > 20_000
    assert grown("mq_channels") == 0
    pull, subscribe = "{method=/mq.MQService/Pull}", "{method=/mq.MQService/Subscribe}"
    assert grown(f"mq_calls_total{{code=NOT_FOUND}}{pull}") == 1
    assert grown(f"mq_calls_total{{code=OK}}{pull}") == 1
    assert after["mq_waiting_pulls"] >= 1
    assert after[f"mq_calls_in_flight{pull}"] >= 1
    assert after[f"mq_calls_in_flight{subscribe}"] >= 1
    waiting.cancel()
    stream.cancel()
    rest = (f"mq_calls_in_flight{pull}", f"mq_calls_in_flight{subscribe}", "mq_waiting_pulls")
    wait_until(lambda: not any(map(scrape().get, rest)), "what was cancelled is gone")


# ---- The log --------------------------------------------------------------------------


def test_the_log_of_a_run(
    start: StartFront, front: str, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Start, front and why, address, channels, stop: a line each, and none a message."""
    server = start()
    rpc = connect(server)
    rpc.create("c")
    for _ in range(20):
        rpc.publish("c", b"x")
        rpc.pull("c")
    with refused("NOT_FOUND"):
        rpc.pull("unknown")
    with refused("INVALID_ARGUMENT"):
        rpc.raw("Pull", b"\xff")
    assert server.stop() == 0
    # A warning may say that the disk is none.
    told = [entry for entry in server.log if entry["level"] != "warning"]
    events = ["started", "listening", "channel_created", "stopping", "stopped"]
    assert [entry["event"] for entry in told] == events
    started = told[0]
    assert started["front"] == front
    assert started["reason"]
    assert started["version"]
    assert all({"event", "level", "timestamp", "logger"} <= set(entry) for entry in server.log)
