#!/usr/bin/python3
"""Whole messages of Kerberos' encryption (RFC 3961, RFC 3962) by impacket, with fixed random blocks.

The output is tests/transcripts/kerberos_messages.txt: encryption type, key usage, key, random block, plain text, message,
in hexadecimal digits, `-` for nothing.
"""

import hashlib

from impacket.krb5 import crypto

# Ticket, authenticator, reply, and the sealing of an acceptor and of an initiator.
USAGES = (2, 11, 12, 22, 24)
LENGTHS = (0, 1, 15, 16, 17, 31, 32, 33, 48, 100)


def drawn(what, length):
    """The same with each run, and without a pattern."""
    return hashlib.shake_256(what.encode()).digest(length)


print("# By tests/kerberos_vectors.py with impacket: type, usage, key, random block, plain text, message.")
for profile in (crypto._AES128CTS, crypto._AES256CTS):
    for usage in USAGES:
        for length in LENGTHS:
            name = f"{profile.enctype} {usage} {length}"
            key = crypto.Key(profile.enctype, drawn(f"key {name}", profile.keysize))
            block, plain = drawn(f"block {name}", profile.blocksize), drawn(f"plain {name}", length)
            message = profile.encrypt(key, usage, plain, block)
            assert profile.decrypt(key, usage, message) == plain
            print(profile.enctype, usage, key.contents.hex(), block.hex(), plain.hex() or "-", message.hex())
