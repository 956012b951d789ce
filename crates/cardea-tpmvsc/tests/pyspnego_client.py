#!/usr/bin/python3
"""pyspnego as a client of SPNEGO over DCE/RPC: PORT USER PASSWORD, against a running service.

It is not among Debian's packages, so no test runs this; what it sends is kept in cardea-rpc's
tests/transcripts/pyspnego.txt. By hand: `python3 -m venv V; V/bin/pip install pyspnego; V/bin/python pyspnego_client.py …`.
It signs in with NTLM within SPNEGO, checks the service's signature over the list of mechanisms, and makes three signed
calls of the resolver, whose signatures it checks too.
"""

import socket
import struct
import sys
import uuid

import spnego

SPNEGO, INTEGRITY = 9, 5
BIND, BIND_ACK, ALTER, ALTER_ANSWER, REQUEST, RESPONSE = 11, 12, 14, 15, 0, 2
HEADER_SIGNING = 4
RESOLVER = uuid.UUID("99FCFEC4-5260-101B-BBCB-00AA0021347A").bytes_le + struct.pack("<I", 0)
NDR = uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le + struct.pack("<I", 2)
SIMPLE_PING, INVALID_SET = 1, 1912


class Rpc:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def send(self, kind, body, value, call=1, pad=0):
        flags = 3 | (HEADER_SIGNING if kind in (BIND, ALTER) else 0)
        trailer = struct.pack("<BBBBI", SPNEGO, INTEGRITY, pad, 0, 7)
        length = 16 + len(body) + 8 + (16 if value is None else len(value))
        auth = 16 if value is None else len(value)
        packet = struct.pack("<BBBB4sHHI", 5, 0, kind, flags, b"\x10\0\0\0", length, auth, call) + body + trailer
        self.socket.sendall(packet + (client.sign(packet) if value is None else value))

    def receive(self, expected):
        """A packet without the value of its trailer, and that."""
        packet = self.socket.recv(16, socket.MSG_WAITALL)
        length, value = struct.unpack_from("<HH", packet, 8)
        packet += self.socket.recv(length - 16, socket.MSG_WAITALL)
        assert packet[2] == expected, f"refused: {packet.hex()}"
        return packet[: length - value], packet[length - value :]


port, user, password = sys.argv[1:]
client = spnego.client(user, password, hostname="target", service="rpcss", protocol="negotiate")
rpc = Rpc(int(port))
bind = struct.pack("<HHIB3xHBx", 5840, 5840, 0, 1, 0, 1) + RESOLVER + NDR
rpc.send(BIND, bind, client.step())
_, answer = rpc.receive(BIND_ACK)
rpc.send(ALTER, bind, client.step(answer))
_, answer = rpc.receive(ALTER_ANSWER)
# With the signature over the list of mechanisms, which is checked here.
assert client.step(answer) is None and client.complete
for number in range(3):
    body = struct.pack("<IHH", 8, 0, SIMPLE_PING) + struct.pack("<Q", 4711) + bytes(8)
    rpc.send(REQUEST, body, None, call=number + 2, pad=8)
    packet, signature = rpc.receive(RESPONSE)
    client.verify(packet, signature)
    assert struct.unpack_from("<I", packet, 24)[0] == INVALID_SET
print("signed in and called three times, with", client.negotiated_protocol)
