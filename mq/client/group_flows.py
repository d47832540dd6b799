"""The calls that manage groups, cursors and what is kept, as flows for both clients."""

from __future__ import annotations

from datetime import datetime

from mq.client.arguments import Start, check_channel, to_limit
from mq.client.flows import CallPolicy, Flow, ask, call
from mq.client.group_types import (
    GroupConfig,
    GroupInfo,
    PurgedSegment,
    group_info,
    purged_segment,
    start_position,
)
from mq.client.methods import (
    COMMIT_OFFSET,
    COMMITTED_OFFSET,
    CREATE_GROUP,
    DELETE_GROUP,
    DESCRIBE_GROUP,
    LIST_GROUPS,
    PURGE_CHANNEL,
    REDRIVE_GROUP,
    SEEK_GROUP,
)
from mq.errors import FailedPrecondition, GroupNotFound, InvalidArgument
from mq.pb import mq_pb2 as pb

# Of one call: each letter is published anew, and a call has a limit in time.
_REDRIVE_RECORDS = 1000


def check_group(group: str) -> str:
    """A group's name, if it can be one; the broker knows the finer rules.

    Raises:
        TypeError: It isn't text.
        InvalidArgument: It is empty.
    """
    if type(group) is not str:
        raise TypeError(f"a group's name is a str: {type(group).__name__}")
    if not group:
        raise InvalidArgument("a group needs a name: it is empty")
    return group


def create_group(
    policy: CallPolicy, group: str, channel: str, start: Start, config: GroupConfig
) -> Flow[GroupInfo]:
    """Make a group, or change those settings of one that exists that are not None."""
    request = pb.CreateGroupRequest(
        channel=check_channel(channel),
        group=check_group(group),
        start=start_position(start),
        config=config.to_message(),
    )
    return group_info((yield from ask(policy, CREATE_GROUP, request, pb.GroupInfo)))


def join_group(
    policy: CallPolicy, group: str, channel: str, start: Start, config: GroupConfig
) -> Flow[GroupInfo]:
    """The group, made if there is none; one that exists keeps its settings.

    Raises:
        FailedPrecondition: It exists, in another mode.
    """
    try:
        info = yield from describe_group(policy, group, channel)
    except GroupNotFound:
        return (yield from create_group(policy, group, channel, start, config))
    if config.mode not in {None, info.config.mode}:
        raise FailedPrecondition(
            f"group {group} of {channel} is {info.config.mode}, not {config.mode}: leave mode "
            f"out, or change it with create_group(..., mode={config.mode!r})"
        )
    return info


def list_groups(policy: CallPolicy, channel: str | None) -> Flow[list[GroupInfo]]:
    """All groups of a channel, or of all channels."""
    request = pb.ListGroupsRequest(channel=check_channel(channel) if channel is not None else "")
    answer = yield from ask(policy, LIST_GROUPS, request, pb.ListGroupsResponse)
    return [group_info(each) for each in answer.groups]


def describe_group(policy: CallPolicy, group: str, channel: str) -> Flow[GroupInfo]:
    """How a group is doing."""
    request = pb.DescribeGroupRequest(channel=check_channel(channel), group=check_group(group))
    return group_info((yield from ask(policy, DESCRIBE_GROUP, request, pb.GroupInfo)))


def seek_group(policy: CallPolicy, group: str, channel: str, start: Start) -> Flow[GroupInfo]:
    """Move a group to another place."""
    request = pb.SeekGroupRequest(
        channel=check_channel(channel), group=check_group(group), start=start_position(start)
    )
    return group_info((yield from ask(policy, SEEK_GROUP, request, pb.GroupInfo)))


def delete_group(policy: CallPolicy, group: str, channel: str) -> Flow[None]:
    """Forget a group."""
    request = pb.DeleteGroupRequest(channel=check_channel(channel), group=check_group(group))
    yield from call(policy, DELETE_GROUP, request.SerializeToString())


def redrive_group(policy: CallPolicy, group: str, channel: str, max_records: int) -> Flow[int]:
    """Publish a group's dead letters to the channel again, some in each call."""
    request = pb.RedriveGroupRequest(channel=check_channel(channel), group=check_group(group))
    wanted = to_limit(max_records, "max_records")
    moved = 0
    while True:
        left = wanted - moved if wanted else _REDRIVE_RECORDS
        request.max_records = min(left, _REDRIVE_RECORDS)
        answer = yield from ask(policy, REDRIVE_GROUP, request, pb.RedriveGroupResponse)
        moved += answer.record_count
        if answer.record_count < request.max_records or moved == wanted:
            return moved


def commit_offset(policy: CallPolicy, group: str, channel: str, offset: int) -> Flow[None]:
    """Move a cursor, making its group if need be."""
    position = start_position(offset)
    request = pb.CommitOffsetRequest(
        channel=check_channel(channel), group=check_group(group), offset=position.offset
    )
    yield from call(policy, COMMIT_OFFSET, request.SerializeToString())


def committed_offset(policy: CallPolicy, group: str, channel: str) -> Flow[int | None]:
    """Where a cursor is; None where there is none."""
    request = pb.CommittedOffsetRequest(channel=check_channel(channel), group=check_group(group))
    answer = yield from ask(policy, COMMITTED_OFFSET, request, pb.CommittedOffsetResponse)
    return answer.offset if answer.HasField("offset") else None


def purge_channel(
    policy: CallPolicy, channel: str, before: int | datetime | None, *, dry_run: bool
) -> Flow[list[PurgedSegment]]:
    """Remove segments up to a place, or those that retention would; or only tell which."""
    request = pb.PurgeChannelRequest(channel=check_channel(channel), dry_run=dry_run)
    if isinstance(before, str):
        raise TypeError("before is an offset, a datetime, or None for what retention would remove")
    if before is not None:
        position = start_position(before)
        if position.WhichOneof("start") == "offset":
            request.before_offset = position.offset
        else:
            request.before_time_ns = position.time_ns
    answer = yield from ask(policy, PURGE_CHANNEL, request, pb.PurgeChannelResponse)
    return [purged_segment(each) for each in answer.removed]
