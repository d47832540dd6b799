"""The group coordinator: the consumer groups of running channels.

`mq.broker.groups` decides; this package gives it a clock, a journal, records
to hand out and somewhere to put dead letters.
"""
