"""Certificates made on the spot: signed by themselves, for this machine, of the days that are asked for."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from serve.tls import Pair

SERVER = ExtendedKeyUsageOID.SERVER_AUTH


def make(folder, name="a", *, days=30.0, since=-1.0, host="localhost", words="", use=SERVER, number=None):
    """The files of a certificate that counts from `since` days on, to `days` from now; `words` encrypt its key."""
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    hosts = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), number or x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(since))
        .not_valid_after(now + datetime.timedelta(days))
        .add_extension(x509.SubjectAlternativeName(hosts if host == "localhost" else hosts[:1]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    Path(pair.cert).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    how = serialization.BestAvailableEncryption(words.encode()) if words else serialization.NoEncryption()
    kind = serialization.PrivateFormat.PKCS8
    Path(pair.key).touch(mode=0o600)
    Path(pair.key).write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, how))
    return pair
