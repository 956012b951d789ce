#!/usr/bin/python3
"""MIT's GSS-API as a client of DCE/RPC: PORT HOST, then MECHANISM:LEVEL:SIGNING:OPNUM:LENGTH for each connection.

MECHANISM is raw or spnego, LEVEL integrity or privacy, SIGNING headers or body: what the signatures are over. The tickets
are in the file that KRB5CCNAME names. One line for each connection.
"""

import ctypes
import socket
import struct
import sys
import uuid
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p

gss = ctypes.CDLL("libgssapi_krb5.so.2")
ECHO = uuid.UUID("a0b0c0d0-0001-0002-0003-000000000001").bytes_le + struct.pack("<I", 0)
NDR = uuid.UUID("8a885d04-1ceb-11c9-9fe8-08002b104860").bytes_le + struct.pack("<I", 2)
BIND, ALTER, AUTH3, REQUEST, RESPONSE = 11, 14, 16, 0, 2
HEADER_SIGNING = 4
# Mutual, replay and sequence detection, confidentiality, integrity, the style of DCE.
FLAGS = 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x1000
DATA, HEADER, SIGN_ONLY = 1, 2, 11


class Oid(ctypes.Structure):
    _fields_ = [("length", c_uint32), ("elements", c_char_p)]


class Buffer(ctypes.Structure):
    _fields_ = [("length", c_size_t), ("value", c_void_p)]

    def get(self):
        return ctypes.string_at(self.value, self.length) if self.length else b""


class Iov(ctypes.Structure):
    _fields_ = [("type", c_uint32), ("buffer", Buffer)]


HOSTBASED = Oid(10, bytes.fromhex("2a864886f71201020104"))
MECHANISMS = {
    "raw": (Oid(9, bytes.fromhex("2a864886f712010202")), 16),
    "spnego": (Oid(6, bytes.fromhex("2b0601050502")), 9),
}


def call_gss(name, *arguments):
    minor = c_uint32()
    major = getattr(gss, name)(byref(minor), *arguments)
    assert major & 0xFFFF0000 == 0, f"{name}: {major:08x} {minor.value}"
    return major


def buffer(data):
    kept = ctypes.create_string_buffer(bytes(data), len(data))
    filled = Buffer(len(data), ctypes.cast(kept, c_void_p))
    filled.kept = kept
    return filled


class Context:
    def __init__(self, mechanism, host):
        self.mechanism = mechanism
        self.context, self.name = c_void_p(), c_void_p()
        call_gss("gss_import_name", byref(buffer(b"host@" + host.encode())), byref(HOSTBASED), byref(self.name))

    def step(self, token=None):
        """The next message, and whether this was the last."""
        answer = Buffer()
        given = byref(buffer(token)) if token is not None else None
        major = call_gss(
            "gss_init_sec_context", None, byref(self.context), self.name, byref(self.mechanism), c_uint32(FLAGS),
            c_uint32(0), None, given, None, byref(answer), None, None,
        )
        return answer.get(), major == 0

    def iov(self, name, parts, *between):
        buffers = [buffer(data) for _, data in parts]
        array = (Iov * len(parts))(*(Iov(kind, one) for (kind, _), one in zip(parts, buffers)))
        call_gss(name, self.context, *between, array, c_int(len(parts)))
        return [one.buffer.get() if name != "gss_wrap_iov_length" else one.buffer.length for one in array]

    def sealed_length(self, parts):
        state = c_int()
        return self.iov("gss_wrap_iov_length", parts, c_int(1), c_uint32(0), byref(state))[0]

    def seal(self, parts):
        state = c_int()
        sealed = self.iov("gss_wrap_iov", parts, c_int(1), c_uint32(0), byref(state))
        assert state.value == 1
        return sealed

    def unseal(self, parts):
        state, qop = c_int(), c_uint32()
        plain = self.iov("gss_unwrap_iov", parts, byref(state), byref(qop))
        assert state.value == 1
        return plain

    def sign(self, data):
        signature = Buffer()
        call_gss("gss_get_mic", self.context, c_uint32(0), byref(buffer(data)), byref(signature))
        return signature.get()

    def verify(self, data, signature):
        qop = c_uint32()
        call_gss("gss_verify_mic", self.context, byref(buffer(data)), byref(buffer(signature)), byref(qop))


class Rpc:
    def __init__(self, port, host, mechanism, level, signing):
        self.oid, self.kind = MECHANISMS[mechanism]
        self.level = {"integrity": 5, "privacy": 6}[level]
        self.covers_headers = signing == "headers"
        self.socket = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
        self.context = Context(self.oid, host)
        token, _ = self.context.step()
        flags = 3 | (HEADER_SIGNING if self.covers_headers else 0)
        bind = struct.pack("<HHIB3xHBx", 5840, 5840, 0, 1, 0, 1) + ECHO + NDR
        self.send(self.packet(BIND, bind, token, flags))
        answer, value = self.receive()
        assert answer[2] == 12, f"refused {answer[2]}"
        assert answer[3] & HEADER_SIGNING == flags & HEADER_SIGNING
        token, is_done = self.context.step(value)
        if mechanism == "raw":
            assert is_done
            self.send(self.packet(AUTH3, bytes(4), token))
            return
        while token:
            self.send(self.packet(ALTER, bind, token, flags))
            answer, value = self.receive()
            assert answer[2] == 15, f"refused {answer[2]}"
            token = b""
            if not is_done:
                token, is_done = self.context.step(value)
        assert is_done

    def packet(self, kind, body, value, flags=3, pad=0):
        trailer = struct.pack("<BBBBI", self.kind, self.level, pad, 0, 77)
        length = 16 + len(body) + len(trailer) + len(value)
        return struct.pack("<BBBB4sHHI", 5, 0, kind, flags, b"\x10\0\0\0", length, len(value), 1) + body + trailer + value

    def send(self, packet):
        self.socket.sendall(packet)

    def receive(self):
        """A packet without the value of its trailer, and that."""
        packet = self.socket.recv(16, socket.MSG_WAITALL)
        length, value = struct.unpack_from("<HH", packet, 8)
        packet += self.socket.recv(length - 16, socket.MSG_WAITALL)
        return packet[: length - value], packet[length - value :]

    def parts(self, header, body, trailer, value=b""):
        if not self.covers_headers:
            return [(HEADER, value), (DATA, body)]
        return [(HEADER, value), (SIGN_ONLY, header), (DATA, body), (SIGN_ONLY, trailer)]

    def call(self, opnum, stub):
        pad = -len(stub) % 16
        fixed = struct.pack("<IHH", len(stub), 0, opnum)
        is_sealed = self.level == 6
        length = self.context.sealed_length(self.parts(bytes(24), stub + bytes(pad), bytes(8))) if is_sealed else 28
        packet = self.packet(REQUEST, fixed + stub + bytes(pad), bytes(length), pad=pad)[:-length]
        header, body, trailer = packet[:24], packet[24:-8], packet[-8:]
        if is_sealed:
            sealed = self.context.seal(self.parts(header, body, trailer, bytes(length)))
            value, body = sealed[0], sealed[2 if self.covers_headers else 1]
        else:
            value = self.context.sign(packet if self.covers_headers else body)
        self.send(header + body + trailer + value)
        answer, value = self.receive()
        if answer[2] != RESPONSE:
            return f"fault {struct.unpack_from('<I', answer, 24)[0]:08x}"
        header, body, trailer = answer[:24], answer[24:-8], answer[-8:]
        if is_sealed:
            assert len(value) == length
            body = self.context.unseal(self.parts(header, body, trailer, value))[2 if self.covers_headers else 1]
        else:
            self.context.verify(answer if self.covers_headers else body, value)
        body = body[: len(body) - trailer[2]]
        return "same" if body == stub else "answer " + body.decode("utf-8", "replace")


port, host, *connections = sys.argv[1:]
for line in connections:
    mechanism, level, signing, opnum, length = line.split(":")
    try:
        rpc = Rpc(port, host, mechanism, level, signing)
        stub = bytes(number % 251 for number in range(int(length)))
        print(*sorted({rpc.call(int(opnum), stub) for _ in range(3)}), sep=", ")
    except AssertionError as error:
        print("failed", error)
