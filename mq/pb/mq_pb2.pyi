from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Offset(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OFFSET_UNKNOWN: _ClassVar[Offset]
    OFFSET_BEGINNING: _ClassVar[Offset]
    OFFSET_LATEST: _ClassVar[Offset]

class Durability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DURABILITY_DEFAULT: _ClassVar[Durability]
    DURABILITY_SYNCED: _ClassVar[Durability]
    DURABILITY_WRITTEN: _ClassVar[Durability]

class GroupMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_MODE_UNKNOWN: _ClassVar[GroupMode]
    GROUP_MODE_SHARED: _ClassVar[GroupMode]
    GROUP_MODE_KEY_ORDERED: _ClassVar[GroupMode]
    GROUP_MODE_EXCLUSIVE: _ClassVar[GroupMode]

class Refusal(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_UNKNOWN: _ClassVar[Refusal]
    REFUSAL_EXPIRED: _ClassVar[Refusal]
    REFUSAL_OTHER_CONSUMER: _ClassVar[Refusal]
    REFUSAL_ALREADY_ACKED: _ClassVar[Refusal]
    REFUSAL_NEVER_DELIVERED: _ClassVar[Refusal]
    REFUSAL_FENCED: _ClassVar[Refusal]
    REFUSAL_PENDING: _ClassVar[Refusal]

class ChannelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_STATE_UNKNOWN: _ClassVar[ChannelState]
    CHANNEL_STATE_OK: _ClassVar[ChannelState]
    CHANNEL_STATE_READ_ONLY: _ClassVar[ChannelState]
    CHANNEL_STATE_FAILED: _ClassVar[ChannelState]
OFFSET_UNKNOWN: Offset
OFFSET_BEGINNING: Offset
OFFSET_LATEST: Offset
DURABILITY_DEFAULT: Durability
DURABILITY_SYNCED: Durability
DURABILITY_WRITTEN: Durability
GROUP_MODE_UNKNOWN: GroupMode
GROUP_MODE_SHARED: GroupMode
GROUP_MODE_KEY_ORDERED: GroupMode
GROUP_MODE_EXCLUSIVE: GroupMode
REFUSAL_UNKNOWN: Refusal
REFUSAL_EXPIRED: Refusal
REFUSAL_OTHER_CONSUMER: Refusal
REFUSAL_ALREADY_ACKED: Refusal
REFUSAL_NEVER_DELIVERED: Refusal
REFUSAL_FENCED: Refusal
REFUSAL_PENDING: Refusal
CHANNEL_STATE_UNKNOWN: ChannelState
CHANNEL_STATE_OK: ChannelState
CHANNEL_STATE_READ_ONLY: ChannelState
CHANNEL_STATE_FAILED: ChannelState

class CreateChannelRequest(_message.Message):
    __slots__ = ("channel", "config")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    channel: str
    config: ChannelConfig
    def __init__(self, channel: _Optional[str] = ..., config: _Optional[_Union[ChannelConfig, _Mapping]] = ...) -> None: ...

class CreateChannelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("channel", "content")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    channel: str
    content: bytes
    def __init__(self, channel: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("offset", "append_time_ns")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    offset: int
    append_time_ns: int
    def __init__(self, offset: _Optional[int] = ..., append_time_ns: _Optional[int] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("channel", "offset", "pull_interval")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PULL_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    offset: Offset
    pull_interval: int
    def __init__(self, channel: _Optional[str] = ..., offset: _Optional[_Union[Offset, str]] = ..., pull_interval: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "content", "created_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    id: str
    content: bytes
    created_at: int
    def __init__(self, id: _Optional[str] = ..., content: _Optional[bytes] = ..., created_at: _Optional[int] = ...) -> None: ...

class PublishBatchRequest(_message.Message):
    __slots__ = ("channel", "records", "records_crc", "producer_id", "sequence", "durability")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_CRC_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    channel: str
    records: bytes
    records_crc: int
    producer_id: int
    sequence: int
    durability: Durability
    def __init__(self, channel: _Optional[str] = ..., records: _Optional[bytes] = ..., records_crc: _Optional[int] = ..., producer_id: _Optional[int] = ..., sequence: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ...) -> None: ...

class PublishBatchResponse(_message.Message):
    __slots__ = ("base_offset", "record_count", "append_time_ns", "durability", "duplicate")
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    base_offset: int
    record_count: int
    append_time_ns: int
    durability: Durability
    duplicate: bool
    def __init__(self, base_offset: _Optional[int] = ..., record_count: _Optional[int] = ..., append_time_ns: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., duplicate: _Optional[bool] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("channel", "offset", "time_ns", "position", "max_records", "max_bytes", "max_wait_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MAX_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    offset: int
    time_ns: int
    position: Offset
    max_records: int
    max_bytes: int
    max_wait_ms: int
    def __init__(self, channel: _Optional[str] = ..., offset: _Optional[int] = ..., time_ns: _Optional[int] = ..., position: _Optional[_Union[Offset, str]] = ..., max_records: _Optional[int] = ..., max_bytes: _Optional[int] = ..., max_wait_ms: _Optional[int] = ...) -> None: ...

class PullResponse(_message.Message):
    __slots__ = ("batches", "start_offset", "next_offset", "log_start_offset", "durable_offset")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[RecordBatch]
    start_offset: int
    next_offset: int
    log_start_offset: int
    durable_offset: int
    def __init__(self, batches: _Optional[_Iterable[_Union[RecordBatch, _Mapping]]] = ..., start_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., log_start_offset: _Optional[int] = ..., durable_offset: _Optional[int] = ...) -> None: ...

class RecordBatch(_message.Message):
    __slots__ = ("base_offset", "last_offset_delta", "record_count", "append_time_ns", "attributes", "producer_id", "sequence", "durable_through", "records_crc", "header_crc", "records")
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LAST_OFFSET_DELTA_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DURABLE_THROUGH_FIELD_NUMBER: _ClassVar[int]
    RECORDS_CRC_FIELD_NUMBER: _ClassVar[int]
    HEADER_CRC_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    base_offset: int
    last_offset_delta: int
    record_count: int
    append_time_ns: int
    attributes: int
    producer_id: int
    sequence: int
    durable_through: int
    records_crc: int
    header_crc: int
    records: bytes
    def __init__(self, base_offset: _Optional[int] = ..., last_offset_delta: _Optional[int] = ..., record_count: _Optional[int] = ..., append_time_ns: _Optional[int] = ..., attributes: _Optional[int] = ..., producer_id: _Optional[int] = ..., sequence: _Optional[int] = ..., durable_through: _Optional[int] = ..., records_crc: _Optional[int] = ..., header_crc: _Optional[int] = ..., records: _Optional[bytes] = ...) -> None: ...

class Records(_message.Message):
    __slots__ = ("contents", "keys", "headers", "offset_deltas", "deliver_after_ms", "expires_after_ms")
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_DELTAS_FIELD_NUMBER: _ClassVar[int]
    DELIVER_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    contents: _containers.RepeatedScalarFieldContainer[bytes]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    headers: _containers.RepeatedCompositeFieldContainer[Headers]
    offset_deltas: _containers.RepeatedScalarFieldContainer[int]
    deliver_after_ms: _containers.RepeatedScalarFieldContainer[int]
    expires_after_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, contents: _Optional[_Iterable[bytes]] = ..., keys: _Optional[_Iterable[bytes]] = ..., headers: _Optional[_Iterable[_Union[Headers, _Mapping]]] = ..., offset_deltas: _Optional[_Iterable[int]] = ..., deliver_after_ms: _Optional[_Iterable[int]] = ..., expires_after_ms: _Optional[_Iterable[int]] = ...) -> None: ...

class Headers(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Header]
    def __init__(self, entries: _Optional[_Iterable[_Union[Header, _Mapping]]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class SegmentFile(_message.Message):
    __slots__ = ("batches", "padding", "header", "footer")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    FOOTER_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[RecordBatch]
    padding: bytes
    header: SegmentHeader
    footer: SegmentFooter
    def __init__(self, batches: _Optional[_Iterable[_Union[RecordBatch, _Mapping]]] = ..., padding: _Optional[bytes] = ..., header: _Optional[_Union[SegmentHeader, _Mapping]] = ..., footer: _Optional[_Union[SegmentFooter, _Mapping]] = ...) -> None: ...

class SegmentHeader(_message.Message):
    __slots__ = ("magic", "format_version", "base_offset", "capacity_bytes", "created_ns", "channel_id", "segment_id", "previous_segment_id", "header_crc", "reserved_bytes")
    MAGIC_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_ID_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    HEADER_CRC_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    magic: int
    format_version: int
    base_offset: int
    capacity_bytes: int
    created_ns: int
    channel_id: bytes
    segment_id: bytes
    previous_segment_id: bytes
    header_crc: int
    reserved_bytes: bytes
    def __init__(self, magic: _Optional[int] = ..., format_version: _Optional[int] = ..., base_offset: _Optional[int] = ..., capacity_bytes: _Optional[int] = ..., created_ns: _Optional[int] = ..., channel_id: _Optional[bytes] = ..., segment_id: _Optional[bytes] = ..., previous_segment_id: _Optional[bytes] = ..., header_crc: _Optional[int] = ..., reserved_bytes: _Optional[bytes] = ...) -> None: ...

class SegmentFooter(_message.Message):
    __slots__ = ("base_offset", "end_offset", "end_position", "frame_count", "first_append_time_ns", "last_append_time_ns", "segment_id", "footer_crc", "reserved_bytes")
    BASE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_POSITION_FIELD_NUMBER: _ClassVar[int]
    FRAME_COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    FOOTER_CRC_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    base_offset: int
    end_offset: int
    end_position: int
    frame_count: int
    first_append_time_ns: int
    last_append_time_ns: int
    segment_id: bytes
    footer_crc: int
    reserved_bytes: bytes
    def __init__(self, base_offset: _Optional[int] = ..., end_offset: _Optional[int] = ..., end_position: _Optional[int] = ..., frame_count: _Optional[int] = ..., first_append_time_ns: _Optional[int] = ..., last_append_time_ns: _Optional[int] = ..., segment_id: _Optional[bytes] = ..., footer_crc: _Optional[int] = ..., reserved_bytes: _Optional[bytes] = ...) -> None: ...

class GroupConfig(_message.Message):
    __slots__ = ("mode", "lease_ms", "max_deliveries", "backoff_min_ms", "backoff_max_ms", "dead_letter_channel", "dead_letter_expired", "session_ms")
    MODE_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MIN_MS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MAX_MS_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_CHANNEL_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTER_EXPIRED_FIELD_NUMBER: _ClassVar[int]
    SESSION_MS_FIELD_NUMBER: _ClassVar[int]
    mode: GroupMode
    lease_ms: int
    max_deliveries: int
    backoff_min_ms: int
    backoff_max_ms: int
    dead_letter_channel: str
    dead_letter_expired: bool
    session_ms: int
    def __init__(self, mode: _Optional[_Union[GroupMode, str]] = ..., lease_ms: _Optional[int] = ..., max_deliveries: _Optional[int] = ..., backoff_min_ms: _Optional[int] = ..., backoff_max_ms: _Optional[int] = ..., dead_letter_channel: _Optional[str] = ..., dead_letter_expired: _Optional[bool] = ..., session_ms: _Optional[int] = ...) -> None: ...

class StartPosition(_message.Message):
    __slots__ = ("offset", "time_ns", "position")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    offset: int
    time_ns: int
    position: Offset
    def __init__(self, offset: _Optional[int] = ..., time_ns: _Optional[int] = ..., position: _Optional[_Union[Offset, str]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("channel", "group", "consumer", "max_records", "max_bytes", "max_wait_ms", "lease_ms", "start", "config", "epoch")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    MAX_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    consumer: str
    max_records: int
    max_bytes: int
    max_wait_ms: int
    lease_ms: int
    start: StartPosition
    config: GroupConfig
    epoch: int
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., consumer: _Optional[str] = ..., max_records: _Optional[int] = ..., max_bytes: _Optional[int] = ..., max_wait_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., start: _Optional[_Union[StartPosition, _Mapping]] = ..., config: _Optional[_Union[GroupConfig, _Mapping]] = ..., epoch: _Optional[int] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("first_offset", "next_offset", "delivery_count")
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_COUNT_FIELD_NUMBER: _ClassVar[int]
    first_offset: int
    next_offset: int
    delivery_count: int
    def __init__(self, first_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., delivery_count: _Optional[int] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("batches", "deliveries", "lease_until_ms", "epoch", "active")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[RecordBatch]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    lease_until_ms: int
    epoch: int
    active: bool
    def __init__(self, batches: _Optional[_Iterable[_Union[RecordBatch, _Mapping]]] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ..., lease_until_ms: _Optional[int] = ..., epoch: _Optional[int] = ..., active: _Optional[bool] = ...) -> None: ...

class AckRequest(_message.Message):
    __slots__ = ("channel", "group", "consumer", "ranges", "epoch")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    consumer: str
    ranges: _containers.RepeatedCompositeFieldContainer[OffsetRange]
    epoch: int
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., consumer: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[OffsetRange, _Mapping]]] = ..., epoch: _Optional[int] = ...) -> None: ...

class NackRequest(_message.Message):
    __slots__ = ("channel", "group", "consumer", "ranges", "epoch", "delay_ms", "reason")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    consumer: str
    ranges: _containers.RepeatedCompositeFieldContainer[OffsetRange]
    epoch: int
    delay_ms: int
    reason: str
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., consumer: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[OffsetRange, _Mapping]]] = ..., epoch: _Optional[int] = ..., delay_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("channel", "group", "consumer", "ranges", "epoch", "lease_ms")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    consumer: str
    ranges: _containers.RepeatedCompositeFieldContainer[OffsetRange]
    epoch: int
    lease_ms: int
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., consumer: _Optional[str] = ..., ranges: _Optional[_Iterable[_Union[OffsetRange, _Mapping]]] = ..., epoch: _Optional[int] = ..., lease_ms: _Optional[int] = ...) -> None: ...

class RefusedRange(_message.Message):
    __slots__ = ("first_offset", "next_offset", "refusal")
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    first_offset: int
    next_offset: int
    refusal: Refusal
    def __init__(self, first_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., refusal: _Optional[_Union[Refusal, str]] = ...) -> None: ...

class AckResponse(_message.Message):
    __slots__ = ("refused", "lease_until_ms")
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    refused: _containers.RepeatedCompositeFieldContainer[RefusedRange]
    lease_until_ms: int
    def __init__(self, refused: _Optional[_Iterable[_Union[RefusedRange, _Mapping]]] = ..., lease_until_ms: _Optional[int] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("channel", "group", "consumer", "epoch", "ranges")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    consumer: str
    epoch: int
    ranges: _containers.RepeatedCompositeFieldContainer[OffsetRange]
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., consumer: _Optional[str] = ..., epoch: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[OffsetRange, _Mapping]]] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CreateGroupRequest(_message.Message):
    __slots__ = ("channel", "group", "start", "config")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    start: StartPosition
    config: GroupConfig
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., start: _Optional[_Union[StartPosition, _Mapping]] = ..., config: _Optional[_Union[GroupConfig, _Mapping]] = ...) -> None: ...

class ListGroupsRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class ListGroupsResponse(_message.Message):
    __slots__ = ("groups",)
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[GroupInfo]
    def __init__(self, groups: _Optional[_Iterable[_Union[GroupInfo, _Mapping]]] = ...) -> None: ...

class DescribeGroupRequest(_message.Message):
    __slots__ = ("channel", "group")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class SeekGroupRequest(_message.Message):
    __slots__ = ("channel", "group", "start")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    start: StartPosition
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., start: _Optional[_Union[StartPosition, _Mapping]] = ...) -> None: ...

class DeleteGroupRequest(_message.Message):
    __slots__ = ("channel", "group")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class DeleteGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RedriveGroupRequest(_message.Message):
    __slots__ = ("channel", "group", "max_records")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MAX_RECORDS_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    max_records: int
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., max_records: _Optional[int] = ...) -> None: ...

class RedriveGroupResponse(_message.Message):
    __slots__ = ("record_count",)
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    record_count: int
    def __init__(self, record_count: _Optional[int] = ...) -> None: ...

class CommitOffsetRequest(_message.Message):
    __slots__ = ("channel", "group", "offset")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    offset: int
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class CommitOffsetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CommittedOffsetRequest(_message.Message):
    __slots__ = ("channel", "group")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    channel: str
    group: str
    def __init__(self, channel: _Optional[str] = ..., group: _Optional[str] = ...) -> None: ...

class CommittedOffsetResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class ConsumerInfo(_message.Message):
    __slots__ = ("name", "in_flight", "acked", "last_seen_ms", "active")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    in_flight: int
    acked: int
    last_seen_ms: int
    active: bool
    def __init__(self, name: _Optional[str] = ..., in_flight: _Optional[int] = ..., acked: _Optional[int] = ..., last_seen_ms: _Optional[int] = ..., active: _Optional[bool] = ...) -> None: ...

class GroupInfo(_message.Message):
    __slots__ = ("channel", "name", "config", "next_offset", "acked_through", "committed_offset", "messages_behind", "bytes_behind", "seconds_behind", "in_flight", "waiting", "acked", "redelivered", "dead", "expired", "consumers", "epoch")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACKED_THROUGH_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_OFFSET_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_BEHIND_FIELD_NUMBER: _ClassVar[int]
    BYTES_BEHIND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_BEHIND_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ACKED_FIELD_NUMBER: _ClassVar[int]
    REDELIVERED_FIELD_NUMBER: _ClassVar[int]
    DEAD_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    channel: str
    name: str
    config: GroupConfig
    next_offset: int
    acked_through: int
    committed_offset: int
    messages_behind: int
    bytes_behind: int
    seconds_behind: float
    in_flight: int
    waiting: int
    acked: int
    redelivered: int
    dead: int
    expired: int
    consumers: _containers.RepeatedCompositeFieldContainer[ConsumerInfo]
    epoch: int
    def __init__(self, channel: _Optional[str] = ..., name: _Optional[str] = ..., config: _Optional[_Union[GroupConfig, _Mapping]] = ..., next_offset: _Optional[int] = ..., acked_through: _Optional[int] = ..., committed_offset: _Optional[int] = ..., messages_behind: _Optional[int] = ..., bytes_behind: _Optional[int] = ..., seconds_behind: _Optional[float] = ..., in_flight: _Optional[int] = ..., waiting: _Optional[int] = ..., acked: _Optional[int] = ..., redelivered: _Optional[int] = ..., dead: _Optional[int] = ..., expired: _Optional[int] = ..., consumers: _Optional[_Iterable[_Union[ConsumerInfo, _Mapping]]] = ..., epoch: _Optional[int] = ...) -> None: ...

class ChannelConfig(_message.Message):
    __slots__ = ("segment_bytes", "durability", "max_message_bytes", "retention_ms", "retention_bytes", "retention_records", "retain_unacknowledged", "retain_unacknowledged_bytes", "segment_ms", "compact")
    SEGMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETENTION_MS_FIELD_NUMBER: _ClassVar[int]
    RETENTION_BYTES_FIELD_NUMBER: _ClassVar[int]
    RETENTION_RECORDS_FIELD_NUMBER: _ClassVar[int]
    RETAIN_UNACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    RETAIN_UNACKNOWLEDGED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_MS_FIELD_NUMBER: _ClassVar[int]
    COMPACT_FIELD_NUMBER: _ClassVar[int]
    segment_bytes: int
    durability: Durability
    max_message_bytes: int
    retention_ms: int
    retention_bytes: int
    retention_records: int
    retain_unacknowledged: bool
    retain_unacknowledged_bytes: int
    segment_ms: int
    compact: bool
    def __init__(self, segment_bytes: _Optional[int] = ..., durability: _Optional[_Union[Durability, str]] = ..., max_message_bytes: _Optional[int] = ..., retention_ms: _Optional[int] = ..., retention_bytes: _Optional[int] = ..., retention_records: _Optional[int] = ..., retain_unacknowledged: _Optional[bool] = ..., retain_unacknowledged_bytes: _Optional[int] = ..., segment_ms: _Optional[int] = ..., compact: _Optional[bool] = ...) -> None: ...

class ListChannelsRequest(_message.Message):
    __slots__ = ("prefix", "page_size", "page_token")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    page_size: int
    page_token: str
    def __init__(self, prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListChannelsResponse(_message.Message):
    __slots__ = ("channels", "next_page_token")
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    channels: _containers.RepeatedCompositeFieldContainer[ChannelInfo]
    next_page_token: str
    def __init__(self, channels: _Optional[_Iterable[_Union[ChannelInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DescribeChannelRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class ConfigureChannelRequest(_message.Message):
    __slots__ = ("channel", "config")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    channel: str
    config: ChannelConfig
    def __init__(self, channel: _Optional[str] = ..., config: _Optional[_Union[ChannelConfig, _Mapping]] = ...) -> None: ...

class DeleteChannelRequest(_message.Message):
    __slots__ = ("channel",)
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    def __init__(self, channel: _Optional[str] = ...) -> None: ...

class DeleteChannelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PurgeChannelRequest(_message.Message):
    __slots__ = ("channel", "before_offset", "before_time_ns", "dry_run")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    BEFORE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    channel: str
    before_offset: int
    before_time_ns: int
    dry_run: bool
    def __init__(self, channel: _Optional[str] = ..., before_offset: _Optional[int] = ..., before_time_ns: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class PurgedSegment(_message.Message):
    __slots__ = ("first_offset", "next_offset", "size_bytes", "last_append_time_ns", "reason")
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LAST_APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    first_offset: int
    next_offset: int
    size_bytes: int
    last_append_time_ns: int
    reason: str
    def __init__(self, first_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., last_append_time_ns: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class PurgeChannelResponse(_message.Message):
    __slots__ = ("removed", "log_start_offset")
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    removed: _containers.RepeatedCompositeFieldContainer[PurgedSegment]
    log_start_offset: int
    def __init__(self, removed: _Optional[_Iterable[_Union[PurgedSegment, _Mapping]]] = ..., log_start_offset: _Optional[int] = ...) -> None: ...

class OffsetRange(_message.Message):
    __slots__ = ("first_offset", "next_offset")
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    first_offset: int
    next_offset: int
    def __init__(self, first_offset: _Optional[int] = ..., next_offset: _Optional[int] = ...) -> None: ...

class ChannelInfo(_message.Message):
    __slots__ = ("name", "id", "config", "log_start_offset", "durable_offset", "stored_bytes", "allocated_bytes", "segment_count", "created_ns", "last_append_time_ns", "state", "state_reason", "publish_records_per_second", "publish_bytes_per_second", "waiting_pulls", "damaged", "days_to_full")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    LOG_START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    DURABLE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_APPEND_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_RECORDS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    WAITING_PULLS_FIELD_NUMBER: _ClassVar[int]
    DAMAGED_FIELD_NUMBER: _ClassVar[int]
    DAYS_TO_FULL_FIELD_NUMBER: _ClassVar[int]
    name: str
    id: str
    config: ChannelConfig
    log_start_offset: int
    durable_offset: int
    stored_bytes: int
    allocated_bytes: int
    segment_count: int
    created_ns: int
    last_append_time_ns: int
    state: ChannelState
    state_reason: str
    publish_records_per_second: float
    publish_bytes_per_second: float
    waiting_pulls: int
    damaged: _containers.RepeatedCompositeFieldContainer[OffsetRange]
    days_to_full: float
    def __init__(self, name: _Optional[str] = ..., id: _Optional[str] = ..., config: _Optional[_Union[ChannelConfig, _Mapping]] = ..., log_start_offset: _Optional[int] = ..., durable_offset: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., allocated_bytes: _Optional[int] = ..., segment_count: _Optional[int] = ..., created_ns: _Optional[int] = ..., last_append_time_ns: _Optional[int] = ..., state: _Optional[_Union[ChannelState, str]] = ..., state_reason: _Optional[str] = ..., publish_records_per_second: _Optional[float] = ..., publish_bytes_per_second: _Optional[float] = ..., waiting_pulls: _Optional[int] = ..., damaged: _Optional[_Iterable[_Union[OffsetRange, _Mapping]]] = ..., days_to_full: _Optional[float] = ...) -> None: ...
