"""The broker: channels, their registry, group commit and waiting pulls. No gRPC.

All of it belongs to one thread, the event loop's; committer and reader threads
work on a channel's log and hand back what they found.
"""
