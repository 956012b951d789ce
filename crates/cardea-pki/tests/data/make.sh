#!/usr/bin/env bash
# Makes the fixtures of this folder anew: every key and certificate changes. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
rm -f ./*.pem ./*.der ./*.p12 ./*.pub

rsa() { openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$2" "${@:3}" -out "$1.pkcs8.pem" 2>/dev/null; }
ec() { openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -pkeyopt ec_param_enc:named_curve -out "$1.pkcs8.pem"; }

# Keys that a card holds, in every form.
rsa rsa2048 2048
rsa rsa3072 3072
ec p256 P-256
ec p384 P-384
for key in rsa2048 rsa3072 p256 p384; do
    openssl pkcs8 -topk8 -nocrypt -in $key.pkcs8.pem -outform DER -out $key.pkcs8.der
    openssl pkey -in $key.pkcs8.pem -pubout -out $key.spki.pem
    chmod 600 $key.pkcs8.pem
    ssh-keygen -y -f $key.pkcs8.pem >$key.pub
done
for key in rsa2048 rsa3072; do
    openssl rsa -in $key.pkcs8.pem -traditional -out $key.pkcs1.pem 2>/dev/null
    openssl rsa -in $key.pkcs8.pem -traditional -outform DER -out $key.pkcs1.der 2>/dev/null
done
for key in p256 p384; do
    # With parameters in front, as `openssl ecparam -genkey` writes it.
    { openssl ecparam -name "$([ $key = p256 ] && echo prime256v1 || echo secp384r1)"
      openssl ec -in $key.pkcs8.pem 2>/dev/null; } >$key.sec1.pem
    openssl ec -in $key.pkcs8.pem -outform DER -out $key.sec1.der 2>/dev/null
    openssl ec -in $key.pkcs8.pem -no_public -outform DER -out $key.sec1-no-public.der 2>/dev/null
    openssl ec -in $key.pkcs8.pem -conv_form compressed -outform DER -out $key.sec1-compressed.der 2>/dev/null
done

# Encrypted, with few iterations: the tests damage them thousands of times.
encrypt() { openssl pkcs8 -topk8 -in "$1.pkcs8.pem" "${@:3}" -passout pass:sesame -out "$1.$2.pem"; }
encrypt rsa2048 aes256 -v2 aes-256-cbc -iter 3
encrypt rsa3072 aes192-sha512 -v2 aes-192-cbc -v2prf hmacWithSHA512 -iter 3
encrypt p256 aes128-sha1 -v2 aes-128-cbc -v2prf hmacWithSHA1 -iter 3
encrypt p256 3des -v2 des3 -iter 3
encrypt p384 scrypt -scrypt -scrypt_N 16 -scrypt_r 1 -scrypt_p 1
encrypt p384 scrypt-default -scrypt
encrypt p256 pbe-3des -v1 PBE-SHA1-3DES -iter 3
encrypt p256 aes256-default -v2 aes-256-cbc
openssl pkcs8 -topk8 -in p256.pkcs8.pem -v2 aes-256-cbc -iter 3 -passout pass:sesame -outform DER -out p256.aes256.der
# Refused: SSLeay's way, and DES.
openssl rsa -in rsa2048.pkcs8.pem -traditional -aes128 -passout pass:sesame -out refused.ssleay.pem 2>/dev/null
openssl pkcs8 -topk8 -in p256.pkcs8.pem -v1 PBE-MD5-DES -provider legacy -provider default -passout pass:sesame -out refused.pbe-md5-des.pem

# Keys that no card holds.
rsa refused.rsa1024 1024
rsa refused.rsa4096 4096
rsa refused.rsa2048-e3 2048 -pkeyopt rsa_keygen_pubexp:3
rsa refused.rsa2048-3primes 2048 -pkeyopt rsa_keygen_primes:3
openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out refused.rsa-pss.pkcs8.pem 2>/dev/null
ec refused.brainpool brainpoolP256r1
ec refused.secp256k1 secp256k1
ec refused.p521 P-521
openssl ec -in refused.brainpool.pkcs8.pem -out refused.brainpool.sec1.pem 2>/dev/null
openssl ec -in p256.pkcs8.pem -param_enc explicit -out refused.explicit.sec1.pem 2>/dev/null
openssl genpkey -algorithm ED25519 -out refused.ed25519.pkcs8.pem
cp p256.pkcs8.pem ssh && chmod 600 ssh && ssh-keygen -q -p -N '' -f ssh >/dev/null && mv ssh refused.openssh.pem

# Certificates: a CA of a kind that no card holds, and one for each key.
openssl req -x509 -new -key refused.rsa4096.pkcs8.pem -days 36500 -subj "/C=DE/O=Cardea/CN=Test CA" -out ca.cert.pem
issue() {
    openssl req -new -key "$1.pkcs8.pem" -utf8 -subj "$2" |
        openssl x509 -req -CA ca.cert.pem -CAkey refused.rsa4096.pkcs8.pem -days 36500 \
            -set_serial "$3" -extfile <(printf '%s\n' "basicConstraints=CA:FALSE" "$4") \
            -out "$1.cert.pem" 2>/dev/null
    openssl x509 -in "$1.cert.pem" -outform DER -out "$1.cert.der"
}
issue rsa2048 "/C=GB/O=Example, Ltd./OU=Żółw/CN=Ada Lovelace" 0x00ff01020304050607 \
    "subjectAltName=email:ada@example.org,DNS:ada.example.org,URI:https://example.org/ada,IP:127.0.0.1,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:ada@EXAMPLE.ORG"
issue rsa3072 "/CN=rsa3072" 2 "keyUsage=digitalSignature"
issue p256 "/DC=org/DC=example/CN=p256/emailAddress=p256@example.org" 3 "keyUsage=digitalSignature"
issue p384 "/CN=p384+OU=two" 4 "keyUsage=digitalSignature"

# PKCS#12.
p12() { # out, key, more
    openssl pkcs12 -export -inkey "$2.pkcs8.pem" -in "$2.cert.pem" -passout pass:sesame -iter 3 "${@:3}" -out "$1.p12"
}
legacy=(-legacy)
p12 modern rsa2048 -certfile ca.cert.pem -name "Ada's key – ключ"
openssl pkcs12 -export -inkey rsa2048.pkcs8.pem -in rsa2048.cert.pem -passout pass:sesame -out modern-default.p12
p12 modern-p384 p384 -name p384
p12 modern-sha512 p256 -macalg sha512 -keypbe AES-128-CBC -certpbe AES-192-CBC
p12 legacy rsa2048 "${legacy[@]}" -certfile ca.cert.pem -name "Ada's key"
p12 legacy-3des p256 "${legacy[@]}" -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES
p12 legacy-rc2-128 p256 "${legacy[@]}" -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-128
p12 legacy-2des p256 "${legacy[@]}" -keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-2DES
p12 plain p256 -keypbe NONE -certpbe NONE
p12 refused-rc4 p256 "${legacy[@]}" -keypbe PBE-SHA1-RC4-128 -certpbe NONE
p12 refused-no-mac p256 -nomac
openssl pkcs12 -export -inkey refused.rsa4096.pkcs8.pem -nocerts -passout pass:sesame -iter 3 -out refused-rsa4096.p12
openssl pkcs12 -export -inkey p256.pkcs8.pem -in p256.cert.pem -passout pass: -iter 3 -out empty-passphrase.p12
openssl pkcs12 -export -inkey p256.pkcs8.pem -in p256.cert.pem -passout "pass:pässwörd€" -iter 3 -out umlauts.p12
openssl pkcs12 -export -inkey p256.pkcs8.pem -in p256.cert.pem -passout "pass:pässwörd€" -iter 3 "${legacy[@]}" -out umlauts-legacy.p12
openssl pkcs12 -export -inkey p256.pkcs8.pem -nocerts -passout pass:sesame -iter 3 -out key-only.p12
openssl pkcs12 -export -nokeys -in ca.cert.pem -passout pass:sesame -iter 3 -out certificates-only.p12

# PBMAC1 (RFC 9579), which OpenSSL writes from 3.4 on, and a file with two keys, which it never writes: plain.p12 again.
python3 - <<'PYTHON'
import hashlib, hmac

def take(data):
    """The first element: header and value, and the rest."""
    size, header = data[1], 2
    if size & 0x80:
        header += size & 0x7F
        size = int.from_bytes(data[2:header], "big")
    return data[header:header + size], data[:header + size], data[header + size:]

def put(tag, *values):
    value = b"".join(values)
    size = len(value).to_bytes(4, "big").lstrip(b"\0")
    size = bytes([len(value)]) if len(value) < 128 else bytes([0x80 | len(size)]) + size
    return bytes([tag]) + size + value

def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = [first * 40 + second]
    for arc in rest:
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.insert(0, 0x80 | arc & 0x7F)
        out += digits
    return put(6, bytes(out))

def write(name, content):
    salt = b"saltsalt"
    null = put(5)
    sha256 = put(0x30, oid("1.2.840.113549.2.9"), null)
    kdf = put(0x30, put(4, salt), put(2, b"\3"), put(2, b"\x20"), sha256)
    parameters = put(0x30, put(0x30, oid("1.2.840.113549.1.5.12"), kdf), sha256)
    key = hashlib.pbkdf2_hmac("sha256", b"sesame", salt, 3, 32)
    mac = put(4, hmac.digest(key, content, "sha256"))
    info = put(0x30, put(0x30, oid("1.2.840.113549.1.5.14"), parameters), mac)
    safe = put(0x30, oid("1.2.840.113549.1.7.1"), put(0xA0, put(4, content)))
    with open(name, "wb") as file:
        file.write(put(0x30, put(2, b"\3"), safe, put(0x30, info, put(4, b"unused"), put(2, b"\1"))))

pfx, _, _ = take(open("plain.p12", "rb").read())
_, _, rest = take(pfx)
safe, _, _ = take(rest)
_, _, wrapped = take(safe)
octets, _, _ = take(wrapped)
content, _, _ = take(octets)
write("pbmac1.p12", content)
infos, _, _ = take(content)
write("two-keys.p12", put(0x30, infos, infos))
PYTHON

# Certificates of unusual but existing form.
python3 awkward.py

# NSS: BER with lengths at the end. Two keys in one database make a file with two keys.
nss=$(mktemp -d)
trap 'rm -rf "$nss"' EXIT
certutil -N -d "sql:$nss" --empty-password
for key in modern modern-p384; do pk12util -i $key.p12 -d "sql:$nss" -W sesame -K '' >/dev/null; done
pk12util -o nss.p12 -n "p384" -d "sql:$nss" -W sesame -K '' >/dev/null
pk12util -o nss-legacy.p12 -n "p384" -d "sql:$nss" -W sesame -K '' \
    -c "PKCS #12 V2 PBE With SHA-1 And 3KEY Triple DES-CBC" \
    -C "PKCS #12 V2 PBE With SHA-1 And 40 Bit RC2 CBC" -M SHA-1 >/dev/null

# Nothing here is a secret; git keeps no other modes.
chmod 644 ./*.pem ./*.der ./*.p12 ./*.pub

openssl version
