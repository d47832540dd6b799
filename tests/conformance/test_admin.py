"""Channels: created, listed, described, configured, deleted; what names there can be."""

from __future__ import annotations

import itertools
import threading
import time
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from mq.pb import mq_pb2 as pb
from tests.conformance.conftest import StartFront
from tests.conformance.rpc import LIMIT_S, Rpc, messages, refused
from tests.helpers.server import ServerProcess

MIB = 1 << 20


# ---- Names ----------------------------------------------------------------------------

GOOD_NAMES = [
    "a",
    "A",
    "_",
    "0",
    "a" * 255,
    "eu/orders.v2",
    "a:b@c+d=e~f#g-h",
    "a/../b",
    "a..",
    "con",
]
BAD_NAMES = {
    "parent": "../x",
    "dot": ".",
    "dot dot": "..",
    "hidden": ".hidden",
    "absolute": "/etc/passwd",
    "NUL": "a\0b",
    "escaped dot": "%2e",
    "too long": "a" * 256,
    "much too long": "a" * 300,
    "far too long": "a" * 100_000,
    "composed": unicodedata.normalize("NFC", "é"),
    "decomposed": unicodedata.normalize("NFD", "é"),
    "emoji": "\N{SNOWMAN}",
    "right to left": "a\u202eb",
    "fullwidth": "\N{FULLWIDTH LATIN SMALL LETTER A}",
    "space": "a b",
    "newline": "a\n",
    "only a newline": "\n",
    "backslash": "a\\b",
    "control": "a\x1b[31m",
    "option": "-a",
    "wildcard": "a*",
}


@pytest.mark.parametrize("name", GOOD_NAMES, ids=lambda name: name[:20])
def test_a_good_name(rpc: Rpc, name: str) -> None:
    """It can be created, used and deleted, whatever it would mean to a file system."""
    rpc.create(name)
    rpc.publish(name, b"x")
    assert rpc.describe(name).name == name
    assert rpc.pull(name).records() == [(0, b"x")]
    rpc.delete(name)


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_bad_name(rpc: Rpc, shared: ServerProcess, name: str) -> None:
    """Each call refuses it; no file has come to be."""
    before = sorted(shared.data_dir.rglob("*"))
    channel: dict[str, Any] = {"channel": name}
    requests: dict[str, Any] = {
        "CreateChannel": pb.CreateChannelRequest(**channel),
        "DescribeChannel": pb.DescribeChannelRequest(**channel),
        "ConfigureChannel": pb.ConfigureChannelRequest(**channel),
        "DeleteChannel": pb.DeleteChannelRequest(**channel),
        "PublishBatch": pb.PublishBatchRequest(**channel, records=b"\x0a\x01x"),
        "Pull": pb.PullRequest(**channel),
    }
    for method, request in requests.items():
        with refused("INVALID_ARGUMENT", "invalid-argument") as refusal:
            rpc.raw(method, request.SerializeToString())
        assert len(refusal.message) < 1000
        assert refusal.message.isprintable()
    # In the first contract, whatever is not a channel is one that doesn't exist.
    with refused("FAILED_PRECONDITION", "channel-missing"):
        rpc.publish(name, b"x")
    with refused("FAILED_PRECONDITION", "channel-missing"):
        next(rpc.subscribe(name))
    assert sorted(shared.data_dir.rglob("*")) == before
    assert not (shared.data_dir.parent / "x").exists()


@pytest.mark.parametrize("raw", [b"\x0a\x01\xff", b"\x0a\x02\xc3\x28", b"\x0a\x03\xed\xa0\x80"])
def test_a_name_that_is_not_utf8(rpc: Rpc, raw: bytes) -> None:
    """It is no string, so the request is none."""
    for method in ("CreateChannel", "DescribeChannel", "Publish", "Pull"):
        with refused("INVALID_ARGUMENT"):
            rpc.raw(method, raw)


def test_case_makes_a_difference(rpc: Rpc, fresh_name: str) -> None:
    """Twins that differ in case are two channels."""
    lower, upper = fresh_name.lower(), fresh_name.upper()
    for name in (lower, upper):
        rpc.create(name)
        rpc.publish(name, name.encode())
    assert rpc.contents(lower) == [lower.encode()]
    assert rpc.contents(upper) == [upper.encode()]


def test_creating_at_the_same_time_makes_one(rpc: Rpc, fresh_name: str) -> None:
    """Of many who create a channel together each succeeds, and all mean the same one."""
    request = pb.CreateChannelRequest(channel=fresh_name)
    for call in [rpc.later("CreateChannel", request) for _ in range(50)]:
        assert call.result() == b""
    listed = rpc.list_channels(prefix=fresh_name).channels
    assert [channel.name for channel in listed] == [fresh_name]
    assert rpc.describe(fresh_name).id == listed[0].id


# ---- Lists ----------------------------------------------------------------------------


def test_listing(rpc: Rpc, fresh_name: str) -> None:
    """By prefix, in order of name, in pages that lead to each other."""
    names = sorted(f"{fresh_name}/{n}" for n in range(25))
    for name in reversed(names):
        rpc.create(name)
    assert [c.name for c in rpc.list_channels(prefix=f"{fresh_name}/").channels] == names
    assert rpc.list_channels(prefix=f"{fresh_name}/").next_page_token == ""
    assert [c.name for c in rpc.list_channels(prefix=names[3]).channels] == [
        name for name in names if name.startswith(names[3])
    ]
    for size in (1, 10, 24, 25, 26, (1 << 32) - 1):
        found, token, pages = [], "", 0
        while pages == 0 or token:
            page = rpc.list_channels(prefix=f"{fresh_name}/", page_size=size, page_token=token)
            assert len(page.channels) <= size
            found += [channel.name for channel in page.channels]
            token, pages = page.next_page_token, pages + 1
        assert found == names
        assert pages == -(-25 // size)


def test_a_list_says_who_and_since_when(rpc: Rpc, fresh_name: str) -> None:
    """Name, id and time of creation of each."""
    before = time.time_ns()
    rpc.create(fresh_name)
    (listed,) = rpc.list_channels(prefix=fresh_name).channels
    assert before <= listed.created_ns <= time.time_ns()
    assert listed.id == rpc.describe(fresh_name).id


def test_a_page_goes_on_though_its_token_is_gone(rpc: Rpc, fresh_name: str) -> None:
    """Channels may come and go between two pages."""
    names = [f"{fresh_name}/{n}" for n in range(4)]
    for name in names:
        rpc.create(name)
    token = rpc.list_channels(prefix=f"{fresh_name}/", page_size=2).next_page_token
    rpc.delete(names[1])
    rest = rpc.list_channels(prefix=f"{fresh_name}/", page_token=token).channels
    assert [channel.name for channel in rest] == names[2:]


def test_nothing_to_list(rpc: Rpc) -> None:
    """A prefix that no channel has gives an empty list, whatever it is."""
    for prefix in ("no such channel", "../", "\0", "\N{SNOWMAN}"):
        assert rpc.list_channels(prefix=prefix) == pb.ListChannelsResponse()


# ---- Describing and configuring -------------------------------------------------------


def test_describing(rpc: Rpc, channel: str) -> None:
    """Offsets, bytes, segments, settings, times, rates and state."""
    empty = rpc.describe(channel)
    assert (empty.log_start_offset, empty.durable_offset, empty.stored_bytes) == (0, 0, 0)
    assert (empty.last_append_time_ns, empty.waiting_pulls) == (0, 0)
    assert len(bytes.fromhex(empty.id)) == 16
    answer = rpc.publish_batch(channel, [b"x" * 1000] * 60)
    info = rpc.describe(channel)
    assert info.name == channel
    assert (info.log_start_offset, info.durable_offset) == (0, 60)
    assert 60_000 < info.stored_bytes < info.allocated_bytes
    assert info.segment_count == 1
    assert info.created_ns < info.last_append_time_ns == answer.append_time_ns
    assert info.state == pb.CHANNEL_STATE_OK
    assert info.state_reason == ""
    assert info.publish_records_per_second > 0
    assert info.publish_bytes_per_second > 1000 * info.publish_records_per_second
    assert info.config.segment_bytes == 64 * MIB
    assert info.config.durability == pb.DURABILITY_SYNCED
    assert info.config.max_message_bytes == 4 * MIB


def test_configuring(rpc: Rpc, fresh_name: str) -> None:
    """What is given changes, what is not stays; the answer is the channel as it is then."""
    rpc.create(fresh_name, segment_bytes=1 << 20, max_message_bytes=100)
    first = rpc.configure(fresh_name, durability=pb.DURABILITY_WRITTEN)
    assert (first.name, first.config) == (fresh_name, rpc.describe(fresh_name).config)
    assert first.config.segment_bytes == 1 << 20
    assert first.config.max_message_bytes == 100
    assert first.config.durability == pb.DURABILITY_WRITTEN
    rpc.publish(fresh_name, b"x" * 100)
    with refused("RESOURCE_EXHAUSTED"):
        rpc.publish(fresh_name, b"x" * 101)
    rpc.configure(fresh_name, max_message_bytes=101)
    rpc.publish(fresh_name, b"x" * 101)
    assert rpc.describe(fresh_name).config.durability == pb.DURABILITY_WRITTEN


def test_creating_again_changes_nothing(rpc: Rpc, fresh_name: str) -> None:
    """The settings of a channel that exists are not those of a later CreateChannel."""
    rpc.create(fresh_name, max_message_bytes=100)
    rpc.create(fresh_name, max_message_bytes=200)
    assert rpc.describe(fresh_name).config.max_message_bytes == 100


@pytest.mark.parametrize(
    "config",
    [
        {"segment_bytes": 0},
        {"segment_bytes": (1 << 16) - 1},
        {"segment_bytes": (1 << 30) + 1},
        {"segment_bytes": (1 << 64) - 1},
        {"max_message_bytes": 0},
        {"durability": 3},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used(rpc: Rpc, fresh_name: str, config: dict[str, int]) -> None:
    """Neither create nor configure takes them: the error names the setting, nothing changes."""
    with refused("INVALID_ARGUMENT") as refusal:
        rpc.create(fresh_name, **config)
    assert next(iter(config)) in refusal.message
    with refused("NOT_FOUND"):
        rpc.describe(fresh_name)
    rpc.create(fresh_name)
    before = rpc.describe(fresh_name).config
    with refused("INVALID_ARGUMENT"):
        rpc.configure(fresh_name, **config)
    assert rpc.describe(fresh_name).config == before


def test_an_unknown_channel(rpc: Rpc, fresh_name: str) -> None:
    """It can be neither described nor configured nor deleted."""
    with refused("NOT_FOUND", "channel-not-found"):
        rpc.describe(fresh_name)
    with refused("NOT_FOUND", "channel-not-found"):
        rpc.configure(fresh_name, max_message_bytes=1)
    with refused("NOT_FOUND", "channel-not-found"):
        rpc.delete(fresh_name)


# ---- Deleting -------------------------------------------------------------------------


def test_deleting(rpc: Rpc, channel: str, shared: ServerProcess) -> None:
    """It and its files are gone; one of the same name afterwards is another."""
    rpc.publish(channel, b"old")
    old = rpc.describe(channel)
    old_message = messages(rpc.subscribe(channel), 1)[0]
    rpc.delete(channel)
    assert rpc.list_channels(prefix=channel).channels == []
    assert list(shared.data_dir.rglob(f"*{old.id}*")) == []
    with refused("NOT_FOUND"):
        rpc.pull(channel)
    rpc.create(channel)
    assert rpc.pull(channel).records() == []
    rpc.publish(channel, b"new")
    new_message = messages(rpc.subscribe(channel), 1)[0]
    assert rpc.describe(channel).id != old.id
    assert new_message.id != old_message.id


def test_deleting_while_it_is_used(rpc: Rpc, channel: str) -> None:
    """Publishers and readers get their answer or an error that says so; the rest goes on."""
    started = threading.Barrier(3)
    ended: list[str] = []

    def use(call: Callable[[], object], code: str) -> None:
        call()
        started.wait(LIMIT_S)
        with refused(code):
            for _ in itertools.count():
                call()
        ended.append(code)

    rpc.publish(channel, b"x")
    users = [
        threading.Thread(
            target=use, args=(lambda: rpc.publish(channel, b"x"), "FAILED_PRECONDITION")
        ),
        threading.Thread(target=use, args=(lambda: rpc.pull(channel, offset=0), "NOT_FOUND")),
    ]
    for user in users:
        user.start()
    started.wait(LIMIT_S)
    rpc.delete(channel)
    for user in users:
        user.join(LIMIT_S)
    assert sorted(ended) == ["FAILED_PRECONDITION", "NOT_FOUND"]


# ---- After a restart ------------------------------------------------------------------


def test_channels_after_a_restart(
    start: StartFront, connect: Callable[[ServerProcess], Rpc]
) -> None:
    """Names, ids and settings stay; deleted ones stay deleted; foreign entries are left alone."""
    server = start()
    rpc = connect(server)
    rpc.create("a", segment_bytes=1 << 17, durability=pb.DURABILITY_WRITTEN)
    for name in ("b", "gone"):
        rpc.create(name)
        rpc.publish(name, b"x")
    rpc.delete("gone")
    before = [rpc.describe(name) for name in ("a", "b")]
    server.kill()
    channels = server.data_dir / "channels"
    elsewhere = server.data_dir.parent / "elsewhere"
    (channels / before[1].id).rename(elsewhere)
    (channels / before[1].id).symlink_to(elsewhere)
    server.start()
    rpc = connect(server)
    assert [channel.name for channel in rpc.list_channels().channels] == ["a"]
    assert any("left alone" in entry.get("reason", "") for entry in server.log)
    assert rpc.describe("a").config == before[0].config
    server.stop()
    (channels / before[1].id).unlink()
    elsewhere.rename(channels / before[1].id)
    server.start()
    rpc = connect(server)
    assert [channel.name for channel in rpc.list_channels().channels] == ["a", "b"]
    assert rpc.describe("b").id == before[1].id
    assert rpc.pull("b").records() == [(0, b"x")]
