"""``mq groups`` and ``mq sub --group`` against a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mq as mq_client
from mq.cli.connection import complete_group
from tests.cli.conftest import Run
from tests.cli.live import LIMIT_S, pipe, start
from tests.helpers.server import ServerProcess, clean_environment


@pytest.fixture
def workers(mq: Run, channel: str) -> str:
    """A channel with the messages a, b and c, and a group, workers, at its beginning."""
    assert mq("pub", channel, "a", "b", "c", "--key", "k", "--header", "h=1").code == 0
    assert mq("groups", "create", channel, "workers", "--max-deliveries", "2") == (0, b"", "")
    return channel


def described(mq: Run, channel: str, group: str = "workers") -> dict[str, Any]:
    """A group as JSON."""
    ran = mq("groups", "describe", channel, group, "--json")
    assert ran.code == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_a_group_prints_and_acknowledges(mq: Run, workers: str) -> None:
    """A count is exact; what it left comes next, and nothing comes twice."""
    assert mq("sub", workers, "--group", "workers", "--count", "2") == (0, b"a\nb\n", "")
    assert described(mq, workers)["messages_behind"] == 1
    ran = mq("sub", workers, "--group", "workers", "--count", "1", "--json")
    (message,) = map(json.loads, ran.out.splitlines())
    assert (message["content"], message["key"], message["headers"]) == ("c", "k", {"h": "1"})
    assert (message["offset"], message["delivery_count"]) == (2, 1)
    info = described(mq, workers)
    assert (info["acked"], info["messages_behind"], info["in_flight"]) == (3, 0, 0)


def test_a_group_is_made_on_first_use(mq: Run, workers: str) -> None:
    """Where it was told to begin, with the settings given; the beginning is the default."""
    args = ["--start", "1", "--mode", "exclusive", "--max-deliveries", "7", "--lease-ms", "1m"]
    assert mq("sub", workers, "-g", "new", *args, "-n", "1").out == b"b\n"
    config = described(mq, workers, "new")["config"]
    assert (config["mode"], config["max_deliveries"]) == ("exclusive", 7)
    assert config["lease_ms"] == 60_000
    assert mq("sub", workers, "-g", "plain", "-n", "1").out == b"a\n"


def test_idle_ends_it(mq: Run, workers: str) -> None:
    """Whole batches too, as they are written without a count."""
    ran = mq("sub", workers, "-g", "workers", "--idle", "100ms", "--raw")
    assert ran == (0, b"a\nb\nc\n", "")
    formatted = "{offset} {key} {headers} {delivery_count}"
    ran = mq("sub", workers, "-g", "again", "--idle", "100ms", "--format", formatted)
    assert ran == (0, b"0 k h=1 1\n1 k h=1 1\n2 k h=1 1\n", "")
    assert described(mq, workers)["messages_behind"] == 0


def test_no_ack_hands_everything_back_uncounted(mq: Run, workers: str) -> None:
    """A look that leaves no trace."""
    args = ["sub", workers, "-g", "workers", "-n", "2", "--no-ack", "--json"]
    for _ in range(3):
        ran = mq(*args)
        seen = [json.loads(line) for line in ran.out.splitlines()]
        assert [(each["content"], each["delivery_count"]) for each in seen] == [("a", 1), ("b", 1)]
        assert ran.err == ""
    assert described(mq, workers)["in_flight"] == 0


def test_poison_dies_and_is_redriven(mq: Run, channel: str) -> None:
    """Failed as often as is allowed it is a dead letter; redriven it is a new message."""
    # Letters are published in the background: a channel that is there can be waited on.
    mq("channels", "create", f"{channel}.dead")
    mq("pub", channel, "poison", "--key", "k", "--header", "h=1")
    mq("groups", "create", channel, "w", "--max-deliveries", "2", "--backoff-min-ms", "0")
    for _ in range(2):
        assert mq("sub", channel, "-g", "w", "-n", "1", "--nack").out == b"poison\n"
    assert described(mq, channel, "w")["dead"] == 1
    (letter,) = mq("sub", f"{channel}.dead", "-g", "look", "-n", "1", "--json").out.splitlines()
    headers = json.loads(letter)["headers"]
    assert (headers["mq-dead-channel"], headers["mq-dead-offset"]) == (channel, "0")
    assert headers["h"] == "1"
    ran = mq("groups", "redrive", channel, "w", "--json")
    assert json.loads(ran.out) == {"channel": channel, "group": "w", "count": 1}
    assert ran.err == "published 1 dead letter again\n"
    again = json.loads(mq("sub", channel, "-g", "w", "-n", "1", "--json").out)
    assert (again["offset"], again["key"], again["headers"]) == (1, "k", {"h": "1"})


def test_an_interrupted_consumer_hands_back(mq: Run, live: ServerProcess, workers: str) -> None:
    """What it has printed is acknowledged, the rest is there for others at once."""
    with start(live, "sub", workers, "-g", "workers", "--consumer", "one") as process:
        for line in (b"a\n", b"b\n", b"c\n"):
            assert pipe(process.stdout).readline() == line
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert pipe(process.stderr).read().strip() == b""
    info = described(mq, workers)
    assert (info["acked"], info["in_flight"], info["redelivered"]) == (3, 0, 0)
    with start(live, "sub", workers, "-g", "fresh", "--no-ack", "--json") as process:
        assert json.loads(pipe(process.stdout).readline())["offset"] == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 143
    info = described(mq, workers, "fresh")
    assert (info["acked"], info["in_flight"], info["messages_behind"]) == (0, 0, 3)


def test_a_signal_that_comes_twice_at_once_is_one(
    mq: Run, live: ServerProcess, workers: str
) -> None:
    """As wrappers pass it on: everything is handed back all the same."""
    with start(live, "sub", workers, "-g", "workers", "--no-ack") as process:
        assert pipe(process.stdout).readline() == b"a\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert pipe(process.stderr).read().strip() == b""
    assert described(mq, workers)["in_flight"] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_what_could_not_be_written_is_not_acknowledged(
    mq: Run, live: ServerProcess, workers: str
) -> None:
    """A full disk under the output costs no message."""
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "mq", "sub", workers, "-g", "workers"],
            env=clean_environment() | {"MQ_SERVER": live.address},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=LIMIT_S,
        )
    assert (ran.returncode, ran.stderr) == (2, b"mq: error: No space left on device\n")
    info = described(mq, workers)
    assert (info["acked"], info["in_flight"], info["messages_behind"]) == (0, 0, 3)


def test_delay_and_expiry_travel(mq: Run, channel: str) -> None:
    """Groups hand delayed messages out later, and expired ones never; readers see all."""
    mq("pub", channel, "later", "--deliver-after", "1h")
    mq("pub", channel, "gone", "--expires-after", "1ms")
    mq("pub", channel, "now")
    assert mq("sub", channel, "-g", "w", "-n", "1").out == b"now\n"
    info = described(mq, channel, "w")
    assert (info["waiting"], info["expired"]) == (1, 1)
    assert mq("sub", channel, "--from", "0").out == b"later\ngone\nnow\n"


def test_ls_is_a_line_a_group(mq: Run, workers: str) -> None:
    """Of a channel, or of all; as JSON an object each."""
    mq("groups", "create", workers, "a", "--start", "latest", "--mode", "key_ordered")
    lines = mq("groups", "ls", workers).text.splitlines()
    assert [line.split("\t")[:4] for line in lines] == [
        [workers, "a", "key_ordered", "0"],
        [workers, "workers", "shared", "3"],
    ]
    names = [json.loads(line)["name"] for line in mq("groups", "ls", "--json").out.splitlines()]
    assert {"a", "workers"} <= set(names)


def test_describe_names_consumers(mq: Run, workers: str) -> None:
    """Those that the group has seen, with what each has done."""
    client = mq_client.Client(broker_address())
    with client, client.group("workers", workers, consumer="me", max_records=3) as consumer:
        next(consumer).ack()
        (seen,) = described(mq, workers)["consumers"]
        assert (seen["name"], seen["acked"], seen["active"]) == ("me", 1, True)
        text = mq("groups", "describe", workers, "workers").text
    shown = dict(line.split("\t", 1) for line in text.splitlines())
    assert (shown["messages_behind"], shown["max_deliveries"]) == ("2", "2")
    assert shown["dead_letter_channel"] == f"{workers}.dead"
    assert shown["me"].split("\t")[1] == "1"


def broker_address() -> str:
    """The broker that commands of this test talk to."""
    return os.environ["MQ_SERVER"]


@pytest.mark.parametrize("command", ("ls", "describe"))
def test_watch_goes_on_until_ctrl_c(live: ServerProcess, workers: str, command: str) -> None:
    """An object each second; no traceback at the end."""
    args = ["ls", workers] if command == "ls" else ["describe", workers, "workers"]
    with start(live, "groups", *args, "--watch", "--json") as process:
        for _ in range(2):
            assert json.loads(pipe(process.stdout).readline())["messages_behind"] == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
        assert pipe(process.stderr).read().strip() == b""


def test_seek_moves_within_the_channel(mq: Run, workers: str) -> None:
    """To the ends, an offset, a time."""
    for place, behind in (("latest", 0), ("1", 2), ("beginning", 3), ("3", 0), ("-1h", 3)):
        ran = mq("groups", "seek", workers, "workers", "--to", place)
        assert ran.code == 0
        assert f"{behind} messages behind" in ran.err
    moved = mq("groups", "seek", workers, "workers", "--to", "2", "--json")
    assert json.loads(moved.out)["acked_through"] == 2


@pytest.mark.parametrize("place", ("4", "2100-01-01"))
def test_a_seek_beyond_an_end_is_refused(mq: Run, workers: str, place: str) -> None:
    """Code 1, and nothing moved."""
    ran = mq("groups", "seek", workers, "workers", "--to", place)
    assert (ran.code, ran.out) == (1, b"")
    assert "nothing moved" in ran.err
    assert described(mq, workers)["acked_through"] == 0


def test_create_leaves_and_configure_changes(mq: Run, workers: str) -> None:
    """A group that exists."""
    ran = mq("groups", "create", workers, "workers", "--max-deliveries", "9")
    assert (ran.code, ran.err) == (0, f"workers of {workers} exists, and was left as it is\n")
    assert described(mq, workers)["config"]["max_deliveries"] == 2
    changed = mq("groups", "configure", workers, "workers", "--lease-ms", "1m", "--json")
    config = json.loads(changed.out)["config"]
    assert (config["lease_ms"], config["max_deliveries"]) == (60_000, 2)


def test_a_mode_is_not_changed_on_a_live_group(mq: Run, workers: str) -> None:
    """Neither by a consumer that wants another, nor while messages are leased."""
    ran = mq("sub", workers, "-g", "workers", "--mode", "exclusive", "-n", "1")
    assert (ran.code, ran.out) == (1, b"")
    assert "is shared, not exclusive" in ran.err
    client = mq_client.Client(broker_address())
    with client, client.group("workers", workers) as consumer:
        next(consumer)
        ran = mq("groups", "configure", workers, "workers", "--mode", "exclusive")
        assert ran.code == 1
        assert "stop the consumers first" in ran.err
    assert described(mq, workers)["config"]["mode"] == "shared"


def test_settings_of_a_group_that_exists_are_a_warning(mq: Run, workers: str) -> None:
    """It keeps them, and its place; the command that changes it is named."""
    args = ["--start", "2", "--max-deliveries", "9"]
    ran = mq("sub", workers, "-g", "workers", "-n", "1", *args)
    assert (ran.code, ran.out) == (0, b"a\n")
    assert f"`mq groups seek {workers} workers --to START`" in ran.err
    assert f"`mq groups configure {workers} workers --max-deliveries 9`" in ran.err


def test_cursors_go_forward(mq: Run, workers: str) -> None:
    """Committed and printed; back is a warning, beyond the end a refusal."""
    nothing = mq("groups", "committed", workers, "nightly")
    assert (nothing.code, nothing.out) == (3, b"")
    assert mq("groups", "commit", workers, "nightly", "2") == (0, b"", "")
    assert mq("groups", "committed", workers, "nightly") == (0, b"2\n", "")
    assert "never moves back" in mq("groups", "commit", workers, "nightly", "1").err
    assert mq("groups", "commit", workers, "nightly", "4").code == 1
    as_json = json.loads(mq("groups", "committed", workers, "nightly", "--json").out)
    assert as_json == {"channel": workers, "group": "nightly", "offset": 2}


def test_rm_asks_or_is_told(mq: Run, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for channels."""
    assert mq("groups", "rm", workers, "workers").code == 2
    monkeypatch.setattr("mq.cli.asking.is_terminal", lambda: True)
    assert mq("groups", "rm", workers, "workers", stdin=b"n\n").code == 1
    asked = mq("groups", "rm", workers, "workers", stdin=b"y\n")
    assert asked.code == 0
    assert "3 messages it has not acknowledged" in asked.err
    assert mq("groups", "rm", workers, "workers", "--yes").code == 3


@pytest.mark.parametrize(
    "line",
    (
        "ls nope",
        "create nope g",
        "describe nope g",
        "describe {channel} nope",
        "configure {channel} nope --max-deliveries 1",
        "seek {channel} nope --to 0",
        "rm {channel} nope --yes",
        "redrive {channel} nope",
        "commit nope g 0",
        "committed nope g",
    ),
)
def test_no_such_channel_or_group_is_code_3(mq: Run, channel: str, line: str) -> None:
    """Whichever command finds out."""
    ran = mq("groups", *line.format(channel=channel).split())
    assert (ran.code, ran.out) == (3, b"")
    assert ran.err.startswith("mq: error: ")


def test_a_consumer_of_an_unknown_channel_is_code_3(mq: Run, channel: str) -> None:
    """A channel isn't made by reading it."""
    assert mq("sub", f"{channel}.nope", "-g", "w", "-n", "1").code == 3


@pytest.mark.parametrize(
    "line",
    (
        "sub c --consumer me",
        "sub c --no-ack",
        "sub c --idle 1s",
        "sub c --mode shared",
        "sub c -g w --lease-ms -5s",
        "sub c -g w --mode fast",
        "sub c -g w --json --raw --format x",
        "sub c -g ",
        "groups configure c w",
        "groups create c w --lease-ms soon",
        "groups seek c w",
        "groups redrive c w -n 0",
        "groups commit c w -1",
        "pub c x --deliver-after -5s",
        "pub c x --deliver-after 0",
        "pub c x --deliver-after 2s --expires-after 1s",
    ),
)
def test_wrong_usage_is_code_2(mq: Run, line: str) -> None:
    """Before any broker is asked."""
    ran = mq(*line.split(" "))
    assert (ran.code, ran.out) == (2, b"")
    assert "Error: " in ran.err


def test_names_of_groups_are_completed(workers: str) -> None:
    """Those of the channel on the command line; none without a channel."""
    parameter: Any = None
    params = {"server": broker_address(), "channel": workers}
    context: Any = type("Context", (), {"params": params})
    assert [each.value for each in complete_group(context, parameter, "w")] == ["workers"]
    assert complete_group(context, parameter, "x") == []
    params["channel"] = ""
    assert complete_group(context, parameter, "") == []
