"""Fuzzing: ``python -m tests.fuzz NAME``; each harness begins with what has to hold."""
