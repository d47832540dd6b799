"""Which channel names there can be. Names never become file names."""

from __future__ import annotations

import re

from mq.errors import InvalidArgument

NAME_BYTES_MAX = 255
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+=~#-]*\Z")


def check_group_name(name: str) -> str:
    """Return ``name`` if it can be a consumer group's: the same names as channels.

    Raises:
        InvalidArgument: It is empty, too long, or has a character that is not allowed.
    """
    if not name:
        raise InvalidArgument("a group name is required, such as workers")
    if len(name) > NAME_BYTES_MAX or not _NAME.match(name):
        raise InvalidArgument(
            f"{name[:64]!r} can't be a group name: use up to {NAME_BYTES_MAX} of the letters "
            "A-Z and a-z, digits, and _ . : / @ + = ~ # -, beginning with a letter, digit or _"
        )
    return name


def check_channel_name(name: str) -> str:
    """Return ``name`` if it can be a channel's.

    Raises:
        InvalidArgument: It is empty, too long, or has a character that is not allowed.
    """
    if not name:
        raise InvalidArgument("a channel name is required, such as orders or eu/orders.v2")
    if len(name) > NAME_BYTES_MAX or not _NAME.match(name):
        raise InvalidArgument(
            f"{name[:64]!r} can't be a channel name: use up to {NAME_BYTES_MAX} of the letters "
            "A-Z and a-z, digits, and _ . : / @ + = ~ # -, beginning with a letter, digit or _"
        )
    return name
