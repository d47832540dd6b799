"""Fronts: what turns gRPC requests into calls of the handlers.

Two libraries can carry the same method table, `mq.server.fronts.grpcio` and
`mq.server.fronts.native`; `mq.server.fronts.choose` decides between them.
Clients can't tell which one answers.
"""
