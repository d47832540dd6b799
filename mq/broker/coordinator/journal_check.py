"""Checking one record of a journal, for whoever verifies a data directory offline."""

from __future__ import annotations

from mq.broker.coordinator.journal import ENTRY, SNAPSHOT, parse_record
from mq.broker.groups.codec import decode_entry
from mq.broker.groups.snapshot import read_snapshot
from mq.errors import DataDirError
from mq.log.journal_check import complain_of_head


def complain(content: bytes) -> str | None:
    """Why a record can't be replayed, or None: it can."""
    complaint = complain_of_head(content)
    if complaint is not None:
        return complaint
    kind, _, _, body = parse_record(content)
    try:
        if kind == ENTRY:
            decode_entry(body)
        elif kind == SNAPSHOT:
            read_snapshot(body)
    except DataDirError as error:
        return error.message
    return None
