#!/usr/bin/python3
"""Asks an endpoint mapper with impacket: port, then interfaces UUID,VERSION. A line of an address for each, or why not."""

import sys

from impacket.dcerpc.v5 import epm, transport
from impacket.dcerpc.v5.rpcrt import DCERPCException
from impacket.uuid import uuidtup_to_bin

port, *interfaces = sys.argv[1:]
for interface in interfaces:
    rpc = transport.TCPTransport("127.0.0.1", dstport=int(port)).get_dce_rpc()
    rpc.connect()
    try:
        print(epm.hept_map("127.0.0.1", uuidtup_to_bin(tuple(interface.split(","))), protocol="ncacn_ip_tcp", dce=rpc))
    except DCERPCException as error:
        print("refused", error)
