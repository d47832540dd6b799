"""The client library. Its names are exported from `mq`; docs/client.md is for users.

What is decided is decided in pure code, and two thin shells act:

========================  ====================================================
records                   columns to bytes and back
batch, pulled             what a consumer is handed: checked, cut, lazy
outgoing, accumulator     messages gathered into batches
window                    sequences, repetition, order; what is safe to repeat
producer_core             accumulator and window together
follower                  a subscription's position, prefetched frames, damage
flows, lanes              calls, with what is repeated and for how long
aio, aio_*                the asynchronous shell, over ``grpc.aio``
sync, sync_*              the synchronous shell, over ``grpc``
========================  ====================================================

The pure modules know no socket, no event loop, no thread and no clock: time and
randomness are passed in. `status` is where gRPC's errors become `mq.errors`.
"""
