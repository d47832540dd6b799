"""Backups of a data directory, and putting them back. docs/backup.md is the prose.

manifest  what a complete backup consists of
transfer  files brought from one directory into another
tail      the end of a log that is being written to
gather    one log: which of its files belong together
backup    all of a data directory
restore   the way back
"""
