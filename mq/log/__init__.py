"""The log engine: segments, append, read, recovery, verification. No gRPC.

``format`` has the byte layouts, ``frames`` makes and checks frames, ``files``
is the only module that touches the operating system, ``segment`` and ``index``
are one segment file, ``recovery`` decides what a file's content means, and
``log`` is a channel's log built of these. ``verify`` reads a stopped broker's
files.
"""
