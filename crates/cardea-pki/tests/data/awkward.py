#!/usr/bin/env python3
"""Makes ../awkward/: certificates of unusual but existing form around the keys of this folder. Their signatures are
worth nothing. `refused-…` are those that belong to no key or are no certificate."""
import base64
import os


def tlv(tag, value):
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = bytes([0x81, size])
    else:
        length = bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + value


def sequence(*parts):
    return tlv(0x30, b"".join(parts))


def oid(dotted):
    first, second, *rest = [int(part) for part in dotted.split(".")]
    out = bytes([first * 40 + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | number & 0x7F)
        out += bytes(reversed(digits))
    return tlv(0x06, out)


def common_name(tag, value):
    return sequence(tlv(0x31, sequence(oid("2.5.4.3"), tlv(tag, value))))


def certificate(spki, subject=common_name(0x0C, b"Ada"), tail=b""):
    algorithm = sequence(oid("1.2.840.113549.1.1.11"), b"\x05\x00")
    validity = sequence(tlv(0x17, b"250101000000Z"), tlv(0x17, b"490101000000Z"))
    issuer = common_name(0x0C, b"Test CA")
    fields = sequence(tlv(0xA0, b"\x02\x01\x02"), b"\x02\x01\x01", algorithm, issuer, validity, subject, spki)
    return sequence(fields, algorithm, tlv(0x03, b"\0" + b"\x5a" * 256)) + tail


def read(name):
    lines = open(f"{name}.spki.pem").read().split("\n")
    return base64.b64decode("".join(line for line in lines if "-----" not in line))


rsa, curve = read("rsa2048"), read("p256")
# The bits behind the algorithm.
rsa_bits, curve_bits = rsa[4 + 15 :], curve[2 + 21 :]
curve_algorithm = sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7"))
point = curve_bits[4:]
assert rsa_bits[0] == curve_bits[0] == 3 and len(point) == 64
sign = point[63] & 1


def compressed(form):
    return sequence(curve_algorithm, tlv(0x03, b"\0" + bytes([form]) + point[:32]))


made = {
    "rsa2048.plain": certificate(rsa),
    "rsa2048.universal-string": certificate(rsa, common_name(0x1C, "Zoë".encode("utf-32-be"))),
    "rsa2048.zeros-behind": certificate(rsa, tail=b"\0\0\0\n"),
    "rsa2048.no-null": certificate(sequence(sequence(oid("1.2.840.113549.1.1.1")), rsa_bits)),
    "rsa2048.pss": certificate(sequence(sequence(oid("1.2.840.113549.1.1.10")), rsa_bits)),
    "p256.compressed": certificate(compressed(2 | sign)),
    "p256.universal-string": certificate(curve, common_name(0x1C, "Zoë".encode("utf-32-be"))),
    "refused-p256.other-point": certificate(compressed(2 | sign ^ 1)),
    "refused-rsa2048.text-behind": certificate(rsa, tail=b"and more"),
    "refused-rsa2048.other-algorithm": certificate(sequence(sequence(oid("1.2.840.113549.1.1.7")), rsa_bits)),
}
os.makedirs("../awkward", exist_ok=True)
for name, der in made.items():
    with open(f"../awkward/{name}.der", "wb") as file:
        file.write(der)
