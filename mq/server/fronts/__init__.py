"""Fronts: what turns gRPC requests into calls of the handlers.

Two libraries can carry the same method table, `mq.server.fronts.grpcio` and
`mq.server.fronts.native`; `mq.server.fronts.choose` decides between them.
Statuses, messages and trailing metadata are the same on both. What a client
can tell apart:

- compressed requests: grpcio refuses them (UNIMPLEMENTED), native takes them;
- request metadata over the limit: RESOURCE_EXHAUSTED from grpcio, a plain HTTP
  431, which clients call UNKNOWN, from native;
- an oversize request is refused by grpcio as soon as its length is known, by
  native once it has all arrived;
- a path that is not UTF-8 costs the client its connection on native; on grpcio
  it ends the accept loop, which is started again (`supervised`).
"""
