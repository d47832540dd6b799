"""The log engine: segments, append, read, recovery, verification. No gRPC.

Pure, bytes and numbers in and out: ``format`` has the byte layouts, ``frames``
and ``envelope`` make and check their parts, ``walk`` steps over frames and
damage, ``index`` and ``producers`` are tables, ``group`` frames batches,
``recovery`` says what the end of a log means, ``retention`` which segments go.

``files`` is the only module that touches the operating system. Above it,
``segment`` is one segment file and reading from it, ``opening`` judges a
directory, ``writer`` appends (with ``spare``, ``torn`` and ``checkpoint``),
``reader`` reads, and ``log`` is a channel's log built of these.

``compaction`` takes superseded records out of sealed segments, beside all that.

``verify`` and ``dump`` read files that nobody has open, with ``segment_check``,
``filewalk`` and ``report``.
"""
