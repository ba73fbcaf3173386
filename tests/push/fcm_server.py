"""A push service of the test's own: Google's library talks to it believing it is fcm.googleapis.com.

The library has no setting for another address. So it is led here from outside, by what every
installation behind a proxy uses: HTTPS_PROXY and REQUESTS_CA_BUNDLE. A CONNECT ends at this
server, which holds a certificate for the name.
"""

from __future__ import annotations

import contextlib
import functools
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

HOST = "fcm.googleapis.com"
PROJECT = "hplus-test"
SEND = f"/v1/projects/{PROJECT}/messages:send"


def refusal(status: int, name: str, fcm_code: str) -> tuple[int, dict[str, Any]]:
    """An error as FCM words it."""
    kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
    details = [{"@type": kind, "errorCode": fcm_code}]
    return status, {"error": {"code": status, "message": name, "status": name, "details": details}}


UNREGISTERED = refusal(404, "NOT_FOUND", "UNREGISTERED")
OTHER_PROJECT = refusal(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")
INVALID = refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
TOO_MANY = refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")


class FcmServer:
    """What was sent, and what it answers to which token; anything else is accepted."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.credentials: Path

    def answer(self, message: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.received.append(message)
        return self.answers.get(message["token"], (200, {"name": f"projects/{PROJECT}/messages/1"}))


@contextlib.contextmanager
def running(directory: Path, environment: pytest.MonkeyPatch) -> Iterator[FcmServer]:
    service, certificate = FcmServer(), _certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service, context))
    server.daemon_threads = True
    address = f"http://127.0.0.1:{server.server_port}"
    service.credentials = _credentials(directory, f"{address}/token")
    for name in ("NO_PROXY", "no_proxy"):
        environment.delenv(name, raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        environment.setenv(name, address)
    environment.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service.credentials))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="fcm")
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(service: FcmServer, context: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            if self.path != f"{HOST}:443":  # Google's library looks around; nobody else is here
                return self._say(502, {})
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")
            self.wfile = self.connection.makefile("wb", buffering=0)
            self.close_connection = False
            return None

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/token":
                return self._say(200, {"access_token": "of-the-test", "expires_in": 3600})
            assert (self.path, self.headers["Authorization"]) == (SEND, "Bearer of-the-test")
            return self._say(*service.answer(json.loads(body)["message"]))

        def _say(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """The tests say what happened."""

    return Handler


def _certificate(directory: Path) -> Path:
    """A key and a certificate for the name, in one file; its own authority."""
    key = _key()
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "fcm.pem"
    path.write_bytes(_pem(key).encode() + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _credentials(directory: Path, token_uri: str) -> Path:
    """A service account's key file as the Firebase console gives it out."""
    path = directory / "service-account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": PROJECT,
                "private_key_id": "1",
                "private_key": _pem(_key()),
                "client_email": f"push@{PROJECT}.iam.gserviceaccount.com",
                "token_uri": token_uri,
            }
        )
    )
    return path


@functools.cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
