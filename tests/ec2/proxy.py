"""A forward proxy on 127.0.0.1 that demands Basic credentials, and stands for AWS behind it.

It resolves no name and connects to nothing but the routes it was given. For a CONNECT it speaks TLS itself, as the
host that was asked for, and passes the plain request on: so clients reach a double by AWS's own names.
"""

import base64
import contextlib
import datetime
import http.client
import ipaddress
import socket
import ssl
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Dict, List, Tuple
from urllib.parse import quote, urlsplit

from .transport import Transport

SECONDS = 30
HOP_BY_HOP = ("proxy-authorization", "proxy-connection", "connection")


def certificate(folder: Path, *names: str, ahead: int = 0) -> Path:
    """A file with a self-signed certificate for these names, or addresses, and its key.

    Args:
        ahead: days from now to the middle of its two days.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "AWS of the test double")])
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=ahead)
    addressed = [n for n in names if n.replace(".", "").isdigit()]
    subjects: List[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(n)) for n in addressed]
    subjects += [x509.DNSName(n) for n in names if n not in addressed]
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "aws.pem"
    kind = serialization.Encoding.PEM
    private = key.private_bytes(kind, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(kind) + private)
    return path


class Handler(BaseHTTPRequestHandler):
    """Both ways of HTTP/1.1 to use a proxy: absolute URIs, and CONNECT."""

    protocol_version = "HTTP/1.1"
    server: "Listener"

    def do_POST(self) -> None:
        """Passes a request for an absolute URI on."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        target = urlsplit(self.path)
        if not self._welcome(f"{target.scheme}://", target.netloc):
            return
        to = self.server.proxy.routes[target.netloc]
        self._forward(to, f"{target.path or '/'}{'?' if target.query else ''}{target.query}", body)

    do_GET = do_POST

    def do_CONNECT(self) -> None:
        """Opens a tunnel, at whose other end is this process."""
        if not self._welcome("CONNECT ", self.path):
            return
        self.close_connection = True
        to = self.server.proxy.routes[self.path]
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        tls = self.server.proxy.tls
        with contextlib.suppress(OSError), tls.wrap_socket(self.connection, server_side=True) as inner:
            Inner(inner, to)

    def _welcome(self, how: str, wanted: str) -> bool:
        """Notes what is asked for; answers where it is refused."""
        proxy = self.server.proxy
        proxy.asked.append(how + wanted)
        status = 200
        if self.headers.get("Proxy-Authorization") != f"Basic {proxy.basic}":
            status = 407
        elif wanted not in proxy.routes:
            status = 403
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("Proxy-Authenticate", 'Basic realm="test"')
            self.end_headers()
        return status == 200

    def _forward(self, to: Tuple[str, int], target: str, body: bytes) -> None:
        upstream = http.client.HTTPConnection(*to, timeout=SECONDS)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
        try:
            upstream.request(self.command, target, body, headers)
            reply = upstream.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
            return
        finally:
            upstream.close()
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in ("content-length", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class Inner(Handler):
    """The requests inside a tunnel, all to one place."""

    def __init__(self, tunnel: socket.socket, to: Tuple[str, int]) -> None:
        self._to = to
        tunnel.settimeout(SECONDS)
        BaseHTTPRequestHandler.__init__(self, tunnel, ("127.0.0.1", 0), None)  # type: ignore[arg-type]

    def do_POST(self) -> None:
        """Passes a request on."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._forward(self._to, self.path, body)

    do_GET = do_POST


class Listener(Transport):
    """The proxy's socket."""

    def __init__(self, proxy: "Proxy") -> None:
        super().__init__(lambda _request, _send: None, handler=Handler)
        self.proxy = proxy


class Proxy:
    """The proxy; a context manager.

    `routes`: host:port that may be asked for -> where it really is. `asked`: what was, welcome or not, as
    "CONNECT ec2.eu-central-1.amazonaws.com:443" or "http://127.0.0.1:4711".
    """

    def __init__(self, pem: Path, user: str, password: str) -> None:
        self.user, self.password = user, password
        self.basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.routes: Dict[str, Tuple[str, int]] = {}
        self.asked: List[str] = []
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(pem)
        self._listener = Listener(self)

    @property
    def url(self) -> str:
        """http://user:password@127.0.0.1:port"""
        return f"http://{quote(self.user, safe='')}:{quote(self.password, safe='')}@127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._listener.server_address[1])

    def __enter__(self) -> "Proxy":
        self._listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop()
