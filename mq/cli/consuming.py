"""``mq sub --group``: print messages that are leased, and settle each once it is written out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import click

from mq.cli.exits import FAILED, Failure, code_of
from mq.cli.interrupts import Stopper, stop_on_signal
from mq.cli.output import tell
from mq.cli.reading import OnDamage
from mq.cli.types import Start
from mq.cli.writing import Writer
from mq.errors import DataLoss, GroupNotFound

if TYPE_CHECKING:
    from mq import Client, GroupBatch, GroupConsumer, GroupMessage, Message

Settle = Literal["ack", "nack", "nothing"]

NACK_REASON = "handed back by mq sub --nack"


@dataclass(frozen=True)
class Consuming:
    """How a group's messages are consumed.

    Attributes:
        start: Where a group begins that is made now.
        settings: Of such a group, by name; a lease is this consumer's, too.
        consumer: This consumer's name; None makes one.
        count: Stop after so many.
        idle_ms: Stop once there was nothing for so long; None: never.
        settle: What is said of a message that has been written.
        on_damage: Stop at damaged messages, or acknowledge them unread.
    """

    channel: str
    group: str
    start: Start | None
    settings: dict[str, Any]
    consumer: str | None
    count: int | None
    idle_ms: float | None
    settle: Settle
    on_damage: OnDamage


class _Counted:
    """A message as it is written, with how often it was delivered."""

    __slots__ = ("append_time_ns", "content", "delivery_count", "headers", "key", "offset")

    def __init__(self, message: Message, delivery_count: int) -> None:
        self.offset = message.offset
        self.append_time_ns = message.append_time_ns
        self.key = message.key
        self.headers = message.headers
        self.content = message.content
        self.delivery_count = delivery_count


class _Batch:
    """A batch of a group, as it is written."""

    def __init__(self, batch: GroupBatch) -> None:
        self._batch = batch

    @property
    def contents(self) -> list[bytes]:
        return self._batch.contents

    def messages(self) -> Iterator[Message]:
        count = self._batch.delivery_count
        return (cast("Message", _Counted(each, count)) for each in self._batch.messages())


class _One:
    """A message that is written as if it were a batch."""

    def __init__(self, message: GroupMessage) -> None:
        self._message = message

    @property
    def contents(self) -> list[bytes]:
        return [self._message.content]

    def messages(self) -> Iterator[Message]:
        yield self._message


def consume(client: Client, how: Consuming, write: Writer, out: BinaryIO) -> int:
    """Print messages until the count, the idle time or a signal; hand back the rest.

    Returns:
        The exit code.

    Raises:
        Failure: The group exists in another mode, or messages are damaged.
    """
    _check_existing(client, how)
    consumer = client.group(
        how.group,
        how.channel,
        consumer=how.consumer,
        start="beginning" if how.start is None else how.start,
        max_records=500 if how.count is None else max(1, min(how.count, 500)),
        prefetch=how.count is None,
        idle_ms=how.idle_ms,
        work_limit_ms=None,
        on_damage=how.on_damage,
        **how.settings,
    )
    with stop_on_signal(consumer.stop) as stopper:
        try:
            with consumer:
                _print(consumer, how, write, out, stopper)
        except DataLoss as error:
            hint = "go on after it with --on-damage skip, which acknowledges it unread"
            raise Failure(error.message, code=code_of(error), hint=hint) from error
    _tell_losses(consumer, how.settle)
    return stopper.exit_code


def _print(
    consumer: GroupConsumer, how: Consuming, write: Writer, out: BinaryIO, stopper: Stopper
) -> None:
    """Write and settle what comes, until the count, the idle time or a signal."""
    left = how.count
    # Batches are quick; a count may end within one.
    source: Iterator[GroupMessage | GroupBatch]
    source = consumer.batches() if left is None else iter(consumer)
    # A signal that came before the consumer was entered has not stopped it.
    while left != 0 and not stopper.received:
        each = next(source, None)
        if each is None:
            return
        _write(each, write)
        out.flush()
        _settle(each, how.settle)
        if left is not None:
            left -= 1


def _write(each: GroupMessage | GroupBatch, write: Writer) -> None:
    from mq import GroupBatch

    if isinstance(each, GroupBatch):
        write(_Batch(each), each.record_count)
    else:
        write(_One(each), 1)


def _settle(settleable: GroupMessage | GroupBatch, settle: Settle) -> None:
    if settle == "ack":
        settleable.ack_nowait()
    elif settle == "nack":
        settleable.nack_nowait(reason=NACK_REASON)


def _check_existing(client: Client, how: Consuming) -> None:
    """What is asked of a group that exists, and is otherwise."""
    wanted = {name: value for name, value in how.settings.items() if name != "lease_ms"}
    if how.start is None and not wanted:
        return
    try:
        config = client.describe_group(how.group, how.channel).config
    except GroupNotFound:
        return
    name = f"group {how.group} of {how.channel}"
    place = f"{how.channel} {how.group}"
    if wanted.get("mode", config.mode) != config.mode:
        raise Failure(
            f"{name} is {config.mode}, not {wanted['mode']}",
            code=FAILED,
            hint="leave --mode out, or change it while nobody consumes: "
            f"mq groups configure {place} --mode {wanted['mode']}",
        )
    if how.start is not None:
        tell(
            f"mq: warning: {name} exists, and goes on where it is; "
            f"`mq groups seek {place} --to START` moves it"
        )
    for setting, value in wanted.items():
        if getattr(config, setting) != value:
            flag = "--" + setting.replace("_", "-")
            tell(
                f"mq: warning: {name} exists, with {setting} {getattr(config, setting)}; "
                f"`mq groups configure {place} {flag} {value}` changes it"
            )


def _tell_losses(consumer: GroupConsumer, settle: Settle) -> None:
    stats = consumer.stats
    if stats.skipped:
        tell(f"mq: warning: damaged messages acknowledged unread: {stats.skipped}")
    # What nothing was said about has just been handed back, and counts as lost.
    if stats.lost and settle != "nothing":
        tell(
            f"mq: warning: messages printed whose leases were lost first: {stats.lost}; "
            "they may be delivered again"
        )


def check_group_options(group: str | None, given: dict[str, Any]) -> None:
    """Refuse options that mean something for a group only.

    Raises:
        UsageError: One was given without ``--group``.
    """
    if group is not None:
        if not group:
            raise click.BadParameter("a group needs a name", param_hint="--group")
        return
    for name, value in given.items():
        if value is not None and value is not False:
            raise click.UsageError(f"{name} goes with --group")
