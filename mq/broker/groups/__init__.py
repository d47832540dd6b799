"""Consumer groups: what is handed out to whom, and what is settled.

A state machine without clock, I/O or tasks; docs/groups_design.md describes it.
`Group` is what the broker uses; what it decides comes back as a `Plan`.
"""

from __future__ import annotations

from mq.broker.groups.admin import Schedule
from mq.broker.groups.config import GroupConfig, Mode
from mq.broker.groups.group import Group
from mq.broker.groups.ledger import DeadLetter
from mq.broker.groups.plan import Delivery, Outcome, Plan, Refusal
from mq.broker.groups.ranges import Range
from mq.broker.groups.stats import ConsumerStats, GroupStats

__all__ = [
    "ConsumerStats",
    "DeadLetter",
    "Delivery",
    "Group",
    "GroupConfig",
    "GroupStats",
    "Mode",
    "Outcome",
    "Plan",
    "Range",
    "Refusal",
    "Schedule",
]
