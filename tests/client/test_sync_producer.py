"""The synchronous producer over a real socket: threads, and the same promises."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import mq
from tests.client.fake_broker import BAD_CONTENT
from tests.client.fake_server import LOST_ANSWER, LOST_REQUEST, PUBLISH_BATCH, FakeServer
from tests.helpers.server import ROOT

LIMIT_S = 20.0


@pytest.fixture
def client(fake: FakeServer) -> Iterator[mq.Client]:
    """A client of the fake broker."""
    with mq.Client(fake.target, timeout_s=20) as client:
        yield client


def test_messages_are_stored_in_order(client: mq.Client, fake: FakeServer) -> None:
    """Many messages in few batches; each handle gives its message's receipt."""
    with client.producer("orders", batch_records=10, linger_ms=60_000) as producer:
        handles = [producer.send(b"%d" % index) for index in range(95)]
        producer.flush()
    assert [handle.result().offset for handle in handles] == list(range(95))
    assert fake.stored("orders") == [b"%d" % index for index in range(95)]
    assert len(fake.broker.channel("orders").frames) == 10


def test_a_batch_goes_after_its_linger(client: mq.Client, fake: FakeServer) -> None:
    """A batch that never fills is sent without a flush."""
    with client.producer("orders", linger_ms=1) as producer:
        first = producer.send(b"alone")
        assert first.result(LIMIT_S).offset == 0
        assert first.done
        assert producer.send_nowait(b"again", b"k", {"h": b"v"}).result(LIMIT_S).offset == 1
    message = list(client.pull("orders"))[1]
    assert (message.key, message.headers) == (b"k", (("h", b"v"),))


def test_a_message_can_be_waited_for(client: mq.Client, fake: FakeServer) -> None:
    """publish gives the receipt itself, or raises."""
    with client.producer("orders", linger_ms=0) as producer:
        assert producer.publish(b"x", b"k", {"h": b"v"}).offset == 0
        with pytest.raises(mq.InvalidArgument):
            producer.publish(BAD_CONTENT)
    assert producer.channel == "orders"


def test_threads_share_a_producer(client: mq.Client, fake: FakeServer) -> None:
    """Each thread's messages keep their order; all are stored once, faults or not."""
    fake.fail(PUBLISH_BATCH, LOST_ANSWER, LOST_REQUEST, LOST_ANSWER)

    def work(name: int) -> list[int]:
        handles = [producer.send(b"%d.%d" % (name, index)) for index in range(200)]
        return [handle.result(LIMIT_S).offset for handle in handles]

    producer = client.producer("orders", batch_records=7, linger_ms=1)
    with producer, ThreadPoolExecutor(4) as pool:
        offsets = list(pool.map(work, range(4)))
    stored = fake.stored("orders")
    assert len(stored) == len(set(stored)) == 800
    for name, own in enumerate(offsets):
        assert own == sorted(own)
        assert [stored[offset] for offset in own] == [b"%d.%d" % (name, n) for n in range(200)]


def test_a_restart_of_the_broker_goes_unnoticed(client: mq.Client, fake: FakeServer) -> None:
    """Batches wait for the broker to come back, and are stored once, in order."""
    with client.producer("orders", batch_records=2, linger_ms=0) as producer:
        producer.send(b"0").result(LIMIT_S)
        fake.stop()
        for index in range(1, 20):
            producer.send(b"%d" % index)
        fake.start()
        producer.flush()
    assert fake.stored("orders") == [b"%d" % index for index in range(20)]


def test_the_buffer_is_a_bound(client: mq.Client, fake: FakeServer) -> None:
    """send waits while it is full; send_nowait refuses, and takes nothing."""
    gate = fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", batch_bytes=100, buffer_bytes=300, linger_ms=0)
    for index in range(3):
        producer.send(b"%d" % index + bytes(80))
    with pytest.raises(mq.Overloaded, match="buffer is full"):
        producer.send_nowait(b"refused")
    sent = threading.Event()

    def send_more() -> None:
        producer.send(b"3" + bytes(80))
        sent.set()

    thread = threading.Thread(target=send_more)
    thread.start()
    fake.wait_for_calls(PUBLISH_BATCH, 1)
    assert not sent.is_set()
    gate.set()
    thread.join(LIMIT_S)
    assert sent.is_set()
    producer.close()
    assert [content[:1] for content in fake.stored("orders")] == [b"0", b"1", b"2", b"3"]


def test_a_result_can_be_waited_for_with_a_limit(client: mq.Client, fake: FakeServer) -> None:
    """Passing it is an error that says so; the message is still on its way."""
    gate = fake.hold(PUBLISH_BATCH)
    with client.producer("orders", linger_ms=0) as producer:
        handle = producer.send(b"x")
        with pytest.raises(mq.DeadlineExceeded, match="still on its way"):
            handle.result(0.01)
        gate.set()
        assert handle.result().offset == 0


def test_a_bad_message_fails_alone(client: mq.Client, fake: FakeServer) -> None:
    """Its handle raises; those around it, in the same batch and after, are stored."""
    producer = client.producer("orders", batch_records=8)
    handles = [producer.send(BAD_CONTENT if n == 5 else b"%d" % n) for n in range(20)]
    with pytest.raises(mq.InvalidArgument, match="a bad message"):
        handles[5].result(LIMIT_S)
    producer.close()
    assert fake.stored("orders") == [b"%d" % n for n in range(20) if n != 5]


def test_a_failure_nobody_asked_after_is_told_by_flush(client: mq.Client, fake: FakeServer) -> None:
    """Once; then it is forgotten."""
    with client.producer("orders") as producer:
        producer.send(BAD_CONTENT)
        with pytest.raises(mq.InvalidArgument):
            producer.flush()
        producer.flush()


def test_a_message_that_is_late_fails(client: mq.Client, fake: FakeServer) -> None:
    """After delivery_timeout_s the handle raises, whether it was sent or still waited."""
    gate = fake.hold(PUBLISH_BATCH)
    producer = client.producer(
        "orders", linger_ms=0, max_in_flight=1, batch_records=1, delivery_timeout_s=0.2
    )
    for handle in [producer.send(b"sent"), producer.send(b"waiting")]:
        with pytest.raises(mq.DeadlineExceeded):
            handle.result(LIMIT_S)
    gate.set()
    producer.close()


def test_closing_without_waiting(client: mq.Client, fake: FakeServer) -> None:
    """Time to flush is bounded; what isn't acknowledged then fails, and nothing more is taken."""
    fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", linger_ms=0)
    handle = producer.send(b"x")
    with pytest.raises(mq.Cancelled, match="closed before"):
        producer.close(timeout_s=0.05)
    with pytest.raises(mq.Cancelled):
        handle.result()
    assert producer.closed
    with pytest.raises(mq.FailedPrecondition, match="make a new one"):
        producer.send(b"y")


def test_a_sender_that_waits_is_told_of_the_end(client: mq.Client, fake: FakeServer) -> None:
    """Closing wakes those who wait for room, in other threads."""
    fake.hold(PUBLISH_BATCH)
    producer = client.producer("orders", batch_bytes=100, buffer_bytes=100, linger_ms=0)
    producer.send(bytes(90))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(producer.send, bytes(90))
        fake.wait_for_calls(PUBLISH_BATCH, 1)
        producer.abort()
        with pytest.raises(mq.FailedPrecondition):
            waiting.result(LIMIT_S)


def test_leaving_the_block_with_an_error(client: mq.Client, fake: FakeServer) -> None:
    """What was sent is still flushed, and the error stays the one that is raised."""
    with pytest.raises(KeyError) as caught, client.producer("orders") as producer:
        producer.send(b"kept")
        producer.send(BAD_CONTENT)
        raise KeyError
    assert fake.stored("orders") == [b"kept"]
    assert any("a bad message" in note for note in caught.value.__notes__)


def test_the_client_closes_its_producers(fake: FakeServer) -> None:
    """What they hold is flushed, and what fails is told."""
    client = mq.Client(fake.target, timeout_s=20)
    good, bad = client.producer("orders"), client.producer("orders")
    good.send(b"flushed")
    bad.send(BAD_CONTENT)
    with pytest.raises(mq.InvalidArgument):
        client.close()
    assert fake.stored("orders") == [b"flushed"]
    assert good.closed
    assert bad.closed


def test_publishes_of_many_threads(client: mq.Client, fake: FakeServer) -> None:
    """Each is answered for itself, and none is doubled by a lost answer."""
    fake.fail(PUBLISH_BATCH, LOST_ANSWER, LOST_REQUEST)
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda n: client.publish("orders", b"%d" % n), range(40)))
    stored = fake.stored("orders")
    assert [stored[receipt.offset] for receipt in receipts] == [b"%d" % n for n in range(40)]
    assert len(stored) == 40


INTERRUPTED = """
import signal, sys, threading, mq
client = mq.Client(sys.argv[1])
with client.producer("orders", linger_ms=0) as producer:
    handle = producer.send(b"x")
    print("waiting", flush=True)
    handle.result()
"""


def test_ctrl_c_interrupts_a_wait(fake: FakeServer) -> None:
    """Waiting for a receipt, and the producer's end, do not hold a program up."""
    fake.hold(PUBLISH_BATCH)
    assert interrupted(INTERRUPTED, fake) != 0


def interrupted(script: str, fake: FakeServer) -> int:
    """Run a program, send it SIGINT once it says that it waits, and see it end."""
    import signal

    with subprocess.Popen(
        [sys.executable, "-c", script, fake.target],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
        assert "KeyboardInterrupt" in errors
        return process.returncode
