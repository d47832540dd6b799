"""What passes through the broker between its store and the layers above: batches and frames.

The store is `mq.log`; nothing above the broker knows of its files.
"""

from __future__ import annotations

from mq.log.log import Append, Appended, ReadResult

__all__ = ["Append", "Appended", "ReadResult"]
