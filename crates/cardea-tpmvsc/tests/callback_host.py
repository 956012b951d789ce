#!/usr/bin/python3
"""An administrator's machine that listens to status reports, with impacket's packets, structures and NTLM.

Arguments: user, password, and the number of the report that is refused (-1: none). The first line of the output has the
port; then there is a line of JSON for each call. What impacket cannot decode or verify ends this program.
"""

import json
import os
import socket
import struct
import sys
import threading
import traceback

from impacket import ntlm
from impacket.dcerpc.v5 import dcomrt
from impacket.dcerpc.v5.dcomrt import DCOMANSWER, DCOMCALL
from impacket.dcerpc.v5.dtypes import ULONG
from impacket.dcerpc.v5.rpcrt import (
    MSRPC_AUTH3, MSRPC_BIND, MSRPC_BINDACK, MSRPC_REQUEST, MSRPC_RESPONSE, SEC_TRAILER, CtxItem, MSRPCBind,
    MSRPCHeader, MSRPCRequestHeader, MSRPCRespHeader,
)
from impacket.nt_errors import STATUS_SUCCESS
from impacket.smbserver import computeNTLMv2
from impacket.uuid import bin_to_string, string_to_bin

NTLM, PRIVACY = 10, 6
RESOLVER = "99FCFEC4-5260-101B-BBCB-00AA0021347A"
CALLBACK = "1A1BB35F-ABB8-451C-A1AE-33D98F1BEF4A"
REM_UNKNOWN = "00000131-0000-0000-C000-000000000046"
# The numbers of the tests that hand out the reference.
OXID, IPID, IPID_REM_UNKNOWN = 0x1122334455667788, 1, 2
CHALLENGE = b"87654321"
E_ABORT = 0x80004004
FLAGS = (
    ntlm.NTLMSSP_NEGOTIATE_UNICODE | ntlm.NTLMSSP_NEGOTIATE_SIGN | ntlm.NTLMSSP_NEGOTIATE_SEAL
    | ntlm.NTLMSSP_NEGOTIATE_NTLM | ntlm.NTLMSSP_NEGOTIATE_ALWAYS_SIGN | ntlm.NTLMSSP_NEGOTIATE_EXTENDED_SESSIONSECURITY
    | ntlm.NTLMSSP_NEGOTIATE_TARGET_INFO | ntlm.NTLMSSP_NEGOTIATE_128 | ntlm.NTLMSSP_NEGOTIATE_KEY_EXCH
    | ntlm.NTLMSSP_REQUEST_TARGET | ntlm.NTLMSSP_TARGET_TYPE_SERVER
)


class Report(DCOMCALL):
    structure = (("Number", ULONG),)


class Result(DCOMANSWER):
    structure = (("ErrorCode", ULONG),)


def say(**what):
    print(json.dumps(what), flush=True)


def guid(number):
    """The number of a test as a GUID."""
    return string_to_bin(f"{number >> 96:08x}-0000-0000-0000-{number & 0xFFFFFFFFFFFF:012x}")


class Security:
    """The server's side of NTLM, and what protects the packets."""

    def __init__(self, negotiate):
        self.negotiate = ntlm.NTLMAuthNegotiate()
        self.negotiate.fromString(negotiate)
        assert self.negotiate["flags"] & FLAGS & ~ntlm.NTLMSSP_TARGET_TYPE_SERVER & ~ntlm.NTLMSSP_NEGOTIATE_TARGET_INFO
        information = ntlm.AV_PAIRS()
        for kind in (ntlm.NTLMSSP_AV_HOSTNAME, ntlm.NTLMSSP_AV_DOMAINNAME):
            information[kind] = "ADMIN".encode("utf-16le")
        information[ntlm.NTLMSSP_AV_TIME] = struct.pack("<Q", 133000000000000000)
        self.challenge = ntlm.NTLMAuthChallenge()
        self.challenge["flags"] = FLAGS
        self.challenge["challenge"] = CHALLENGE
        self.challenge["domain_name"] = b""
        self.challenge["domain_len"] = self.challenge["domain_max_len"] = 0
        self.challenge["domain_offset"] = self.challenge["TargetInfoFields_offset"] = 48
        self.challenge["TargetInfoFields"] = information.getData()
        self.challenge["TargetInfoFields_len"] = self.challenge["TargetInfoFields_max_len"] = len(information.getData())
        self.challenge["Version"] = b""
        self.user = None

    def authenticate(self, token):
        message = ntlm.NTLMAuthChallengeResponse()
        message.fromString(token)
        # Which impacket looks for where it would have put it itself.
        start = message["session_key_offset"]
        message["session_key"] = token[start : start + message["session_key_len"]]
        self.user = message["user_name"].decode("utf-16le")
        assert self.user == user, self.user
        hashes = ntlm.compute_lmhash(password), ntlm.compute_nthash(password)
        status, key = computeNTLMv2(user, *hashes, CHALLENGE, message, self.challenge, self.negotiate)
        assert status == STATUS_SUCCESS, "wrong proof"

        def keys(end):
            sealing = ntlm.SEALKEY(FLAGS, key, end)
            return ntlm.SIGNKEY(FLAGS, key, end), sealing, ntlm.ARC4.new(sealing).encrypt

        self.client, self.server, self.sequence = keys("Client"), keys("Server"), 0

    def open(self, packet, header, length):
        """The packet with its body in the clear; what it ends with is compared."""
        span, signature = packet[:-length], packet[-length:]
        plain = span[:header] + self.client[2](span[header:-8]) + span[-8:]
        expected = ntlm.SIGN(FLAGS, self.client[0], plain, self.sequence, self.client[2])
        assert expected.getData() == signature, "the signature of a report is wrong"
        return plain

    def seal(self, span, header):
        body = span[header:-8]
        sealed, signature = ntlm.SEAL(
            FLAGS, self.server[0], self.server[1], span, body, self.sequence, self.server[2]
        )
        self.sequence += 1
        return span[:header] + sealed + span[-8:] + signature.getData()


class Connection:
    def __init__(self, stream):
        self.stream, self.security, self.interface = stream, None, None

    def packets(self):
        while True:
            packet = self.stream.recv(16, socket.MSG_WAITALL)
            if len(packet) < 16:
                return
            length = struct.unpack_from("<H", packet, 8)[0]
            yield packet + self.stream.recv(length - 16, socket.MSG_WAITALL)

    def serve(self):
        for packet in self.packets():
            header = MSRPCHeader(packet)
            if header["type"] == MSRPC_BIND:
                self.bind(header)
            elif header["type"] == MSRPC_AUTH3:
                self.security.authenticate(header["auth_data"])
            else:
                assert header["type"] == MSRPC_REQUEST
                self.request(packet)

    def bind(self, header):
        bind = MSRPCBind(header["pduData"])
        item = CtxItem(bind["ctx_items"])
        self.interface = bin_to_string(item["AbstractSyntax"][:16])
        # Two fragment sizes, the group, the port, the result.
        port = b"135\0"
        body = struct.pack("<HHIH", 4280, 4280, 1, len(port)) + port
        body += bytes(-len(body) % 4) + struct.pack("<B3xHH", 1, 0, 0) + item["TransferSyntax"]
        answer = MSRPCHeader()
        answer["type"], answer["call_id"], answer["pduData"] = MSRPC_BINDACK, header["call_id"], body
        if header["auth_len"]:
            trailer = SEC_TRAILER(header["sec_trailer"])
            assert (trailer["auth_type"], trailer["auth_level"]) == (NTLM, PRIVACY)
            self.security = Security(header["auth_data"])
            answer["sec_trailer"] = header["sec_trailer"]
            answer["auth_data"] = self.security.challenge.getData()
        self.stream.sendall(answer.get_packet())

    def request(self, packet):
        request = MSRPCRequestHeader(packet)
        fixed = request.get_header_size()
        if self.security:
            assert request["auth_len"] == 16, "an unprotected report"
            packet = self.security.open(packet, fixed, 16)
            pad = packet[-6]
            stub = packet[fixed : -8 - pad]
        else:
            assert request["auth_len"] == 0
            stub = packet[fixed:]
        answer = self.call(request["op_num"], request["uuid"], stub)
        head = MSRPCRespHeader()
        head["type"], head["call_id"], head["alloc_hint"] = MSRPC_RESPONSE, request["call_id"], len(answer)
        head["ctx_id"] = request["ctx_id"]
        if not self.security:
            head["pduData"] = answer
            self.stream.sendall(head.get_packet())
            return
        pad = -len(answer) % 16
        head["pduData"] = answer + bytes(pad)
        trailer = SEC_TRAILER()
        trailer["auth_type"], trailer["auth_level"], trailer["auth_pad_len"] = NTLM, PRIVACY, pad
        trailer["auth_ctx_id"] = SEC_TRAILER(packet[-8:])["auth_ctx_id"]
        head["sec_trailer"], head["auth_data"] = trailer, bytes(16)
        self.stream.sendall(self.security.seal(head.get_packet()[:-16], 24))

    def call(self, opnum, object_id, stub):
        if self.interface == RESOLVER:
            call = decoded(dcomrt.ResolveOxid2, stub)
            assert opnum == 4 and call["pOxid"] == OXID
            return resolved()
        if self.interface == CALLBACK:
            assert object_id == guid(IPID) and opnum in (3, 4)
            call = decoded(Report, stub)
            refuses = opnum == 3 and call["Number"] == refused
            say(opnum=opnum, number=call["Number"], cid=call["ORPCthis"]["cid"].hex(), user=self.security.user)
            return result(E_ABORT if refuses else 0)
        assert self.interface == REM_UNKNOWN and opnum == 5 and object_id == guid(IPID_REM_UNKNOWN)
        call = decoded(dcomrt.RemRelease, stub)
        (reference,) = call["InterfaceRefs"]
        assert reference["ipid"] == guid(IPID)
        say(released=reference["cPublicRefs"], cid=call["ORPCthis"]["cid"].hex())
        return result(0)


def decoded(kind, stub):
    call = kind(stub)
    version = call.fields.get("ORPCthis")
    assert version is None or version["version"]["MajorVersion"] == 5
    return call


def result(number):
    answer = Result()
    answer["ORPCthat"]["flags"] = 0
    answer["ORPCthat"]["extensions"] = dcomrt.NULL
    answer["ErrorCode"] = number
    return answer.getData()


def resolved():
    """Where the callback is: here, and before that at another machine, which must not be called."""
    text = "".join(f"\x07{host}\0" for host in ("192.0.2.1[1]", f"127.0.0.1[{port}]")) + "\0\0"
    units = text.encode("utf-16le")
    count = len(units) // 2
    bindings = struct.pack("<IIHH", 0x20000, count, count, count - 1) + units
    bindings += bytes(-len(bindings) % 4)
    return bindings + guid(IPID_REM_UNKNOWN) + struct.pack("<IHHI", PRIVACY, 5, 7, 0)


def serve(stream):
    try:
        Connection(stream).serve()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    stream.close()


user, password, refused = sys.argv[1], sys.argv[2], int(sys.argv[3])
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
say(port=port)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
