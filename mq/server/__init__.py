"""The broker's process: fronts that speak gRPC, handlers, health, metrics, logs."""
