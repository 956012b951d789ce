#!/usr/bin/python3
"""A second verifier of evidence, written from docs/design/attestation.md and without the code of Cardea.

Reads a list of cases, one a line, as words of the form name=value; writes a line for each: "ok", level, limit and
count of the PIN and what is known of each key, or the name of the first code. Needs cbor2 and cryptography.
"""

import hashlib
import io
import struct
import sys
from datetime import datetime, timezone

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

VERSION = "cardea-evidence-1"
EK_ATTRIBUTE = {"manufacturer": "2.23.133.2.1", "model": "2.23.133.2.2", "version": "2.23.133.2.3"}


class Refused(Exception):
    """The name of a code."""


def require(holds, code):
    if not holds:
        raise Refused(code)


def H(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def u32(number):
    return struct.pack(">I", number)


def u16(number):
    return struct.pack(">H", number)


def sized(content):
    return u16(len(content)) + content


def name(public):
    return b"\x00\x0b" + H(public)


def qualified(parent, child):
    return b"\x00\x0b" + H(parent, child)


# Policies.

ZERO = bytes(32)


def reference(old, code, who, ref):
    return H(H(old, u32(code), who), ref)


def secret(who, ref):
    return reference(ZERO, 0x151, who, ref)


def command(old, code):
    return H(old, u32(0x16C), u32(code))


def counter(old, count, operation):
    return H(old, u32(0x16D), H(u32(count), u16(16), u16(operation)))


def change(old, index):
    return H(command(old, 0x13B), u32(0x170), H(index))


def initial(birth, count):
    return command(counter(reference(ZERO, 0x160, birth, b"init"), count, 0), 0x137)


def either(branches):
    return H(ZERO, u32(0x171), *branches)


def digest_of_x(birth, count, pin, adm, puk, limit):
    reset = H(u32(0x137), pin, pin, sized(u32(0) + u32(limit)), u16(0))
    branches = [command(ZERO, 0x14E), command(ZERO, 0x184), initial(birth, count), change(secret(pin, b"chg"), pin)]
    if puk:
        unblock = secret(puk, b"puk")
        branches += [H(unblock, u32(0x16E), reset), change(unblock, pin), change(secret(puk, b"chg"), puk)]
    if adm and not puk:
        unblock = secret(adm, b"adm")
        branches += [H(unblock, u32(0x16E), reset), change(unblock, pin)]
    if adm:
        branches.append(change(secret(adm, b"admkey"), adm))
    return either(branches)


# Structures.


class Wire:
    def __init__(self, data):
        self.data = data

    def take(self, length):
        if length > len(self.data):
            raise ValueError("too short")
        taken, self.data = self.data[:length], self.data[length:]
        return taken

    def u16(self):
        return int.from_bytes(self.take(2), "big")

    def u32(self):
        return int.from_bytes(self.take(4), "big")

    def sized(self):
        return self.take(self.u16())


class Public:
    """TPMT_PUBLIC of an RSA key or of one on a curve."""

    def __init__(self, data):
        wire = Wire(data)
        self.kind, self.name_alg = wire.u16(), wire.u16()
        self.attributes, self.policy = wire.u32(), wire.sized()
        self.symmetric = wire.u16()
        if self.symmetric != 0x10:
            wire.take(4)
        self.scheme = wire.u16()
        if self.scheme == 0x1A:
            wire.take(4)
        elif self.scheme not in (0x10, 0x15):
            wire.take(2)
        if self.kind == 1:
            self.bits, self.exponent, self.modulus = wire.u16(), wire.u32(), wire.sized()
            self.kdf = 0x10
        elif self.kind == 0x23:
            self.curve, self.kdf, self.x, self.y = wire.u16(), wire.u16(), wire.sized(), wire.sized()
        else:
            raise ValueError("another kind of key")
        if wire.data:
            raise ValueError("more than a key")

    def key(self):
        """The key, if cards hold such keys."""
        if self.kind == 1:
            top = self.modulus[0] & 0x80 if self.modulus else 0
            sizes = {256: 2048, 384: 3072}
            if sizes.get(len(self.modulus)) != self.bits or not top or not self.modulus[-1] & 1:
                return None
            return f"RSA-{self.bits}" if self.exponent in (0, 65537) else None
        curve, length = {3: (ec.SECP256R1(), 32), 4: (ec.SECP384R1(), 48)}.get(self.curve, (None, 0))
        if curve is None or len(self.x.lstrip(b"\0")) > length or len(self.y.lstrip(b"\0")) > length:
            return None
        try:
            numbers = ec.EllipticCurvePublicNumbers(
                int.from_bytes(self.x, "big"), int.from_bytes(self.y, "big"), curve
            )
            return numbers.public_key()
        except ValueError:
            return None


def parse(data):
    try:
        return Public(data)
    except ValueError:
        return None


def signing_public(attributes, policy, public):
    parameters = bytes.fromhex("0010 0018 000B 0003 0010")
    return bytes.fromhex("0023000B") + u32(attributes) + sized(policy) + parameters + sized(public.x) + sized(public.y)


def is_signing(data, attributes, policy=b""):
    public = parse(data)
    if public is None or public.kind != 0x23 or len(public.x) != 32 or len(public.y) != 32:
        return False
    return data == signing_public(attributes, policy, public)


def is_target(data):
    public = parse(data)
    if public is None or public.kind != 0x23 or len(public.x) != 32 or len(public.y) != 32:
        return False
    head = bytes.fromhex("0023000B 00030040 0000 0006 0080 0043 0010 0003 0010")
    return data == head + sized(public.x) + sized(public.y)


# The bundle (step 0).


def is_bytes(value):
    return type(value) is bytes


def is_number(value, most):
    return type(value) is int and 0 <= value <= most


def is_map(value, needed, optional=()):
    if type(value) is not dict or any(type(key) is not int for key in value):
        return False
    return set(needed) <= set(value) <= set(needed) | set(optional)


def is_list(value, most, each):
    return type(value) is list and len(value) <= most and all(each(one) for one in value)


def is_statement(value):
    return is_list(value, 2, is_bytes) and len(value) == 2


def is_creation(value):
    if not is_map(value, (0, 1), (2,)) or not is_bytes(value[0]) or not is_statement(value[1]):
        return False
    # An empty list is not how nothing is written.
    return 2 not in value or (is_list(value[2], 7, is_bytes) and len(value[2]) > 0)


def is_key(value):
    if not is_map(value, (0, 1), (2,)) or not is_bytes(value[0]) or not is_statement(value[1]):
        return False
    return 2 not in value or is_creation(value[2])


def is_index(value):
    return is_map(value, (0, 1, 2)) and is_number(value[0], 3) and is_bytes(value[1]) and is_statement(value[2])


def is_bundle(b):
    if not is_map(b, (0, 1, 2, 3, 4, 5, 8, 9), (6, 7, 10)) or b[0] != VERSION:
        return False
    if not is_bytes(b[1]) or len(b[1]) > 64 or not is_bytes(b[4]) or not is_bytes(b[5]):
        return False
    if not is_map(b[3], (0, 1)) or not is_bytes(b[3][0]) or not is_list(b[3][1], 8, is_bytes):
        return False
    if not is_list(b[8], 4, is_index) or not is_list(b[9], 30, is_key) or type(b.get(10, "")) is not str:
        return False
    roles = [index[0] for index in b[8]]
    if b[2] == 1 and type(b[2]) is int:
        return 6 not in b and 7 not in b and roles == [0]
    if type(b[2]) is not int or b[2] != 2 or not is_number(b.get(6), 2**32 - 1):
        return False
    if 7 in b and not (is_map(b[7], (0, 1)) and is_bytes(b[7][0]) and is_statement(b[7][1])):
        return False
    return roles in ([3, 0], [3, 0, 1], [3, 0, 2], [3, 0, 1, 2])


def version_of(data):
    """The text at key 0, if the map begins with it."""
    if not data or data[0] >> 5 != 5 or data[0] & 31 > 27:
        return None
    head = {24: 2, 25: 3, 26: 5, 27: 9}.get(data[0] & 31, 1)
    try:
        decoder = cbor2.CBORDecoder(io.BytesIO(data[head:]))
        if decoder.decode() != 0:
            return None
        text = decoder.decode()
    except Exception:
        return None
    return text if type(text) is str else None


def decode(data):
    require(len(data) <= 1 << 20, "bundle-size")
    version = version_of(data)
    require(version in (None, VERSION), "bundle-version")
    try:
        bundle = cbor2.loads(data)
    except Exception:
        raise Refused("bundle-form") from None
    require(is_bundle(bundle) and cbor2.dumps(bundle, canonical=True) == data, "bundle-form")
    return bundle


# Steps 2 to 9.


def check_issued(certificate, issuer):
    """Debian's cryptography does not have verify_directly_issued_by."""
    if certificate.issuer != issuer.subject:
        raise ValueError("another issuer")
    algorithm = certificate.signature_hash_algorithm
    if algorithm.name not in ("sha256", "sha384", "sha512"):
        raise ValueError("a weak hash")
    arguments = [ec.ECDSA(algorithm)]
    if isinstance(issuer.public_key(), rsa.RSAPublicKey):
        arguments = [padding.PKCS1v15(), algorithm]
    issuer.public_key().verify(certificate.signature, certificate.tbs_certificate_bytes, *arguments)


def check_path(leaf, others, case):
    """The issuers of a certificate, up to one that is trusted; a ValueError if there are none."""
    anchors = case["authorities"]
    trusted = [anchor.public_bytes(DER) for anchor in anchors]

    def check_one(certificate):
        now = case["now"]
        if not certificate.not_valid_before <= now <= certificate.not_valid_after:
            raise ValueError("time")
        if (certificate.issuer.public_bytes(), certificate.serial_number) in case["revoked"]:
            raise ValueError("revoked")
        known = {"2.5.29.%d" % number for number in (9, 14, 15, 17, 19, 31, 32, 35, 37)}
        for extension in certificate.extensions:
            if extension.critical and extension.oid.dotted_string not in known:
                raise ValueError("critical")

    def check_issuer(certificate, below):
        check_one(certificate)
        constraints = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS).value
        if not constraints.ca or (constraints.path_length is not None and below > constraints.path_length):
            raise ValueError("not an authority")
        for extension in certificate.extensions:
            if extension.oid == ExtensionOID.KEY_USAGE and not extension.value.key_cert_sign:
                raise ValueError("not for certificates")
            if extension.oid == ExtensionOID.EXTENDED_KEY_USAGE:
                usages = {usage.dotted_string for usage in extension.value}
                if not usages & {"2.23.133.8.3", ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string}:
                    raise ValueError("not for this")

    check_one(leaf)
    if leaf.public_bytes(DER) in trusted:
        return []
    path, current = [], leaf
    while len(path) < 7:
        below = sum(one.issuer != one.subject for one in path)
        for issuer in anchors + others:
            try:
                check_issued(current, issuer)
                check_issuer(issuer, below)
            except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
                continue
            path.append(issuer)
            if issuer.public_bytes(DER) in trusted:
                return path
            current = issuer
            break
        else:
            raise ValueError("no issuer")
    raise ValueError("too long")


DER = Encoding.DER


def check_attestation_key(bundle, case):
    public, certificates = bundle[3][0], bundle[3][1]
    require(is_signing(public, 0x00050472), "ak-template")
    key = parse(public).key()
    require(key is not None, "ak-template")
    if not certificates:
        require(name(public) in case["pins"], "ak-unknown")
        return key, [], None
    try:
        own, others = x509.load_der_x509_certificate(certificates[0]), certificates[1:]
    except ValueError:
        raise Refused("ak-chain") from None
    try:
        numbers = own.public_key().public_numbers()
    except Exception:
        numbers = None
    require(numbers == key.public_numbers(), "ak-cert-key")
    try:
        others = [x509.load_der_x509_certificate(other) for other in others]
        path = check_path(own, others, case)
        usages = [usage.dotted_string for usage in own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]
    except x509.ExtensionNotFound:
        usages = []
    except ValueError:
        raise Refused("ak-chain") from None
    require(usages == ["2.23.133.8.3"], "ak-eku")
    tpm = {}
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for directory in names.get_values_for_type(x509.DirectoryName):
            for what, oid in EK_ATTRIBUTE.items():
                found = directory.get_attributes_for_oid(x509.ObjectIdentifier(oid))
                tpm.update({what: found[0].value} if found else {})
    except x509.ExtensionNotFound:
        pass
    issuers = [hashlib.sha256(issuer.public_bytes(DER)).hexdigest() for issuer in path]
    return key, issuers, tpm if len(tpm) == 3 else None


def check_statement(statement, signer, kind, q, prefix):
    key, signer_name = signer
    attest, signature = statement
    try:
        wire = Wire(signature)
        if (wire.u16(), wire.u16()) != (0x18, 0x0B):
            raise ValueError("another signature")
        r, s = wire.sized(), wire.sized()
        if wire.data or len(r) > 32 or len(s) > 32:
            raise ValueError("more than a signature")
        der = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        key.verify(der, attest, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        raise Refused(prefix + "-signature") from None
    require(attest[:4] == bytes.fromhex("ff544347"), prefix + "-magic")
    require(attest[4:6] == u16(kind), prefix + "-type")
    try:
        wire = Wire(attest[6:])
        qualified_signer, extra = wire.sized(), wire.sized()
        wire.take(25)
    except ValueError:
        raise Refused(prefix + "-form") from None
    require(extra == q, prefix + "-nonce")
    try:
        subject, offset = wire.sized(), wire.u16() if kind == 0x8014 else 0
        content = wire.sized()
    except ValueError:
        raise Refused(prefix + "-form") from None
    require(not wire.data, prefix + "-form")
    require(qualified_signer == signer_name, prefix + "-hierarchy")
    return subject, offset, content


def index_public(index, attributes, policy, size):
    return index[1][:4] + b"\x00\x0b" + u32(attributes) + sized(policy) + u16(size)


def has_handle(index):
    return len(index[1]) >= 4 and 0x01C20000 <= int.from_bytes(index[1][:4], "big") <= 0x01C2FFFF


def check_counter(index, policy, signer, q, prefix):
    subject, offset, content = check_statement(index[2], signer, 0x8014, q, prefix)
    require(has_handle(index) and index[1] == index_public(index, 0x22080088, policy, 8), prefix + "-public")
    require(subject == name(index[1]), prefix + "-name")
    require(offset == 0 and len(content) == 8, prefix + "-range")
    return int.from_bytes(content[4:], "big"), int.from_bytes(content[:4], "big")


def check_indices(bundle, birth, root, ak, q):
    indices = {index[0]: index for index in bundle[8]}
    if bundle[2] == 1:
        policy = reference(ZERO, 0x16A, birth, b"pin")
        return {0: check_counter(indices[0], policy, ak, q, "pin")}
    signer = ak
    if 7 in bundle:
        public, statement = bundle[7][0], bundle[7][1]
        subject, _, content = check_statement(statement, ak, 0x8017, q, "witness")
        require(is_signing(public, 0x00050432, counter(ZERO, bundle[6], 3)), "witness-template")
        key = parse(public).key()
        require(key is not None, "witness-template")
        own = qualified(root, name(public))
        require(subject == name(public) and content == own, "witness-name")
        signer = (key, own)
    x = indices[3]
    subject, offset, content = check_statement(x[2], signer, 0x8014, q, "x")
    require(has_handle(x), "x-handle")
    require(x[1] == index_public(x, 0x22040008, initial(birth, bundle[6]), 34), "x-public")
    require(subject == name(x[1]), "x-name")
    require(offset == 0 and len(content) == 34, "x-range")
    policy = H(ZERO, u32(0x192), name(x[1]))
    counters = {}
    for role, prefix in ((0, "pin"), (1, "adm"), (2, "puk")):
        if role in indices:
            counters[role] = check_counter(indices[role], policy, signer, q, prefix)
    names = [name(indices[role][1]) if role in indices else None for role in (0, 1, 2)]
    expected = digest_of_x(birth, bundle[6], names[0], names[1], names[2], counters[0][0])
    require(content == b"\x00\x0b" + expected, "x-content")
    return counters


def check_key(key, pin, srk, root, ak, q):
    subject, _, content = check_statement(key[1], ak, 0x8017, q, "key")
    public = parse(key[0])
    require(public is not None, "key-form")
    require(public.attributes in (0x00060432, 0x00060400, 0x00060420), "key-attributes")
    is_plain = public.symmetric == 0x10 and public.scheme == 0x10 and public.kdf == 0x10 and public.name_alg == 0x0B
    require(is_plain and public.key() is not None, "key-scheme")
    is_recoverable = public.attributes == 0x00060420
    require(not is_recoverable or 2 in key, "creation-missing")
    targets = key[2].get(2, []) if 2 in key else []
    require(is_recoverable == bool(targets), "key-target")
    require(all(is_target(target) for target in targets), "key-target")
    names = [name(target) for target in targets]
    require(names == sorted(set(names)), "key-target")
    classes = {}
    for word, ref in (("session", b"sess"), ("always", b"once")):
        policy = secret(pin, ref)
        if targets:
            policy = either([policy] + [H(ZERO, u32(0x188), target, b"\0") for target in names])
        classes[policy] = word
    require(public.policy in classes, "key-policy")
    require(subject == name(key[0]), "key-name")
    require(content == qualified(root, name(key[0])), "key-hierarchy")
    if 2 in key:
        data, statement = key[2][0], key[2][1]
        subject, _, content = check_statement(statement, ak, 0x801A, q, "creation")
        require(subject == name(key[0]), "creation-name")
        require(content == H(data), "creation-hash")
        try:
            wire = Wire(data)
            for _ in range(wire.u32()):
                wire.take(2)
                wire.take(wire.take(1)[0])
            wire.sized()
            wire.take(3)
            parent, parent_name, _ = wire.sized(), wire.sized(), wire.sized()
        except ValueError:
            raise Refused("creation-form") from None
        require(not wire.data, "creation-form")
        require(parent == srk and parent_name == root, "creation-parent")
    origin = "imported" if public.attributes == 0x00060400 else "generated"
    return origin, classes[public.policy], [one.hex() for one in names]


def check_requirements(case, level, counters, issuers, tpm, keys):
    require(counters[0][0] <= int(case.get("pin_limit", 2**32)), "pin-limit")
    alone = "no_administrator" in case
    require(level >= max(int(case.get("level", 1)), 2 if alone else 1), "level")
    require(not alone or 1 not in counters, "administrator")
    if "accepted" in case:
        require(set(issuers) & set(case["accepted"].split(",")), "authority")
    bad = [one.split("/") for one in case.get("bad", "").split(",") if one]
    if bad:
        require(tpm is not None, "firmware")
        for manufacturer, model, version in bad:
            is_bad = tpm["manufacturer"] == manufacturer and model in ("", tpm["model"])
            require(not is_bad or version not in ("", tpm["version"]), "firmware")
    for origin, when, names in keys:
        require(origin == "generated" or "generated_only" not in case, "key-origin")
        require(when == "always" or "always_only" not in case, "key-class")
        if "recovery" in case:
            require(set(names) <= set(case["recovery"].split(",")), "key-recovery")


def verify(data, case):
    bundle = decode(data)
    if "nonce" in case:
        require(bundle[1] == bytes.fromhex(case["nonce"]), "nonce")
    key, issuers, tpm = check_attestation_key(bundle, case)
    srk = parse(bundle[4])
    must, must_not = 0x00030032, 0x00040000
    is_root = srk is not None and srk.name_alg == 0x0B
    require(is_root and srk.attributes & must == must and not srk.attributes & must_not, "srk-template")
    require(is_signing(bundle[5], 0x00040040), "birth-template")
    birth, root = name(bundle[5]), qualified(u32(0x40000001), name(bundle[4]))
    q = H(VERSION.encode(), b"\0", bundle[1])
    ak = (key, qualified(root, name(bundle[3][0])))
    counters = check_indices(bundle, birth, root, ak, q)
    pin = next(name(index[1]) for index in bundle[8] if index[0] == 0)
    keys = [check_key(one, pin, name(bundle[4]), root, ak, q) for one in bundle[9]]
    level = 2 if bundle[2] == 2 and 7 in bundle else 1
    check_requirements(case, level, counters, issuers, tpm, keys)
    said = [f"{origin}/{when}/{len(names)}" for origin, when, names in keys]
    return " ".join(["ok", str(level), str(counters[0][0]), str(counters[0][1])] + said)


def read_case(line):
    case = dict(word.split("=", 1) for word in line.split())
    case["now"] = datetime.fromtimestamp(int(case["now"]), timezone.utc).replace(tzinfo=None)
    with open(case["authority"], "rb") as file:
        case["authorities"] = [x509.load_der_x509_certificate(file.read())]
    case["pins"] = [bytes.fromhex(pin) for pin in case.get("pins", "").split(",")]
    revoked = [one.split("/") for one in case.get("revoked", "").split(",") if one]
    case["revoked"] = [(bytes.fromhex(issuer), int(serial, 16)) for issuer, serial in revoked]
    return case


def main():
    for line in sys.stdin:
        case = read_case(line)
        with open(case["bundle"], "rb") as file:
            data = file.read()
        try:
            print(verify(data, case))
        except Refused as refusal:
            print(refusal)


if __name__ == "__main__":
    main()
