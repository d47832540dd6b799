"""Faults that take long or need privileges: ``python -m tests.torture``, or ``make torture``."""
