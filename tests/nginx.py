"""nginx with the very file of the compose set-up in front of servers of a test."""

from __future__ import annotations

import ipaddress
import shutil
import signal
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.servers import ROOT, Endpoint
from tests.services import READY_WITHIN_SECONDS, Service, ServiceUnavailable, free_port

CONFIGURATION = ROOT / "deploy" / "nginx.conf"


class Nginx(Service, Endpoint):
    """`deploy/nginx.conf` on free ports, with directories and a certificate of its own.

    `instead` replaces parts of the file, each of which has to be there.
    """

    name = "nginx"
    stop_signals: ClassVar = {"fast": signal.SIGQUIT, "immediate": signal.SIGTERM}

    def __init__(self, ports: Sequence[int], instead: dict[str, str] | None = None) -> None:
        super().__init__()
        self.binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if self.binary is None:
            raise ServiceUnavailable(
                "No nginx here: install it (Debian: apt install nginx; macOS: brew install nginx)."
            )
        self.ports, self.instead = ports, instead or {}
        self.plain_port = free_port()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"wss://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        return self.directory / "fullchain.pem"

    @cached_property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def prepare(self, directory: Path) -> None:
        directory.chmod(0o711)  # the workers of a nginx that root started are nobody's
        key = ec.generate_private_key(ec.SECP256R1())
        self.certificate.write_bytes(_self_signed(key).public_bytes(serialization.Encoding.PEM))
        (directory / "privkey.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def command(self, directory: Path) -> list[str]:
        adapted = directory / "nginx.conf"
        adapted.write_text(self._adapted(directory))
        return [str(self.binary), "-e", "stderr", "-c", str(adapted), "-g", "daemon off;"]

    def _adapted(self, directory: Path) -> str:
        text = CONFIGURATION.read_text()
        first, second = (self.ports * 2)[:2]
        for old, new in {
            "/tmp/": f"{directory}/",
            "/etc/nginx/tls/": f"{directory}/",
            "listen 8080 ": f"listen 127.0.0.1:{self.plain_port} ",
            "listen 8443 ": f"listen 127.0.0.1:{self.port} ",
            "server-1:5000": f"127.0.0.1:{first}",
            "server-2:5000": f"127.0.0.1:{second}",
            **self.instead,
        }.items():
            assert old in text, f"{old} is no longer in {CONFIGURATION.name}"
            text = text.replace(old, new)
        return text

    def is_ready(self) -> bool:
        assert self.process
        pid = self.directory / "nginx.pid"
        if not pid.exists() or pid.read_text().strip() != str(self.process.pid):
            return False
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=READY_WITHIN_SECONDS).close()
        except OSError:
            return False
        return True


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )
