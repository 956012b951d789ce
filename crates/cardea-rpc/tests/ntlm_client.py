#!/usr/bin/python3
"""The client's side of NTLM by impacket, over lines of hexadecimal digits: user, password, then message by message.

Afterwards it sends sealed packets (span, then signature) and expects a sealed answer for each, which it opens and
writes in the clear.
"""

import sys

from impacket import ntlm

HEADER, TRAILER = 7, 8


def read():
    return bytes.fromhex(sys.stdin.readline().strip())


def write(data):
    print(data.hex(), flush=True)


user, password = sys.argv[1:]
negotiate = ntlm.getNTLMSSPType1("", "", signingRequired=True, use_ntlmv2=True)
write(negotiate.getData())
challenge = read()
authenticate, exported = ntlm.getNTLMSSPType3(negotiate, challenge, user, password, "Firm", "", "", use_ntlmv2=True)
write(authenticate.getData())

flags = authenticate["flags"]


def keys(end):
    sealing = ntlm.SEALKEY(flags, exported, end)
    cipher = ntlm.ARC4.new(sealing)
    return ntlm.SIGNKEY(flags, exported, end), sealing, cipher.encrypt


client, server = keys("Client"), keys("Server")
for sequence in range(3):
    span = b"header stub %d trailer." % sequence
    body = span[HEADER:-TRAILER]
    sealed, signature = ntlm.SEAL(flags, client[0], client[1], span, body, sequence, client[2])
    write(span[:HEADER] + sealed + span[-TRAILER:])
    write(signature.getData())
    answer, answered = read(), read()
    plain = answer[:HEADER] + server[2](answer[HEADER:-TRAILER]) + answer[-TRAILER:]
    expected = ntlm.SIGN(flags, server[0], plain, sequence, server[2])
    assert answered == expected.getData(), "the server's signature is wrong"
    write(plain)
