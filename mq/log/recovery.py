"""What the unsealed end of a log means after a crash. Pure: bytes in, a verdict out.

The rule (docs/log_format.md, "Torn or corrupt"): let W be the largest durable
offset that anything vouches for: the checkpoint, a sealed footer, or
``durable_through`` of any frame found. What can't be read and begins below W
was durable once, so it is damage, and is kept and reported. At or above W it
was never acknowledged: the log is cut there, whatever comes after, because the
kernel writes pages back in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mq.log.envelope import encode_padding_prefix
from mq.log.format import HEADER_BYTES, PADDING_PREFIX_BYTES, SEAL_BYTES
from mq.log.frames import Frame
from mq.log.index import SparseIndex
from mq.log.walk import OFFSET_MAX, Bound, Damage, Step, walk


@dataclass(slots=True)
class Tail:
    """What a scan found from a known good position to the end of the data."""

    end: Bound
    last_append_time_ns: int
    steps: list[Step] = field(default_factory=list)
    # Those with a sound header, and of them those that are sound as a whole.
    headers: list[Frame] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    # Bytes behind `end` that are not zeros, [start, end); None: there are none.
    torn: tuple[int, int] | None = None
    # W, where it lies beyond `end`: records up to it were durable and are gone.
    lost_through: int | None = None

    def take(self, step: Step) -> None:
        """Move the end behind a step."""
        frame, damage = step
        self.steps.append(step)
        if frame is not None:
            self.headers.append(frame)
            self.last_append_time_ns = frame.append_time_ns
            if damage is None or damage.marked:
                self.frames.append(frame)
        if damage is not None:
            self.damage.append(damage)
        self.end = step.after()

    def add_to(self, index: SparseIndex, base_offset: int) -> None:
        """Add its frames to the index of the segment, which begins at ``base_offset``."""
        for damage in self.damage:
            if damage.position == HEADER_BYTES and not damage.marked:
                # The first entry always stands for the segment's beginning.
                index.add(base_offset, HEADER_BYTES, 0)
        for frame in self.frames:
            index.add(frame.base_offset, frame.position, frame.append_time_ns)


def scan_tail(
    data: bytes,
    start: Bound,
    seed: int,
    capacity_bytes: int,
    append_time_ns: int,
    vouched: Bound,
) -> Tail:
    """Judge ``data``, what a segment holds from ``start`` to its last byte that is not zero.

    Args:
        data: The bytes from ``start.position`` on, and at least as many zeros
            behind the last that is not zero as a frame header has bytes. The
            last frame's records may end with more of them.
        start: Where a frame begins, or will begin.
        seed: The seed of the segment's header CRCs.
        capacity_bytes: The size of the segment's file.
        append_time_ns: The append time of the frame before.
        vouched: The durable offset that checkpoint and footers vouch for, and
            where in this segment its frame begins; 0 where that is not known.
    """
    origin = start.position
    limit = Bound(OFFSET_MAX, capacity_bytes - SEAL_BYTES - origin)
    walked = walk(data, Bound(start.offset, 0), limit, seed, append_time_ns)
    steps = [step.moved(origin) for step in walked]
    durable = max([vouched.offset, *(s.frame.durable_through for s in steps if s.frame)])
    if durable > vouched.offset:
        vouched = Bound(durable, 0)

    tail = Tail(start, append_time_ns)
    for step in steps:
        damage = step.damage
        if damage is not None and not damage.marked and tail.end.offset >= durable:
            break
        if step.frame is None and _ends_inside(vouched, step):
            _settle(tail, data, origin, vouched, more=step.after().offset != OFFSET_MAX)
            break
        if step.after().offset == OFFSET_MAX:
            break
        tail.take(step)

    position = tail.end.position
    rest = data[position - origin :].rstrip(b"\0")
    # A seal may have got as far as its padding, and no further.
    if rest and padding_begin(data, origin, capacity_bytes) != position:
        tail.torn = (position, position + len(rest))
    if durable > tail.end.offset:
        tail.lost_through = durable
    return tail


def _ends_inside(vouched: Bound, step: Step) -> bool:
    """Whether what was durable ends within damage, at a position that is known."""
    assert step.damage is not None, "a step is a frame or damage"
    begins, after = step.damage.position, step.after()
    return begins < vouched.position and vouched.offset < after.offset


def _settle(tail: Tail, data: bytes, origin: int, vouched: Bound, *, more: bool) -> None:
    """Take what was durable as damage, and leave what follows as torn.

    Where nothing but zeros is left of it, the file is older than the checkpoint
    or lost its writes: that is not for us to go on from.
    """
    begin = tail.end
    if more or data[begin.position - origin : vouched.position - origin].strip(b"\0"):
        damage = Damage(begin.offset, vouched.offset, begin.position, vouched.position)
        tail.take(Step(None, damage))


def padding_begin(data: bytes, origin: int, capacity_bytes: int) -> int:
    """Where the last of what is not zero begins if it is padding, else where it ends.

    Args:
        data: What the segment holds from position ``origin`` on.
        origin: Its position.
        capacity_bytes: The size of the segment's file.
    """
    length = len(data.rstrip(b"\0"))
    # The length in the prefix ends with zero bytes, which were stripped too.
    for cut in range(max(0, length - PADDING_PREFIX_BYTES), length):
        at = origin + cut
        if at + SEAL_BYTES > capacity_bytes:
            break
        found = data[cut : cut + PADDING_PREFIX_BYTES].ljust(PADDING_PREFIX_BYTES, b"\0")
        if found == encode_padding_prefix(at, capacity_bytes):
            return at
    return origin + length
