"""Repairing a data directory: what verification finds, put in order; nothing thrown away.

A repair is planned from what is there, without a memory of its own: each step
leaves the files so that planning again gives the steps that remain. So it can
be interrupted anywhere and run again, and once done, does nothing. What a step
replaces is copied into the quarantine first.

``plan`` decides for the whole directory, ``lineup`` which file is which
segment, ``log_plan`` what is to be done in one log; ``steps`` does it.
"""
