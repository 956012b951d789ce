#!/usr/bin/python3
"""MS-TPMVSC with impacket's DCOM: activation, then one call for each line of JSON, and a line of JSON for each result.

Arguments: port, mechanism (ntlm, spnego, kerberos), level, user, password, interface (1 to 3), class (remote, local,
other). With Kerberos, instead of the password stand the realm and the service's host.
"""

import json
import sys

from impacket.dcerpc.v5 import dcomrt
from impacket.dcerpc.v5.dcomrt import BYTE_ARRAY, DCOMANSWER, DCOMCALL, NULL, PMInterfacePointer
from impacket.dcerpc.v5.dtypes import LPWSTR, UCHAR, ULONG, WSTR
from impacket.dcerpc.v5.ndr import NDRPOINTER
from impacket.dcerpc.v5.rpcrt import DCERPCException
from impacket.uuid import string_to_bin, uuidtup_to_bin

import impacket_rpc

CLASSES = {
    "remote": "152EA2A8-70DC-4C59-8B2A-32AA3CA0DCAC",
    "local": "16A18E86-7F6E-4C20-AD89-4FFC0DB7A96A",
    "other": "16A18E86-7F6E-4C20-AD89-4FFC0DB7A96B",
}
INTERFACES = {
    1: "112B1DFF-D9DC-41F7-869F-D67FEE7CB591",
    2: "FDF8A2B9-02DE-47F4-BC26-AA85AB5E5267",
    3: "3C745A97-F375-4150-BE17-5950F694C699",
    4: "3C745A97-F375-4150-BE17-5950F694C69A",
}


class DCERPCSessionError(DCERPCException):
    """A result of a call."""

    def __init__(self, error_string=None, error_code=None, packet=None):
        DCERPCException.__init__(self, error_string, error_code, packet)


class PBYTE_ARRAY(NDRPOINTER):
    referent = (("Data", BYTE_ARRAY),)


CREATE = (
    ("pszFriendlyName", WSTR),
    ("bAdminAlgId", UCHAR),
    ("pbAdminKey", BYTE_ARRAY),
    ("cbAdminKey", ULONG),
    ("pbAdminKcv", PBYTE_ARRAY),
    ("cbAdminKcv", ULONG),
    ("pbPuk", PBYTE_ARRAY),
    ("cbPuk", ULONG),
    ("pbPin", BYTE_ARRAY),
    ("cbPin", ULONG),
)
POLICY = (("pbPinPolicy", PBYTE_ARRAY), ("cbPinPolicy", ULONG))
END = (("fGenerate", ULONG), ("pStatusCallback", PMInterfacePointer))
RESULT = (("ppszInstanceId", LPWSTR), ("pfNeedReboot", ULONG), ("ErrorCode", ULONG))


class Create1(DCOMCALL):
    opnum = 3
    structure = CREATE + END


class Create1Response(DCOMANSWER):
    structure = RESULT


class Create2(DCOMCALL):
    opnum = 5
    structure = CREATE + POLICY + END


class Create2Response(DCOMANSWER):
    structure = RESULT


class Create3(DCOMCALL):
    opnum = 6
    structure = CREATE + POLICY + (("attestationType", ULONG),) + END


class Create3Response(DCOMANSWER):
    structure = (("ppszInstanceId", LPWSTR), ("ErrorCode", ULONG))


class Destroy(DCOMCALL):
    opnum = 4
    structure = (("pszInstanceId", WSTR), ("pStatusCallback", PMInterfacePointer))


class DestroyResponse(DCOMANSWER):
    structure = (("pfNeedReboot", ULONG), ("ErrorCode", ULONG))


def put(request, field, count, data):
    request[field] = NULL if data is None else list(bytes([byte]) for byte in data)
    request[count] = 0 if data is None else len(data)


def from_hex(text):
    return None if text is None else bytes.fromhex(text)


def callback(request, order):
    data = from_hex(order.get("callback"))
    if data is None:
        request["pStatusCallback"] = NULL
    else:
        request["pStatusCallback"]["ulCntData"] = len(data)
        request["pStatusCallback"]["abData"] = list(bytes([byte]) for byte in data)


def make(order):
    if order["call"] == "destroy":
        request = Destroy()
        request["pszInstanceId"] = order["instance"] + "\0"
        callback(request, order)
        return request
    request = {1: Create1, 2: Create2, 3: Create3}[order["method"]]()
    request["pszFriendlyName"] = order.get("name", "VSC") + "\0"
    request["bAdminAlgId"] = order.get("algorithm", 0x82)
    put(request, "pbAdminKey", "cbAdminKey", from_hex(order.get("key", "0102030405060708" * 3)))
    put(request, "pbAdminKcv", "cbAdminKcv", from_hex(order.get("kcv")))
    put(request, "pbPuk", "cbPuk", from_hex(order.get("puk")))
    put(request, "pbPin", "cbPin", order.get("pin", "12345678").encode())
    if order["method"] > 1:
        put(request, "pbPinPolicy", "cbPinPolicy", from_hex(order.get("policy")))
    if order["method"] == 3:
        request["attestationType"] = order.get("attestation", 0)
    request["fGenerate"] = order.get("generate", 1)
    callback(request, order)
    return request


def say(**what):
    print(json.dumps(what), flush=True)


def failure(error):
    code = error.get_error_code() if hasattr(error, "get_error_code") else None
    return {"result": code} if code is not None else {"fault": str(error)}


port, mechanism, level, user, password, interface, which = sys.argv[1:]
if mechanism == "spnego":
    impacket_rpc.use_spnego()
domain, service = "Firm", None
if mechanism == "kerberos":
    (domain, service), password = password.split(" "), ""


def channel(binding):
    host = binding.partition(":")[2]
    host, _, given = host.partition("[")
    transport = impacket_rpc.Transport(host, dstport=int(given[:-1] if given else port))
    transport.set_stringbinding(binding)
    if service:
        transport.setRemoteName(service)
    return transport


dcomrt.transport.DCERPCTransportFactory = channel
iid = uuidtup_to_bin((INTERFACES[int(interface)], "0.0"))
try:
    level = impacket_rpc.LEVELS[level]
    dcom = dcomrt.DCOMConnection("127.0.0.1", user, password, domain, authLevel=level, doKerberos=service is not None)
    pointer = dcom.CoCreateInstanceEx(string_to_bin(CLASSES[which]), iid)
except DCERPCException as error:
    say(**failure(error))
    sys.exit()
say(activated=True)
for line in sys.stdin:
    order = json.loads(line)
    try:
        if order["call"] == "query":
            other = uuidtup_to_bin((INTERFACES[order["interface"]], "0.0"))
            pointer = pointer.RemQueryInterface(1, [other[:16]])
            iid = other
            say(result=0)
            continue
        if order["call"] == "resolver":
            resolver = dcomrt.IObjectExporter(dcom.get_dce_rpc())
            addresses = [binding["aNetworkAddr"] for binding in resolver.ServerAlive2()]
            exporter = [binding["aNetworkAddr"] for binding in resolver.ResolveOxid2(pointer.get_oxid(), [7])]
            answer = resolver.ComplexPing(0, 1, [pointer.get_oid()], [])
            resolver.SimplePing(answer["pSetId"])
            say(result=0, addresses=addresses + exporter)
            continue
        if order["call"] == "ping":
            resolver = dcomrt.IObjectExporter(dcom.get_dce_rpc())
            resolver.SimplePing(order["set"])
            say(result=0)
            continue
        if order["call"] == "release":
            pointer.RemAddRef()
            for _ in range(3):
                pointer.RemRelease()
            say(result=0)
            continue
        ipid = pointer.get_iPid() if "ipid" not in order else from_hex(order["ipid"])
        answer = pointer.request(make(order), iid, ipid)
        fields = {"result": answer["ErrorCode"]}
        if order["call"] == "create":
            fields["instance"] = answer["ppszInstanceId"].rstrip("\0")
        if order["call"] == "destroy" or order["method"] < 3:
            fields["reboot"] = answer["pfNeedReboot"]
        say(cid=pointer.get_cinstance().get_ORPCthis()["cid"].hex(), **fields)
    except DCERPCException as error:
        say(**failure(error))
