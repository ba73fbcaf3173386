"""The files that run HPlus in production say what docs/security.md says of them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from hplus.settings.environment import is_strong_key
from tests.servers import ROOT

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text().splitlines()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = [name for name, service in SERVICES.items() if service["image"] == "hplus"]


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_read_only_and_has_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert "/tmp" in service["tmpfs"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)
    assert not [volume for volume in service.get("volumes", ()) if "docker.sock" in volume]


@pytest.mark.parametrize("name", SERVICES)
def test_container_writes_to_named_volumes_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or volume.endswith(":ro"), volume


def test_only_the_proxy_is_reached_from_outside() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]
    assert COMPOSE["networks"]["inside"]["internal"] is True
    outside = {name for name, service in SERVICES.items() if "outside" in service["networks"]}
    assert outside == {"nginx", "worker"}


def test_image_runs_as_the_user_whom_the_compose_file_names() -> None:
    [made] = [line for line in DOCKERFILE if "useradd" in line]
    user = made.split()[-1]
    assert f"USER {user}" in DOCKERFILE
    [number] = {SERVICES[name]["user"].partition(":")[0] for name in OWN}
    assert f"--uid {number}" in made
    assert any("install --directory" in line and f"--owner {user}" in line for line in DOCKERFILE)


@pytest.mark.parametrize("name", ["Dockerfile", "Makefile"])
def test_key_for_checks_and_for_collecting_files_starts_with_production_settings(name: str) -> None:
    [key] = re.findall(r"SECRET_KEY=(\S+)", (ROOT / name).read_text())
    assert is_strong_key(key)


def test_container_is_told_to_listen_on_all_addresses() -> None:
    """A server listens on its own machine only unless told."""
    for name in ("server-1", "server-2"):
        assert SERVICES[name]["command"][-2:] == ["--host", "0.0.0.0"]
    assert DOCKERFILE[-1] == 'CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]'


def test_prometheus_shows_the_token_to_each_server() -> None:
    [job] = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())["scrape_configs"]
    servers = [f"{name}:5000" for name in SERVICES if name.startswith("server-")]
    assert (job["metrics_path"], job["authorization"]["type"]) == ("/metrics", "Bearer")
    assert [target for group in job["static_configs"] for target in group["targets"]] == servers
    for name in OWN:
        environment = SERVICES[name]["environment"]
        assert "HPLUS_METRICS_TOKEN" in environment
        assert environment["ALLOWED_HOSTS"].endswith(",server-1,server-2")  # what Prometheus asks for
