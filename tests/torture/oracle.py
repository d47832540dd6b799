"""Reads everything back and holds it against the ledger; then asks `verify`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import grpc

from mq.log.report import Report, Severity
from mq.log.verify import verify_data_dir
from mq.pb import mq_pb2 as pb
from tests.conformance.rpc import Rpc
from tests.torture.fault import Outcome
from tests.torture.ledger import Ledger, digest
from tests.torture.load import connect, until
from tests.torture.place import TortureServer

_READ_BYTES = 4 << 20
_ANSWER_LIMIT_S = 20.0
_MOVES_MAX = 100


def records(rpc: Rpc, channel: str, info: pb.ChannelInfo) -> Iterator[tuple[int, bytes]]:
    """Every record from the log's start to the durable offset of a description.

    Raises:
        grpc.RpcError: A record can't be read.
    """
    offset = info.log_start_offset
    while offset < info.durable_offset:
        pulled = rpc.pull(channel, offset=offset, max_bytes=_READ_BYTES)
        yield from pulled.records()
        assert pulled.answer.next_offset > offset, "a pull that makes no way"
        offset = pulled.answer.next_offset


def read_back(rpc: Rpc, channel: str) -> tuple[int, list[tuple[int, bytes]]]:
    """The log's start, and every record up to the durable offset.

    Raises:
        grpc.RpcError: A record can't be read.
    """
    info = rpc.describe(channel)
    return info.log_start_offset, list(records(rpc, channel, info))


def judge(rpc: Rpc, ledger: Ledger) -> Outcome:
    """Compare what a running server holds with the ledger."""
    outcome = Outcome()
    for channel in ledger.channels:
        until(partial(opens, rpc, channel), _ANSWER_LIMIT_S)
        try:
            found = judge_channel(rpc, ledger, channel)
        except grpc.RpcError as error:
            outcome.problem(f"{channel} can't be read back: {error}")
        else:
            outcome.add(found)
    for problem in ledger.problems:
        outcome.problem(problem)
    return outcome


def judge_channel(rpc: Rpc, ledger: Ledger, channel: str) -> Outcome:
    """Compare a channel with the ledger; again if retention moved its start meanwhile.

    Raises:
        grpc.RpcError: A record can't be read.
    """
    for _ in range(_MOVES_MAX):
        info = rpc.describe(channel)
        try:
            return ledger.judge(channel, records(rpc, channel, info), info.log_start_offset)
        except grpc.RpcError as error:
            moved = rpc.describe(channel).log_start_offset > info.log_start_offset
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE or not moved:
                raise
    raise AssertionError(f"the start of {channel} moves on and on")


def check_reads(
    server: TortureServer,
    ledger: Ledger,
    outcome: Outcome,
    when: str,
    channels: Sequence[str] | None = None,
) -> None:
    """Everything acknowledged so far can be read, while publishing goes on."""
    with contextlib.closing(connect(server.address)) as rpc:
        for channel in ledger.channels if channels is None else channels:
            told = ledger.told(channel)
            try:
                first, stored = read_back(rpc, channel)
            except grpc.RpcError as error:
                outcome.problem(f"{channel} can't be read {when}: {error}")
                continue
            found = {offset: digest(content) for offset, content in stored}
            gone = [o for o, known in told.items() if o >= first and found.get(o) != known]
            outcome.expect(not gone, f"{channel}: {len(gone)} messages can't be read {when}")


def settle(server: TortureServer, ledger: Ledger, outcome: Outcome, *, rounds: int) -> Outcome:
    """The end of a round: judge the running server, stop it, verify its directory.

    Args:
        server: Runs, and nobody publishes any more.
        ledger: Of all that was published.
        outcome: Added to, and returned.
        rounds: How often the fault struck.
    """
    with contextlib.closing(connect(server.address)) as rpc:
        outcome.expect(until(lambda: answers(rpc), _ANSWER_LIMIT_S), "the server does not answer")
        outcome.add(judge(rpc, ledger))
        for channel in ledger.channels:
            info = rpc.describe(channel)
            outcome.expect(
                info.state == pb.CHANNEL_STATE_OK, f"{channel} is not well: {info.state_reason}"
            )
    for complaint in server.complaints():
        outcome.problem(complaint)
    code = server.stop()
    outcome.expect(code == 0, f"the server ended with code {code}")
    check_directory(server.data_dir, outcome)
    outcome.rounds += rounds
    return outcome


def opens(rpc: Rpc, channel: str) -> bool:
    """Whether the server says no more that it lacks what it takes to open a channel."""
    try:
        rpc.pull(channel, position=pb.OFFSET_BEGINNING, max_records=1)
    except grpc.RpcError as error:
        return error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
    return True


def answers(rpc: Rpc) -> bool:
    """Whether the server answers a call."""
    try:
        rpc.list_channels(page_size=1)
    except grpc.RpcError:
        return False
    return True


def check_directory(path: Path, outcome: Outcome) -> Report:
    """`verify` has to find a stopped server's directory sound."""
    report = verify_data_dir(path)
    for line in faults(report):
        outcome.problem(f"verify: {line}")
    return report


def faults(report: Report) -> Iterator[str]:
    """What `verify` found that is not sound."""
    for finding in (*report.own_findings, *(f for log in report.logs for f in log.findings)):
        if finding.severity is not Severity.NOTICE:
            yield finding.line()
