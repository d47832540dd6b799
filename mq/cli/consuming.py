"""``mq sub --group``: print messages that are leased, and settle each once it is written out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from mq.cli.exits import FAILED, OK, Failure, code_of
from mq.cli.interrupts import Interrupted, Interrupts, catch_interrupts
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
        one_by_one: Whether messages are written one by one, not in batches.
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
    one_by_one: bool


class One:
    """A message that is written as if it were a batch."""

    def __init__(self, message: GroupMessage) -> None:
        self.message = message

    @property
    def contents(self) -> list[bytes]:
        """Its content."""
        return [self.message.content]

    def messages(self) -> Iterator[Message]:
        """Itself."""
        yield self.message


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
    with catch_interrupts() as interrupts:
        try:
            with consumer:
                _print(consumer, how, write, out, interrupts)
        except Interrupted:
            pass
        except DataLoss as error:
            hint = "go on after it with --on-damage skip, which acknowledges it unread"
            raise Failure(error.message, code=code_of(error), hint=hint) from error
    _tell_losses(consumer, how.settle)
    return interrupts.exit_code if interrupts.received else OK


def _print(
    consumer: GroupConsumer, how: Consuming, write: Writer, out: BinaryIO, interrupts: Interrupts
) -> None:
    if how.count == 0:
        return
    left = how.count
    for each in _supply(consumer, interrupts, one_by_one=how.one_by_one or left is not None):
        if isinstance(each, tuple):
            settleable: GroupMessage | GroupBatch = each[0]
            write(One(each[0]), 1)
        else:
            settleable = each
            write(each, each.record_count)
        out.flush()
        _settle(settleable, how.settle)
        if left is not None:
            left -= 1
            if left == 0:
                return


def _supply(
    consumer: GroupConsumer, interrupts: Interrupts, *, one_by_one: bool
) -> Iterator[tuple[GroupMessage] | GroupBatch]:
    """What comes; a signal ends the wait for it, with `Interrupted`."""
    source: Iterator[GroupMessage | GroupBatch] = (
        iter(consumer) if one_by_one else consumer.batches()
    )
    while True:
        with interrupts.waiting():
            each = next(source, None)
        if each is None:
            return
        yield (each,) if one_by_one else each  # type: ignore[misc]


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
