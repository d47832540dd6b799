"""Log lines, ours and those of libraries."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import structlog

from mq.server.logs import LogFormat, configure_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging is global: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        """It is."""
        return True


def _lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_is_one_object_a_line() -> None:
    """Event, level, logger, UTC time and the fields given."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    structlog.get_logger("mq.server").info("started", port=50051)
    (line,) = _lines(stream)
    time = datetime.fromisoformat(str(line.pop("timestamp")))
    assert time.utcoffset() == timedelta(0)
    assert line == {"event": "started", "level": "info", "logger": "mq.server", "port": 50051}


def test_lines_of_other_libraries_look_the_same() -> None:
    """The standard library's loggers go the same way, arguments filled in."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    logging.getLogger("grpc._cython").warning("%d calls %s", 2, "lost", extra={"peer": "x"})
    (line,) = _lines(stream)
    assert line["event"] == "2 calls lost"
    assert line["level"] == "warning"
    assert line["logger"] == "grpc._cython"
    assert line["peer"] == "x"


def test_python_warnings_are_logged() -> None:
    """What the interpreter warns of is a line too."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # catch_warnings has put back the function that logging had replaced.
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("odd", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert "UserWarning: odd" in str(_lines(stream)[0]["event"])


@pytest.mark.parametrize("name", ["mq", "asyncio"])
def test_the_level_holds_for_all(name: str) -> None:
    """Less severe lines are dropped, ours and others'."""
    stream = io.StringIO()
    configure_logging("warning", "json", stream)
    structlog.get_logger(name).info("quiet")
    logging.getLogger(name).info("quiet")
    structlog.get_logger(name).error("loud")
    assert [line["event"] for line in _lines(stream)] == ["loud"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_are_in_the_line(log_format: LogFormat) -> None:
    """An exception is logged with its traceback, in JSON within the object."""
    stream = io.StringIO()
    configure_logging("info", log_format, stream)
    try:
        raise ValueError("the cause")
    except ValueError:
        structlog.get_logger("mq").exception("handler failed")
    assert "Traceback" in stream.getvalue()
    assert "the cause" in stream.getvalue()
    if log_format == "json":
        assert "ValueError: the cause" in str(_lines(stream)[0]["exception"])


@pytest.mark.parametrize(
    ("stream", "log_format", "is_json"),
    [
        (Terminal(), "auto", False),
        (io.StringIO(), "auto", True),
        (Terminal(), "json", True),
        (io.StringIO(), "console", False),
    ],
)
def test_the_format_follows_the_stream(
    stream: io.StringIO, log_format: LogFormat, is_json: bool
) -> None:
    """Auto is for people on a terminal, for machines elsewhere."""
    configure_logging("info", log_format, stream)
    structlog.get_logger("mq").info("started")
    assert stream.getvalue().startswith("{") == is_json
    assert "started" in stream.getvalue()


def test_no_colours_outside_a_terminal() -> None:
    """A console format in a file has no escape sequences."""
    stream = io.StringIO()
    configure_logging("info", "console", stream)
    structlog.get_logger("mq").warning("started")
    assert "\x1b" not in stream.getvalue()


def test_grpcs_core_is_silent() -> None:
    """Its own lines on stderr would break the format, and clients can cause them."""
    assert os.environ["GRPC_VERBOSITY"]
