"""Generated from ``proto/mq.proto`` by ``tools/gen_stubs.py``; never edited by hand."""
