"""The user of the embedded MongoDB server.

The server takes users only from a client, and while it asks for no password. That first client is
known by a TLS certificate that lives as long as the provisioning: nobody else can
connect meanwhile.
"""

import datetime
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tornado_rt.private import write_private

HOST = "127.0.0.1"
USER = "tornado_rt"
PASSWORD_FILE = "password"
PASSWORD_BYTES = 32


def find_secantus() -> str | None:
    """Return the MongoDB server of this environment, else the one on the PATH."""
    beside = shutil.which("secantusd-py", path=str(Path(sys.executable).parent))
    return beside or shutil.which("secantusd-py")


def kept_password(folder: Path) -> str:
    """Return the password that the user was made with; "" when there is none yet."""
    try:
        return (folder / PASSWORD_FILE).read_text().strip()
    except FileNotFoundError:
        return ""


def url_of(port: int, password: str) -> str:
    """Return where the server answers, with the credentials."""
    return f"mongodb://{USER}:{password}@{HOST}:{port}/?directConnection=true&authSource=admin"


def answers(url: str) -> bool:
    """Say whether the server answers, and takes the credentials."""
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=500) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True


class Provisioning:
    """A start of the server that only we can connect to."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._certificate = Path(tempfile.mkdtemp(prefix="tls-", dir=folder)) / "certificate.pem"
        write_private(self._certificate, _make_certificate())

    @property
    def options(self) -> Sequence[str]:
        """The server's options."""
        path = str(self._certificate)
        files = ("--tls-cert-file", path, "--tls-key-file", path, "--tls-ca-file", path)
        return (*files, "--tls-require-client-cert")

    def answers(self) -> bool:
        """Say whether the server answers us."""
        try:
            self._ask(lambda client: client.admin.command("ping"))
        except PyMongoError:
            return False
        return True

    def make_user(self) -> None:
        """Make the user anew with a fresh password, and keep it. Raise PyMongoError."""
        password = secrets.token_urlsafe(PASSWORD_BYTES)
        self._ask(lambda client: _make_user(client, password))
        write_private(self._folder / PASSWORD_FILE, password.encode())

    def close(self) -> None:
        """Forget the certificate."""
        shutil.rmtree(self._certificate.parent, ignore_errors=True)

    def _ask(self, ask: Callable[[MongoClient[dict[str, object]]], object]) -> None:
        path = str(self._certificate)
        with MongoClient[dict[str, object]](
            HOST,
            self._port,
            directConnection=True,
            serverSelectionTimeoutMS=500,
            tls=True,
            tlsCAFile=path,
            tlsCertificateKeyFile=path,
        ) as client:
            ask(client)


def _make_user(client: MongoClient[dict[str, object]], password: str) -> None:
    # A user of an earlier try has a password that nobody knows.
    try:
        client.admin.command("dropUser", USER)
    except OperationFailure as error:
        if error.code != 11:  # UserNotFound
            raise
    client.admin.command("createUser", USER, pwd=password, roles=["root"])


def _make_certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)
