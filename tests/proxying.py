"""nginx as deploy/nginx.conf has it, but for the machine's own: ports, files, the certificate."""

from pathlib import Path

from tests.conftest import ROOT, program

CONFIGURATION = ROOT / "deploy/nginx.conf"


def write_configuration(
    folder: Path,
    port: int,
    plain_port: int,
    servers: tuple[int, int],
    *,
    certificate: Path | None = None,
    read_seconds: int = 120,
) -> Path:
    """Write it into a folder; return its path. Without a certificate it listens without TLS.

    `plain_port` only leads to the other one.
    """
    text = CONFIGURATION.read_text()
    tls = "" if certificate is None else " ssl http2"
    for documented, ours in (
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port}{tls};"),
        ("listen 80;", f"listen 127.0.0.1:{plain_port};"),
        ("127.0.0.1:8881", f"127.0.0.1:{servers[0]}"),
        ("127.0.0.1:8882", f"127.0.0.1:{servers[1]}"),
        ("/var/log/nginx/tornado_rt.log", f"{folder}/access.log"),
        ("/etc/tornado_rt/fullchain.pem", str(certificate)),
        ("/etc/tornado_rt/key.pem", str(certificate)),
        ("proxy_read_timeout 120s", f"proxy_read_timeout {read_seconds}s"),
        ("proxy_send_timeout 120s", f"proxy_send_timeout {read_seconds}s"),
    ):
        assert text.count(documented) == 1
        text = text.replace(documented, ours)
    if certificate is None:
        text = "".join(
            line for line in text.splitlines(keepends=True) if not line.strip().startswith("ssl_")
        )
    (folder / "logs").mkdir()
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def command_of(configuration: Path) -> list[str]:
    """Return what runs nginx with it, in the foreground, with its errors on stderr."""
    folder = configuration.parent
    ours = f"daemon off; error_log stderr; pid {folder}/nginx.pid;"
    return [program("nginx"), "-p", str(folder), "-c", str(configuration), "-g", ours]
