"""The broker's process: fronts that speak gRPC, handlers, health, metrics, logs."""

import os

# gRPC's core writes lines of its own to stderr about every odd request it gets:
# no part of our log, and any client's to fill. It looks once, when imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
