"""``mq dump``: show what is in a segment file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from mq.cli import output
from mq.cli.exits import COULD_NOT_RUN, FAILED, OK, Failure
from mq.cli.format import for_terminal, text_field, timestamp
from mq.cli.help import examples
from mq.errors import MQError

Part = dict[str, Any]


@click.command(
    epilog=examples(
        "mq dump data/channels/*/00000000000000000000.seg",
        "mq dump 00000000000000000000.seg --records",
        "mq dump 00000000000000000000.seg --json | jq 'select(.kind == \"damage\")'",
    ),
)
@click.argument("segments", metavar="SEGMENT...", nargs=-1, required=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--records", "with_records", is_flag=True, help="Show each frame's records as well.")
@click.pass_context
def dump(ctx: click.Context, segments: tuple[str, ...], as_json: bool, with_records: bool) -> None:
    """Show the header, frames, damage and footer of segment files.

    One line for each part, with its byte position. Exit codes: 0 sound, 1 there is
    damage, 2 it is no segment file.
    """
    damaged = False
    for segment in segments:
        path = Path(segment)
        if len(segments) > 1 and not as_json:
            click.echo(f"{path}:")
        for part in _parts(path, with_records):
            damaged = damaged or part["kind"] == "damage"
            if as_json:
                output.print_json({"segment": segment, **_plain(part)})
            else:
                click.echo(_line(part))
    ctx.exit(FAILED if damaged else OK)


def _parts(path: Path, with_records: bool) -> Iterator[Part]:
    from mq.log.verify import dump_segment

    try:
        for part in dump_segment(path):
            yield part
            if with_records and part["kind"] == "frame":
                yield from _records(path, part)
    except MQError as error:
        raise Failure(error.message, code=COULD_NOT_RUN) from error


def _records(path: Path, frame: Part) -> Iterator[Part]:
    from mq.log.format import FRAME_PREFIX_BYTES
    from mq.pb import mq_pb2 as pb

    with path.open("rb") as file:
        file.seek(frame["position"] + FRAME_PREFIX_BYTES)
        batch = pb.RecordBatch.FromString(file.read(frame["size"] - FRAME_PREFIX_BYTES))
    records = pb.Records.FromString(batch.records)
    keys, headers = records.keys, records.headers
    for index, content in enumerate(records.contents):
        delta = records.offset_deltas[index] if records.offset_deltas else index
        yield {
            "kind": "record",
            "offset": batch.base_offset + delta,
            "key": keys[index] if keys else b"",
            "headers": {e.key: e.value for e in headers[index].entries} if headers else {},
            "content": content,
        }


def _plain(part: Part) -> Part:
    """With times and bytes as JSON can have them."""
    plain: Part = {}
    for name, value in part.items():
        if name.endswith("_id") and isinstance(value, bytes):
            plain[name] = value.hex()
        elif isinstance(value, bytes):
            plain.update(text_field(name, value))
        elif isinstance(value, dict):
            plain[name] = _plain(value)
        else:
            plain[name] = value
    return plain


def _line(part: Part) -> str:
    indent = "    " if part["kind"] == "record" else ""
    fields = [
        f"{name}={_text(name, value)}"
        for name, value in part.items()
        if name != "kind" and (value or name not in ("key", "headers"))
    ]
    return f"{indent}{part['kind']} {' '.join(fields)}"


def _text(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex() if name.endswith("_id") else repr(for_terminal(value).decode())
    if isinstance(value, dict):
        return ",".join(f"{key}={_text(key, each)}" for key, each in value.items())
    return timestamp(value) if name.endswith("_ns") and value else str(value)
