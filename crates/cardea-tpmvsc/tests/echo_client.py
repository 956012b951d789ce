#!/usr/bin/python3
"""Calls of an interface that echoes: one line for each argument LEVEL:USER:PASSWORD:OPNUM:LENGTH[:HOW], in words.

HOW says what is done to the call on its way: damage (a bit of it changes), replay (it comes twice), vanish (the client
does not wait for the answer). With Kerberos, instead of the password stand the realm and the service's host.
"""

import hashlib
import sys

from impacket.dcerpc.v5.rpcrt import DCERPC_RawCall, DCERPCException
from impacket.uuid import uuidtup_to_bin

import impacket_rpc

ECHO = uuidtup_to_bin(("a0b0c0d0-0001-0002-0003-000000000001", "0.0"))
OTHER = uuidtup_to_bin(("a0b0c0d0-0001-0002-0003-000000000002", "0.0"))

port, mechanism, *calls = sys.argv[1:]
if mechanism == "spnego":
    impacket_rpc.use_spnego()
elif mechanism in ("kerberos-framed", "kerberos-bare"):
    impacket_rpc.use_raw_kerberos(mechanism == "kerberos-framed")


def connect(level, user, secret):
    if mechanism.startswith("kerberos"):
        return impacket_rpc.connect_with_ticket(port, level, user, *secret.split(" "))
    return impacket_rpc.connect(port, level, user, secret)


def call(rpc, opnum, length):
    stub = bytes(number % 251 for number in range(length))
    rpc.send(DCERPC_RawCall(opnum, stub))
    answer = rpc.recv()
    return "same" if answer == stub else "answer " + answer.decode("utf-8", "replace")


def tampered(rpc, opnum, length, how):
    """One call by a connection that is not to be trusted."""
    channel = rpc.get_rpc_transport()
    send = channel.send

    def tamper(data, **named):
        if how == "damage":
            data = data[:40] + bytes([data[40] ^ 1]) + data[41:]
        send(data, **named)
        if how == "replay":
            send(data, **named)

    channel.send = tamper
    rpc.send(DCERPC_RawCall(opnum, bytes(length)))
    if how == "vanish":
        channel.disconnect()
        return "gone"
    rpc.recv()
    return "answered twice" if rpc.recv() else "answered"


for line in calls:
    level, user, password, opnum, length, *how = line.split(":")
    try:
        rpc = connect(level, user, password)
        rpc.bind(ECHO)
        if how:
            print(tampered(rpc, int(opnum), int(length), *how))
            continue
        said = [call(rpc, int(opnum), int(length)) for _ in range(3)]
        # Another interface, for which impacket authenticates again, with a context of its own; and the first again.
        if level != "none":
            other = rpc.alter_ctx(OTHER)
            said.append(call(other, int(opnum), int(length)))
            said.append(call(rpc, int(opnum), int(length)))
        print(*sorted(set(said)), sep=", ")
    except DCERPCException as error:
        print("refused", error)
    except (ConnectionError, OSError) as error:
        print("closed", type(error).__name__)
