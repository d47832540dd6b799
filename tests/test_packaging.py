"""The files that put a broker on a machine agree with the broker, and work."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values

import mq
from mq.config import Settings
from mq.config.sources import OLD_NAMES, variable_name
from tests.helpers.server import ROOT, ServerProcess

DOCKERFILE = (ROOT / "Dockerfile").read_text()
SAMPLE = (ROOT / ".env.sample").read_text()
COMPOSE = (ROOT / "docker-compose.yaml").read_text()
UNIT = (ROOT / "docs" / "mq.service").read_text()


def instructions(name: str) -> list[str]:
    """The arguments of each instruction of this name, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", DOCKERFILE)
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def image_environment() -> dict[str, str]:
    """What the image's ENV sets, but PATH."""
    pairs = (pair.split("=", 1) for line in instructions("ENV") for pair in line.split())
    return {name: value for name, value in pairs if name != "PATH"}


class Container(ServerProcess):
    """The image's entry command as it stands, with its environment, outside a container."""

    def command(self) -> list[str]:
        """ENTRYPOINT and CMD, both in exec form."""
        (entry,), (arguments,) = instructions("ENTRYPOINT"), instructions("CMD")
        return [*json.loads(entry), *json.loads(arguments)]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """The entry command, `mq` on its PATH, a free port and a directory of the test's."""
    shims = tmp_path / "bin"
    shims.mkdir()
    shim = shims / "mq"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mq "$@"\n')
    shim.chmod(0o755)
    data_dir = tmp_path / "data"
    changes = {
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}",
        "SERVER_PORT": "0",
        "WAL_DIR_PATH": str(data_dir),
        "MQ_METRICS_LISTEN": "127.0.0.1:0",
    }
    made = Container(data_dir, env=image_environment() | changes)
    yield made
    made.kill()


def test_container_serves_and_is_healthy(container: Container) -> None:
    """The entry command serves on all addresses, and the health check sees it, up and down."""
    container.start()
    assert container.address.startswith("0.0.0.0:")
    (arguments,) = re.findall(r"CMD (\[.*\])$", "\n".join(instructions("HEALTHCHECK")))
    program, script = json.loads(arguments)
    assert program == "python"
    assert f"COPY tools/healthcheck.py {script}" in DOCKERFILE
    check = [sys.executable, str(ROOT / "tools" / "healthcheck.py")]
    env = os.environ | {"SERVER_PORT": str(container.port)}
    assert subprocess.run(check, env=env, check=False, timeout=30).returncode == 0
    assert container.stop() == 0
    assert container.data_dir.is_dir()
    assert subprocess.run(check, env=env, check=False, timeout=30).returncode == 1


def test_versions_agree() -> None:
    """The package, the project file, the image and the changelog have one version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert mq.__version__ in {version, "0+unknown"}, "not as installed"
    assert f"image: mq-broker:{version}\n" in COMPOSE
    assert f"\n## {version} - " in (ROOT / "CHANGELOG.md").read_text()


def test_image_keeps_its_promises() -> None:
    """The image serves 50051 from /var/lib/mq, a volume, as somebody who is not root."""
    environment = image_environment()
    assert environment["SERVER_PORT"] == "50051"
    assert environment["WAL_DIR_PATH"] == "/var/lib/mq"
    assert "/var/lib/mq" in instructions("VOLUME")
    assert "50051" in instructions("EXPOSE")[0].split()
    assert instructions("USER") == ["10001:10001"]


def test_dockerignore_lets_in_what_is_copied() -> None:
    """Every file that the Dockerfile copies exists and is not ignored."""
    let_in = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    copied = [line.split()[:-1] for line in instructions("COPY") if "--from" not in line]
    sources = {source for line in copied for source in line}
    assert sources == let_in
    assert all((ROOT / source).exists() for source in sources)


def test_sample_lists_every_setting_with_its_default() -> None:
    """.env.sample has every variable, commented, and uncommented it changes nothing."""
    lines = re.findall(r"^#(\w+=.*)$", SAMPLE, re.MULTILINE)
    sample = dotenv_values(stream=io.StringIO("\n".join(lines)))
    defaults = Settings.load({}, environ={}, dotenv=Path(os.devnull)).sources()
    assert {name: value for name, value in sample.items() if name.startswith("MQ_")} == {
        variable_name(setting.name): setting.text for setting in defaults
    }


def test_sample_lists_the_old_names() -> None:
    """.env.sample has the names that earlier deployments set."""
    lines = set(re.findall(r"^#(\w+)=", SAMPLE, re.MULTILINE))
    assert {"SERVER_PORT", "BROKER_PORT", "BROKER_HOST"} <= lines
    assert {names[0] for names in OLD_NAMES.values()} <= lines


def test_old_names_of_the_sample_are_the_defaults() -> None:
    """The old names in .env.sample, uncommented, change nothing but the origin."""
    sample = dict(re.findall(r"^#(\w+)=(.*)$", SAMPLE, re.MULTILINE))
    environ = {name: value for name, value in sample.items() if not name.startswith("MQ_")}
    nothing = Path(os.devnull)
    loaded = Settings.load({}, environ=environ, dotenv=nothing).model_dump()
    assert loaded == Settings.load({}, environ={}, dotenv=nothing).model_dump()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_unit_is_valid(tmp_path: Path) -> None:
    """systemd finds nothing wrong with the unit."""
    unit = tmp_path / "mq.service"
    unit.write_text(UNIT.replace("/opt/mq/bin/mq", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_unit_waits_longer_than_the_server() -> None:
    """systemd, and compose, kill only after the graceful stop has had its time."""
    default_s = Settings().graceful_shutdown_timeout_s
    limits = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    limits += re.findall(r"^ *stop_grace_period: (\d+)s$", COMPOSE, re.MULTILINE)
    assert len(limits) == 2
    assert all(int(limit) > default_s for limit in limits)
