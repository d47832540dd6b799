"""The part of the asynchronous client that is about groups, and what channels keep."""

from __future__ import annotations

import weakref
from datetime import datetime

from mq.client import group_flows
from mq.client.aio_group import AsyncGroupConsumer
from mq.client.aio_transport import AioTransport
from mq.client.arguments import Start
from mq.client.flows import CallPolicy
from mq.client.follower import OnDamage
from mq.client.group_options import GroupOptions, unique_consumer_name
from mq.client.group_types import GroupConfig, GroupInfo, GroupMode, PurgedSegment
from mq.units import MIB


class AsyncGroupCalls:
    """What `AsyncClient` offers about consumer groups."""

    _transport: AioTransport
    _policy: CallPolicy
    _consumers: weakref.WeakSet[AsyncGroupConsumer]

    # ---- Consumers --------------------------------------------------------

    def group(
        self,
        group: str,
        channel: str,
        *,
        consumer: str | None = None,
        start: Start = "beginning",
        mode: GroupMode | None = None,
        lease_ms: int | None = None,
        max_deliveries: int | None = None,
        backoff_min_ms: int | None = None,
        backoff_max_ms: int | None = None,
        dead_letter_channel: str | None = None,
        dead_letter_expired: bool | None = None,
        session_ms: int | None = None,
        max_records: int = 500,
        max_bytes: int = MIB,
        max_wait_ms: int = 30_000,
        prefetch: bool = True,
        ack_linger_ms: float = 5,
        idle_ms: float | None = None,
        work_limit_ms: float | None = 3_600_000,
        on_damage: OnDamage = "raise",
        reconnect_timeout_s: float | None = None,
    ) -> AsyncGroupConsumer:
        """A consumer of a group: shares a channel's messages with others, under leases.

        To be used as an async context manager. The group is made if there is
        none: only then do `start` and the settings from `mode` to `session_ms`
        matter, except that a `lease_ms` is this consumer's, too. A group that
        exists keeps its settings; see `create_group` to change them.

        Args:
            group: The group's name.
            channel: An existing channel.
            consumer: This consumer's name, that no other has; None makes one.
            start: Where the group begins: an offset, a time, ``"beginning"`` or
                ``"latest"``.
            mode: ``"shared"`` (the default), ``"key_ordered"`` or ``"exclusive"``;
                it has to be that of a group that exists.
            lease_ms: How long the broker waits for word of a message before it gives
                it to others. Leases are prolonged while this consumer lives.
            max_deliveries: After so many failures a message is a dead letter; 0: never.
            backoff_min_ms: How long a message waits after its first failure.
            backoff_max_ms: The longest it waits.
            dead_letter_channel: None or empty for ``<channel>.dead``.
            dead_letter_expired: Whether messages that expire become dead letters.
            session_ms: How long the active consumer of an exclusive group may be silent.
            max_records: How many messages are held that were not handed out yet.
            max_bytes: How much one fetch brings, about.
            max_wait_ms: How long one fetch waits; there is no need to change it.
            prefetch: Whether to fetch the next messages while these are worked on.
            ack_linger_ms: How long an acknowledgement that nobody waits for waits for
                others, to travel together.
            idle_ms: End iterating once there was nothing for so long; None: never.
            work_limit_ms: How long a message that was handed out is kept from others
                at most, about; None: for ever.
            on_damage: ``"raise"`` damage as `DataLoss`, or ``"skip"``: acknowledge and
                count it.
            reconnect_timeout_s: How long to wait for a broker that is away before
                raising; None is for ever.

        Raises:
            InvalidArgument: An option that can't be used.
        """
        made = AsyncGroupConsumer(
            self._transport,
            self._policy,
            group,
            channel,
            start,
            GroupConfig(
                mode,
                lease_ms,
                max_deliveries,
                backoff_min_ms,
                backoff_max_ms,
                dead_letter_channel,
                dead_letter_expired,
                session_ms,
            ),
            GroupOptions(
                unique_consumer_name() if consumer is None else consumer,
                lease_ms=lease_ms,
                max_records=max_records,
                max_bytes=max_bytes,
                max_wait_ms=max_wait_ms,
                ack_linger_s=ack_linger_ms / 1000,
                prefetch=prefetch,
                idle_s=None if idle_ms is None else idle_ms / 1000,
                work_limit_s=None if work_limit_ms is None else work_limit_ms / 1000,
                on_damage=on_damage,
                reconnect_timeout_s=reconnect_timeout_s,
                call_timeout_s=self._policy.timeout_s,
            ),
        )
        self._consumers.add(made)
        return made

    # ---- Groups -----------------------------------------------------------

    async def create_group(
        self,
        group: str,
        channel: str,
        *,
        start: Start = "beginning",
        mode: GroupMode | None = None,
        lease_ms: int | None = None,
        max_deliveries: int | None = None,
        backoff_min_ms: int | None = None,
        backoff_max_ms: int | None = None,
        dead_letter_channel: str | None = None,
        dead_letter_expired: bool | None = None,
        session_ms: int | None = None,
    ) -> GroupInfo:
        """Make a group; of one that exists, change those settings that are not None.

        Args:
            group: The group's name.
            channel: An existing channel.
            start: Where it begins; one that exists stays where it is.
            mode: As for `group`; it can't be changed while messages are leased.
            lease_ms: As for `group`, for consumers that don't say.
            max_deliveries: As for `group`.
            backoff_min_ms: As for `group`.
            backoff_max_ms: As for `group`.
            dead_letter_channel: As for `group`.
            dead_letter_expired: As for `group`.
            session_ms: As for `group`.

        Returns:
            The group as it is now.

        Raises:
            OffsetOutOfRange: The start is outside the log.
            MQError: It was refused.
        """
        config = GroupConfig(
            mode,
            lease_ms,
            max_deliveries,
            backoff_min_ms,
            backoff_max_ms,
            dead_letter_channel,
            dead_letter_expired,
            session_ms,
        )
        return await self._transport.run(
            group_flows.create_group(self._policy, group, channel, start, config)
        )

    async def list_groups(self, channel: str | None = None) -> list[GroupInfo]:
        """All groups of a channel, or of all channels.

        Raises:
            MQError: It was refused.
        """
        return await self._transport.run(group_flows.list_groups(self._policy, channel))

    async def describe_group(self, group: str, channel: str) -> GroupInfo:
        """How a group is doing: settings, lag, what is in flight, its consumers.

        Raises:
            GroupNotFound: There is none of that name.
            MQError: It was refused.
        """
        return await self._transport.run(group_flows.describe_group(self._policy, group, channel))

    async def seek_group(self, group: str, channel: str, start: Start) -> GroupInfo:
        """Move a group: what is behind the new place is done, what is ahead is not.

        Args:
            group: The group's name.
            channel: Its channel.
            start: An offset, a time, ``"beginning"`` or ``"latest"``.

        Returns:
            The group as it is now.

        Raises:
            GroupNotFound: There is none of that name.
            OffsetOutOfRange: The start is outside the log; nothing moved.
            MQError: It was refused.
        """
        return await self._transport.run(
            group_flows.seek_group(self._policy, group, channel, start)
        )

    async def delete_group(self, group: str, channel: str) -> None:
        """Forget a group, and where it was.

        Raises:
            GroupNotFound: There is none of that name.
            MQError: It was refused.
        """
        await self._transport.run(group_flows.delete_group(self._policy, group, channel))

    async def redrive_group(self, group: str, channel: str, max_records: int = 0) -> int:
        """Publish a group's dead letters to its channel again, each at least once.

        Args:
            group: The group's name.
            channel: Its channel.
            max_records: How many at most; 0 is all there are.

        Returns:
            How many there were.

        Raises:
            GroupNotFound: There is none of that name.
            MQError: It was refused.
        """
        return await self._transport.run(
            group_flows.redrive_group(self._policy, group, channel, max_records)
        )

    async def commit_offset(self, group: str, channel: str, offset: int) -> None:
        """Keep the place of a reader that wants no leases; the group is made if need be.

        Args:
            group: The group's name.
            channel: Its channel.
            offset: The next offset to read. A place never moves back.

        Raises:
            OffsetOutOfRange: The offset is outside the log.
            MQError: It was refused.
        """
        await self._transport.run(group_flows.commit_offset(self._policy, group, channel, offset))

    async def committed_offset(self, group: str, channel: str) -> int | None:
        """Where such a reader goes on; None where there is no such group.

        Raises:
            MQError: It was refused.
        """
        return await self._transport.run(group_flows.committed_offset(self._policy, group, channel))

    # ---- What channels keep -----------------------------------------------

    async def purge_channel(
        self, channel: str, before: int | datetime | None = None, *, dry_run: bool = True
    ) -> list[PurgedSegment]:
        """Remove old messages, by whole segments; by default only tell which.

        Args:
            channel: An existing channel.
            before: Keep this offset, or what was stored at or after this time, and
                what follows; None removes what retention would remove now.
            dry_run: Whether to remove nothing.

        Returns:
            The segments that were removed, or would be, each with the reason.

        Raises:
            ChannelNotFound: There is none of that name.
            MQError: It was refused.
        """
        return await self._transport.run(
            group_flows.purge_channel(self._policy, channel, before, dry_run=dry_run)
        )
