"""Benchmarks of mq, alone and against others. ``python -m bench --help``."""
