"""impacket as a client of DCE/RPC, with NTLM by itself as it is, and with NTLM in SPNEGO, which it only knows for SMB.

In SPNEGO the third message goes in alter_context, as Windows sends it, and the answer must say that it is accepted.
Kerberos it knows in SPNEGO only, with the tickets in the file that KRB5CCNAME names.
"""

import struct

from impacket import ntlm
from impacket.dcerpc.v5 import rpcrt, transport
from impacket.krb5 import gssapi, kerberosv5
from impacket.spnego import SPNEGO_NegTokenInit, SPNEGO_NegTokenResp, TypesMech

NTLM = TypesMech["NTLMSSP - Microsoft NTLM Security Support Provider"]
KERBEROS = TypesMech["MS KRB5 - Microsoft Kerberos 5"]
LEVELS = {
    "none": rpcrt.RPC_C_AUTHN_LEVEL_NONE,
    "connect": rpcrt.RPC_C_AUTHN_LEVEL_CONNECT,
    "integrity": rpcrt.RPC_C_AUTHN_LEVEL_PKT_INTEGRITY,
    "privacy": rpcrt.RPC_C_AUTHN_LEVEL_PKT_PRIVACY,
}
SPNEGO, RAW_KERBEROS = 9, 16


class Wrapped:
    """A message of NTLM in a token of SPNEGO."""

    def __init__(self, message, token):
        self.message, self.token = message, token

    def __getitem__(self, name):
        return self.message[name]

    def getData(self):
        return self.token

    def __len__(self):
        return len(self.token)


def use_spnego():
    """From here on, what impacket takes for NTLM is NTLM in SPNEGO."""
    # Which it otherwise takes for Kerberos.
    rpcrt.RPC_C_AUTHN_WINNT, rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE = SPNEGO, None
    first, third = ntlm.getNTLMSSPType1, ntlm.getNTLMSSPType3

    def negotiate(*arguments, **named):
        message = first(*arguments, **named)
        token = SPNEGO_NegTokenInit()
        token["MechTypes"] = [NTLM, KERBEROS]
        token["MechToken"] = message.getData()
        return Wrapped(message, token.getData())

    def authenticate(offer, answer, *arguments, **named):
        answer = SPNEGO_NegTokenResp(answer)
        assert answer["NegState"] == b"\x01" and answer["SupportedMech"] == NTLM
        message, key = third(offer.message, answer["ResponseToken"], *arguments, **named)
        token = SPNEGO_NegTokenResp()
        token["ResponseToken"] = message.getData()
        return Wrapped(message, token.getData()), key

    ntlm.getNTLMSSPType1, ntlm.getNTLMSSPType3 = negotiate, authenticate


def get_mic(self, key, data, sequence, direction="init"):
    """As impacket has it, but for the filling, a text that it cannot add to bytes."""
    token = self.MIC()
    token["Flags"] = 4
    token["SND_SEQ"] = struct.pack(">Q", sequence)
    covered = data + token.getData()[:16]
    token["SGN_CKSUM"] = self.checkSumProfile().checksum(key, gssapi.KG_USAGE_INITIATOR_SIGN, covered)
    return token.getData()


gssapi.GSSAPI_AES.GSS_GetMIC = get_mic


def use_raw_kerberos(framed):
    """From here on, Kerberos is not in SPNEGO, and its first message is in the frame of GSS-API or not."""
    rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE = RAW_KERBEROS
    first, third = kerberosv5.getKerberosType1, kerberosv5.getKerberosType3

    def request(*arguments, **named):
        cipher, key, token = first(*arguments, **named)
        message = SPNEGO_NegTokenInit(token)["MechToken"]
        # After the mark of a first message.
        return cipher, key, message if framed else message[message.index(b"\x01\x00\x6e") + 2 :]

    def answer(cipher, key, message):
        token = SPNEGO_NegTokenResp()
        token["ResponseToken"] = message
        cipher, key, token = third(cipher, key, token.getData())
        return cipher, key, SPNEGO_NegTokenResp(token)["ResponseToken"]

    kerberosv5.getKerberosType1, kerberosv5.getKerberosType3 = request, answer


class Transport(transport.TCPTransport):
    """Sends the third message of SPNEGO in alter_context."""

    def send(self, data, **named):
        if rpcrt.RPC_C_AUTHN_WINNT != SPNEGO:
            return super().send(data, **named)
        packet = rpcrt.MSRPCHeader(data)
        if packet["type"] in (rpcrt.MSRPC_BIND, rpcrt.MSRPC_ALTERCTX):
            self.offer = rpcrt.MSRPCHeader(data)["pduData"]
        if packet["type"] != rpcrt.MSRPC_AUTH3:
            return super().send(data, **named)
        third = rpcrt.MSRPCHeader()
        third["type"] = rpcrt.MSRPC_ALTERCTX
        third["call_id"] = packet["call_id"]
        third["pduData"] = self.offer
        third["sec_trailer"] = packet["sec_trailer"]
        third["auth_data"] = packet["auth_data"]
        super().send(third.get_packet())
        answer = rpcrt.MSRPCHeader(self.recv())
        if answer["type"] == rpcrt.MSRPC_FAULT:
            raise rpcrt.DCERPCException("refused in the third message")
        assert answer["type"] == rpcrt.MSRPC_ALTERCTX_R
        done = SPNEGO_NegTokenResp(rpcrt.MSRPCBindAck(answer.getData())["auth_data"])
        assert done["NegState"] == b"\x00", "not accepted"


def connect(port, level, user, password, host="127.0.0.1"):
    """A connection that is not bound to anything yet."""
    channel = Transport(host, dstport=int(port))
    channel.set_credentials(user, password, "Firm")
    rpc = rpcrt.DCERPC_v5(channel)
    rpc.set_auth_type(rpcrt.RPC_C_AUTHN_WINNT)
    rpc.set_auth_level(LEVELS[level])
    rpc.connect()
    return rpc


def connect_with_ticket(port, level, user, realm, service, host="127.0.0.1"):
    """The same, for a principal whose ticket for the service is at hand."""
    channel = transport.TCPTransport(host, dstport=int(port))
    channel.setRemoteName(service)
    channel.set_credentials(user, "", realm)
    rpc = rpcrt.DCERPC_v5(channel)
    rpc.set_auth_type(rpcrt.RPC_C_AUTHN_GSS_NEGOTIATE)
    rpc.set_auth_level(LEVELS[level])
    rpc.connect()
    return rpc
