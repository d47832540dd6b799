"""Explains every message and every duplicate of a group's ledger. Pure.

A message was processed again for one of these reasons, or it is unexplained:

- its consumer was killed before the acknowledgement was confirmed;
- the server was killed while it was out, or its acknowledgement under way;
- its lease had expired: the consumer was told so, or the next delivery has a
  higher count, which only a lapsed lease gives it.

None of them explains a delivery after a confirmed acknowledgement.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

CONSUMER_KILLED = "consumer killed before its ack was confirmed"
SERVER_KILLED = "server killed with the message out"
LEASE_EXPIRED = "lease expired"
AFTER_ACK = "after a confirmed ack"
UNEXPLAINED = "unexplained"
FAILURES = (AFTER_ACK, UNEXPLAINED)


class Processing(NamedTuple):
    """One processing of one message. Times in nanoseconds, ``settled_ns`` 0: never."""

    processed_ns: int
    fetch_began_ns: int
    delivery_count: int
    consumer: str
    settled_ns: int
    word: str


@dataclass
class Audit:
    """What came of it. Sets of offsets, and numbers of messages."""

    processed: set[int] = field(default_factory=set)
    corrupt: set[int] = field(default_factory=set)
    nacks: int = 0
    duplicates: Counter[str] = field(default_factory=Counter)
    suspects: list[str] = field(default_factory=list)


def audit(
    ledgers: Mapping[str, Iterable[str]],
    crcs: Sequence[int],
    consumer_kills: Mapping[str, int],
    server_kills: Sequence[int],
) -> Audit:
    """Go through what all consumers have written down.

    Args:
        ledgers: Lines by consumer.
        crcs: CRC-32 of the contents, by offset.
        consumer_kills: When a consumer was killed, by name; of the others nothing.
        server_kills: When the server was killed, ascending.
    """
    found = Audit()
    by_offset: defaultdict[int, list[Processing]] = defaultdict(list)
    for consumer, lines in ledgers.items():
        open_ones: dict[int, Processing] = {}
        for line in lines:
            word, offset, *numbers = line.split()
            at, values = int(offset), [int(number) for number in numbers]
            if word == "P":
                count, began, now, crc = values
                if at in open_ones:
                    by_offset[at].append(open_ones[at])
                open_ones[at] = Processing(now, began, count, consumer, 0, "")
                if not 0 <= at < len(crcs) or crcs[at] != crc:
                    found.corrupt.add(at)
            elif (processing := open_ones.pop(at, None)) is not None:
                by_offset[at].append(processing._replace(settled_ns=values[0], word=word))
                found.nacks += word == "N"
        for at, processing in open_ones.items():
            by_offset[at].append(processing)
    for at, processings in by_offset.items():
        found.processed.add(at)
        if len(processings) > 1:
            _explain_all(found, at, sorted(processings), consumer_kills, server_kills)
    return found


def _explain_all(
    found: Audit,
    offset: int,
    processings: list[Processing],
    consumer_kills: Mapping[str, int],
    server_kills: Sequence[int],
) -> None:
    for position, later in enumerate(processings[1:], 1):
        earlier = processings[:position]
        if any(each.word == "A" and each.settled_ns < later.processed_ns for each in earlier):
            reason = AFTER_ACK
        elif earlier[-1].word == "N":
            # Handed back on purpose: no duplicate.
            continue
        else:
            reason = explain(earlier[-1], later, consumer_kills, server_kills)
        found.duplicates[reason] += 1
        if reason in FAILURES:
            found.suspects.append(f"{reason}: offset {offset}: {earlier[-1]} then {later}")


def explain(
    earlier: Processing,
    later: Processing,
    consumer_kills: Mapping[str, int],
    server_kills: Sequence[int],
) -> str:
    """Why a message whose acknowledgement was not confirmed by then was delivered again."""
    killed_ns = consumer_kills.get(earlier.consumer)
    if killed_ns is not None and not earlier.settled_ns and killed_ns < later.processed_ns:
        return CONSUMER_KILLED
    following = bisect_right(server_kills, earlier.fetch_began_ns)
    if following < len(server_kills) and server_kills[following] < later.processed_ns:
        return SERVER_KILLED
    if earlier.word == "L" or later.delivery_count > earlier.delivery_count:
        return LEASE_EXPIRED
    return UNEXPLAINED
