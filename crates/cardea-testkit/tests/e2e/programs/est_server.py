#!/usr/bin/env python3
"""An authority that speaks EST (RFC 7030), for tests: curl and strongSwan's `pki` judge it as well.

Arguments: folder, port, then switches. The folder has ca.pem, ca.key, server.pem, server.key; what happens is in log.
  wait=N     202 for the first N times of each request
  tls=1.2    no newer version
  lines      base64 in lines of 76 characters, ended by CR LF
  key        certificates for another key
  names      certificates for another name
  status=N   every enrolment is answered with N
  sid=S-…    certificates have the security identifier, by the authority's word
"""

import base64
import datetime
import ipaddress
import os
import ssl
import sys
import textwrap
from http.server import BaseHTTPRequestHandler, HTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

folder, port = sys.argv[1], int(sys.argv[2])
switches = dict((word.split("=", 1) + [""])[:2] for word in sys.argv[3:])
assert ipaddress.ip_address("127.0.0.1").is_loopback


def path(name):
    return os.path.join(folder, name)


with open(path("ca.pem"), "rb") as file:
    ca = x509.load_pem_x509_certificate(file.read())
with open(path("ca.key"), "rb") as file:
    ca_key = serialization.load_pem_private_key(file.read(), None)
seen = {}


def log(text):
    with open(path("log"), "a") as file:
        file.write(text + "\n")


def der_sid(sid):
    def element(tag, content):
        return bytes([tag, len(content)]) + content

    oid = bytes.fromhex("060A2B060104018237190201")
    return element(0x30, element(0xA0, oid + element(0xA0, element(0x04, sid.encode()))))


def issue(csr):
    now = datetime.datetime.utcnow()
    name = x509.Name.from_rfc4514_string("CN=Eve") if "names" in switches else csr.subject
    key = ec.generate_private_key(ec.SECP256R1()).public_key() if "key" in switches else csr.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=int(switches.get("days", "90"))))
    )
    for extension in csr.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), False)
    if "sid" in switches:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.311.25.2")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, der_sid(switches["sid"])), False)
    return builder.sign(ca_key, hashes.SHA256())


def names(of):
    try:
        alternative = of.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        alternative = None
    return of.subject, alternative


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, kind="text/plain", body=b"", headers=()):
        log(f"{self.command} {self.path} {status} {self.connection.version()}")
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def certificates(self, certificates, kind):
        der = pkcs7.serialize_certificates(certificates, serialization.Encoding.DER)
        body = base64.b64encode(der)
        if "lines" in switches:
            body = "\r\n".join(textwrap.wrap(body.decode(), 76)).encode() + b"\r\n"
        self.answer(200, kind, body)

    def do_GET(self):
        operation = self.path.rsplit("/", 1)[-1]
        if operation == "cacerts":
            self.certificates([ca], "application/pkcs7-mime")
        elif operation == "csrattrs":
            self.answer(204)
        else:
            self.answer(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.path.rsplit("/", 1)[-1]
        if operation not in ("simpleenroll", "simplereenroll"):
            return self.answer(404)
        if "status" in switches:
            return self.answer(int(switches["status"]), body=b"because\x1b[31m of the test")
        shown = self.connection.getpeercert(True)
        basic = "Basic " + base64.b64encode(b"ada:sesame").decode()
        if operation == "simplereenroll" and not shown:
            return self.answer(403, body=b"no certificate was shown")
        if not shown and self.headers.get("Authorization") != basic:
            return self.answer(401, headers=[("WWW-Authenticate", 'Basic realm="est"')])
        try:
            csr = x509.load_der_x509_csr(base64.b64decode(body))
        except ValueError:
            return self.answer(400, body=b"no request")
        if not csr.is_signature_valid:
            return self.answer(400, body=b"the request is not signed by its key")
        if operation == "simplereenroll" and names(csr) != names(x509.load_der_x509_certificate(shown)):
            return self.answer(400, body=b"the names differ")
        seen[body] = seen.get(body, 0) + 1
        if seen[body] <= int(switches.get("wait", "0")):
            return self.answer(202, headers=[("Retry-After", "1")])
        self.certificates([issue(csr)], "application/pkcs7-mime; smime-type=certs-only")


class Server(HTTPServer):
    def handle_error(self, *_):
        # A client that hangs up ends its connection, not the server.
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(path("server.pem"), path("server.key"))
context.load_verify_locations(path("ca.pem"))
context.verify_mode = ssl.CERT_OPTIONAL
if switches.get("tls") == "1.2":
    context.maximum_version = ssl.TLSVersion.TLSv1_2
server = Server(("127.0.0.1", port), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
log("ready")
server.serve_forever()
