"""The certificate that a server shows: read, held against its key, read again when it is renewed, and what is wrong.

In: the paths of two PEM files. Out: TLS contexts for whoever accepts connections, and findings for preflight. A pair of
files counts whole or not at all: one that cannot be used leaves the old one shown. Knows no sockets.
"""

import json
import logging
import os
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from serve.findings import Finding, finding, of_error
from serve.keys import stamp_of
from tune.errors import UserError

LOG = logging.getLogger(__name__)
TLS = "GPTOSS_KIT_TLS"  # environment variable: the two paths, as JSON
SOON = 7  # days before its end in which a certificate is warned about
EXPIRED, NOT_YET = 10, 9  # OpenSSL's X509_V_ERR_*


class Pair(NamedTuple):
    """The files of one server: a certificate, with the chain below it, and its private key."""

    cert: str
    key: str


def shown() -> Pair | None:
    """In the engine's process: the files of its server, where it has them."""
    told = os.environ.get(TLS)
    return Pair(*json.loads(told)) if told else None


class Certificate:
    """A context that shows whatever the files hold by the time that a client comes."""

    def __init__(self, pair: Pair) -> None:
        self._pair, self._seen = pair, _stamps(pair)
        self._shown = load(pair)
        self.context = load(pair)
        self.context.sni_callback = self._show  # called at each handshake, whether or not the client names a host

    def _show(self, connection: ssl.SSLObject | ssl.SSLSocket, *_: object) -> None:
        if (stamps := _stamps(self._pair)) != self._seen:
            self._seen = stamps
            try:
                self._shown = load(self._pair)
                LOG.warning("%s was read again", self._pair.cert)
            except UserError as e:
                LOG.warning("%s (%s): the certificate read before stays", e.what, e.why)
        connection.context = self._shown


def load(pair: Pair) -> ssl.SSLContext:
    """A server's context. Raises UserError for files that cannot be used; asks nobody for a password."""
    for path in pair:
        try:
            Path(path).read_bytes()
        except OSError as e:
            raise UserError(
                f"{path} cannot be read", why=e.strerror or "", fix="--tls-cert FILE --tls-key FILE"
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked = []

    def password() -> str:
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(*pair, password=password)
    except (ssl.SSLError, ValueError) as e:
        if asked:
            fix = f"openssl pkey -in {pair.key} -out plain.pem, readable by you alone, and --tls-key plain.pem"
            raise UserError(f"{pair.key} is encrypted", why="a server can ask nobody for its words", fix=fix) from None
        if getattr(e, "reason", "") == "KEY_VALUES_MISMATCH":
            what, fix = f"{pair.key} is not the key of {pair.cert}", "--tls-key with the key that it was made for"
            raise UserError(what, why="the certificate was made for another", fix=fix) from None
        what = f"{pair.cert} and {pair.key} are no certificate and its key"
        why = getattr(e, "reason", None) or "no PEM of that kind is in them"
        raise UserError(what, why=why, fix="two PEM files: --tls-cert the certificate, --tls-key its key") from None
    return context


def findings(pair: Pair) -> Iterator[Finding]:
    """What is wrong with the files of a server."""
    try:
        context = load(pair)
    except UserError as e:
        yield of_error("S055", e)
        return
    renew = "--tls-cert and --tls-key with a renewed one; a running server takes it by itself"
    try:
        days = (_ends(context, pair.cert) - time.time()) / 86_400
    except ssl.SSLCertVerificationError as e:
        told = {EXPIRED: "has ended", NOT_YET: "has not begun to count"}.get(e.verify_code, "is for no server")
        yield finding("S056", f"the certificate in {pair.cert} {told}", why=e.verify_message, fix=renew)
    except ssl.SSLError as e:
        yield finding("S056", f"the certificate in {pair.cert} is for no server", why=e.reason or str(e), fix=renew)
    else:
        if days < SOON:
            what = f"the certificate in {pair.cert} ends in {days:.1f} days"
            yield finding("S056", what, why="clients take none that has ended", fix=renew)
    if Path(pair.key).stat().st_mode & stat.S_IROTH:
        why = "whoever has it can pose as this server"
        yield finding("S057", f"everyone on this machine can read {pair.key}", why=why, fix=f"chmod o-r {pair.key}")


def _ends(server: ssl.SSLContext, cert: str) -> float:
    """When the first certificate of a file ends, in Unix time: as a client hears it that trusts just this one.

    Raises SSLCertVerificationError when such a client would not take it.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # whose it is, is the client's to know
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there)
    other = server.wrap_bio(there, back, server_side=True)
    for _ in range(3):  # a message of each in turn
        for end in (one, other):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    told = one.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(told["notAfter"])))


def _stamps(pair: Pair) -> tuple[tuple[int, ...], ...]:
    return tuple(stamp_of(Path(path)) for path in pair)
