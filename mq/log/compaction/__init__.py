"""Compaction: of each key the latest record is kept. docs/log_format.md, "Compaction".

columns   taking records out of a serialized ``Records``
latest    which offset is the latest of each key
history   what was compacted when, and so which tombstones may go
rewrite   one segment, written anew without what is to go
compact   all of a log's sealed segments, one after another
"""
