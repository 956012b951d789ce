#!/usr/bin/python3
"""A second reader and writer of DCE/RPC, DCOM and MS-TPMVSC: impacket's, and no code of Cardea.

Reads messages, one a line: the kind and the bytes in hexadecimal. Writes a line for each: what the message says, a tab,
and the same message as impacket writes it, in hexadecimal.
"""

import sys

from impacket.dcerpc.v5 import dcomrt, rpcrt
from impacket.dcerpc.v5.dtypes import GUID, HRESULT, LONG, NULL, UCHAR, ULONG, USHORT, WSTR
from impacket.dcerpc.v5.ndr import NDRPOINTER, NDRUniConformantArray


def joined(*parts):
    return " ".join(str(part) for part in parts)


def hexed(data):
    return data.hex() or "-"


def octets(array):
    return b"".join(array)


# Packets.


def trailer_of(packet):
    if packet["auth_len"] == 0:
        return None
    trailer = rpcrt.SEC_TRAILER(packet["sec_trailer"])
    return trailer, packet["auth_data"]


def said_of(trailer):
    if trailer is None:
        return "none"
    fields, value = trailer
    numbers = [fields[name] for name in ("auth_type", "auth_level", "auth_pad_len", "auth_ctx_id")]
    return joined(*numbers, hexed(value))


def with_trailer(packet, trailer):
    """Attaches a trailer; the bytes of the padding are others."""
    if trailer is not None:
        fields, value = trailer
        packet["pad"] = b"\xAA" * fields["auth_pad_len"]
        packet["sec_trailer"] = fields.getData()
        packet["auth_data"] = value
    return packet.get_packet()


def without_padding(packet):
    trailer = trailer_of(packet)
    body = packet["pduData"]
    if trailer is not None and trailer[0]["auth_pad_len"]:
        body = body[: -trailer[0]["auth_pad_len"]]
    return body, trailer


def same_header(kind, packet):
    made = kind()
    for name in ("type", "flags", "call_id"):
        made[name] = packet[name]
    return made


def bind(data):
    packet = rpcrt.MSRPCHeader(data)
    body, trailer = without_padding(packet)
    read = rpcrt.MSRPCBind(body)
    items, again = read["ctx_items"], rpcrt.MSRPCBind()
    contexts = []
    for _ in range(read["ctx_num"]):
        item = rpcrt.CtxItem(items)
        items = items[len(item):]
        again.addCtxItem(item)
        contexts.append(f"{item['ContextID']}/{hexed(item['AbstractSyntax'])}/{hexed(item['TransferSyntax'])}")
    for name in ("max_tfrag", "max_rfrag", "assoc_group"):
        again[name] = read[name]
    made = same_header(rpcrt.MSRPCHeader, packet)
    made["pduData"] = again.getData()
    said = joined(packet["call_id"], packet["flags"], read["max_tfrag"], read["max_rfrag"], read["assoc_group"],
                  *contexts, said_of(trailer))
    return said, with_trailer(made, trailer)


def bind_ack(data):
    packet = rpcrt.MSRPCBindAck(data)
    results = [f"{item['Result']}/{item['Reason']}/{hexed(item['TransferSyntax'])}" for item in packet.getCtxItems()]
    address = packet["SecondaryAddr"]
    said = joined(packet["call_id"], packet["flags"], packet["max_tfrag"], packet["max_rfrag"], packet["assoc_group"],
                  address.decode() if isinstance(address, bytes) else address, *results)
    again = same_header(rpcrt.MSRPCBindAck, packet)
    for name in ("max_tfrag", "max_rfrag", "assoc_group", "SecondaryAddr", "ctx_num", "ctx_items"):
        again[name] = packet[name]
    again["SecondaryAddrLen"] = packet["SecondaryAddrLen"]
    again["Pad"] = b"A" * len(packet["Pad"])
    again["frag_len"] = packet["frag_len"]
    return said, again.getData()


def request(data):
    packet = rpcrt.MSRPCRequestHeader(data)
    stub, trailer = without_padding(packet)
    again = same_header(rpcrt.MSRPCRequestHeader, packet)
    for name in ("alloc_hint", "ctx_id", "op_num", "uuid"):
        again[name] = packet[name]
    again["pduData"] = stub
    said = joined(packet["call_id"], packet["flags"], packet["alloc_hint"], packet["ctx_id"], packet["op_num"],
                  hexed(packet["uuid"]), hexed(stub), said_of(trailer))
    return said, with_trailer(again, trailer)


def response(data):
    packet = rpcrt.MSRPCRespHeader(data)
    stub, trailer = without_padding(packet)
    again = same_header(rpcrt.MSRPCRespHeader, packet)
    for name in ("alloc_hint", "ctx_id", "cancel_count"):
        again[name] = packet[name]
    again["pduData"] = stub
    said = joined(packet["call_id"], packet["flags"], packet["alloc_hint"], packet["ctx_id"], packet["cancel_count"],
                  hexed(stub), said_of(trailer))
    return said, with_trailer(again, trailer)


def fault(data):
    packet = rpcrt.MSRPCRespHeader(data)
    again = same_header(rpcrt.MSRPCRespHeader, packet)
    again["ctx_id"] = packet["ctx_id"]
    # Only the status: others leave out what is reserved behind it.
    again["pduData"] = packet["pduData"][:4]
    status = int.from_bytes(packet["pduData"][:4], "little")
    return joined(packet["call_id"], packet["flags"], packet["ctx_id"], status), again.get_packet()


# References.


def std_of(std):
    return joined(*[std[name] for name in ("flags", "cPublicRefs", "oxid", "oid")], hexed(std["ipid"]))


def addresses_of(units, offset):
    """The addresses and mechanisms of a DUALSTRINGARRAY without its counts, as impacket's own clients read them."""
    said = []
    strings, security = units[: offset * 2], units[offset * 2:]
    while strings[:2] != b"\x00\x00":
        binding = dcomrt.STRINGBINDING(strings)
        strings = strings[len(binding):]
        said.append(f"{binding['wTowerId']}/{hexed(binding['aNetworkAddr'][:-1].encode('utf-16le'))}")
    while len(security) >= 2 and security[:2] != b"\x00\x00":
        binding = dcomrt.SECURITYBINDING(security)
        security = security[len(binding):]
        said.append(f"{binding['wAuthnSvc']}/{hexed(binding['aPrincName'][:-1].encode('utf-16le'))}")
    return joined(len(said), *said)


def packed_addresses(data):
    units, offset = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
    return addresses_of(data[4: 4 + units * 2], offset)


def bindings_of(array):
    units = b"".join(unit.to_bytes(2, "little") for unit in array["aStringArray"])
    return addresses_of(units, array["wSecurityOffset"])


def objref(data):
    kind = dcomrt.OBJREF(data)["flags"]
    if kind == dcomrt.FLAGS_OBJREF_CUSTOM:
        read = dcomrt.OBJREF_CUSTOM(data)
        said = joined("custom", hexed(read["iid"]), hexed(read["clsid"]), hexed(read["pObjectData"]))
    elif kind == dcomrt.FLAGS_OBJREF_HANDLER:
        read = dcomrt.OBJREF_HANDLER(data)
        said = joined("handler", hexed(read["iid"]), std_of(read["std"]), hexed(read["clsid"]),
                      packed_addresses(read["saResAddr"]))
    else:
        read = dcomrt.OBJREF_STANDARD(data)
        said = joined("standard", hexed(read["iid"]), std_of(read["std"]), packed_addresses(read["saResAddr"]))
    return said, read.getData()


# Activation.


def properties(pointer):
    custom = dcomrt.OBJREF_CUSTOM(pointer)
    blob = dcomrt.ACTIVATION_BLOB(custom["pObjectData"])
    found, rest = {}, blob["Property"]
    header = blob["CustomHeader"]
    for clsid, size in zip(header["pclsid"], header["pSizes"]):
        found[clsid["Data"]] = rest[: size["Data"]]
        rest = rest[size["Data"]:]
    return custom, blob, found


def framed(kind, data):
    read = kind()
    size = read.fromString(data)
    read.fromStringReferents(data[size:])
    return read


def pointer_to(iid, clsid, context, parts):
    """Properties as impacket's client writes them: sizes count the padding, lengths in frames do not."""
    blob = dcomrt.ACTIVATION_BLOB()
    blob["CustomHeader"]["destCtx"] = context
    blob["CustomHeader"]["pdwReserved"] = NULL
    written = b""
    for part, value in parts:
        name = dcomrt.CLSID()
        name["Data"] = part
        blob["CustomHeader"]["pclsid"].append(name)
        data = value.getData() + value.getDataReferents()
        data += b"\xFA" * (-len(data) % 8)
        size = ULONG()
        size["Data"] = len(data)
        blob["CustomHeader"]["pSizes"].append(size)
        written += data
    blob["Property"] = written
    data = blob.getData()
    custom = dcomrt.OBJREF_CUSTOM()
    custom["iid"] = iid
    custom["clsid"] = clsid
    custom["cbExtension"] = 0
    custom["ObjectReferenceSize"] = len(data) + 8
    custom["pObjectData"] = data
    return custom.getData()


def activation(data):
    call = dcomrt.RemoteCreateInstance(data)
    custom, blob, found = properties(octets(call["pActProperties"]["abData"]))
    instantiation = framed(dcomrt.InstantiationInfoData, found[dcomrt.CLSID_InstantiationInfo])
    request = framed(dcomrt.ScmRequestInfoData, found[dcomrt.CLSID_ScmRequestInfo])
    location = framed(dcomrt.LocationInfoData, found[dcomrt.CLSID_ServerLocationInfo])
    context = framed(dcomrt.ActivationContextInfoData, found[dcomrt.CLSID_ActivationContextInfo])
    size = len(found[dcomrt.CLSID_InstantiationInfo])
    if instantiation["thisSize"] != size:
        raise ValueError(f"a size of {instantiation['thisSize']} instead of {size}")
    machine = location.fields["machineName"]["Data"] if location.fields["machineName"]["ReferentID"] else ""
    said = joined(
        blob["CustomHeader"]["destCtx"], hexed(instantiation["classId"]), instantiation["classCtx"],
        instantiation["actvflags"], len(instantiation["pIID"]), *[hexed(iid["Data"]) for iid in instantiation["pIID"]],
        instantiation["clientCOMVersion"]["MinorVersion"], request["remoteRequest"]["ClientImpLevel"],
        *request["remoteRequest"]["pRequestedProtseqs"], hexed(machine.encode("utf-16le")),
        location["processId"], location["apartmentId"], location["contextId"])
    parts = [(dcomrt.CLSID_InstantiationInfo, instantiation), (dcomrt.CLSID_ActivationContextInfo, context),
             (dcomrt.CLSID_ServerLocationInfo, location), (dcomrt.CLSID_ScmRequestInfo, request)]
    return said, pointer_to(custom["iid"], custom["clsid"], blob["CustomHeader"]["destCtx"], parts)


def answer(data):
    call = dcomrt.RemoteCreateInstanceResponse(data)
    custom, blob, found = properties(octets(call["ppActProperties"]["abData"]))
    # By position, as its clients do.
    (_, first), (_, second) = found.items()
    out = framed(dcomrt.PropsOutInfo, first)
    reply = framed(dcomrt.ScmReplyInfoData, second)
    scm = reply["remoteReply"]
    interfaces = [
        f"{hexed(iid['Data'])}/{result['Data'] & 0xFFFFFFFF}/{hexed(octets(pointer['abData']))}"
        for iid, result, pointer in zip(out["piid"], out["phresults"], out["ppIntfData"])
    ]
    said = joined(call["ErrorCode"], blob["CustomHeader"]["destCtx"], scm["Oxid"], hexed(scm["ipidRemUnknown"]),
                  scm["authnHint"], bindings_of(scm["pdsaOxidBindings"]), *interfaces)
    parts = [(dcomrt.CLSID_PropsOutInfo, out), (dcomrt.CLSID_ScmReplyInfo, reply)]
    return said, pointer_to(custom["iid"], custom["clsid"], blob["CustomHeader"]["destCtx"], parts)


# Reference counts. What impacket has reads one result only.


class REMQIRESULTS(NDRUniConformantArray):
    item = dcomrt.REMQIRESULT


class PREMQIRESULTS(NDRPOINTER):
    referent = (("Data", REMQIRESULTS),)


class RemQueryInterfaceResponse(dcomrt.DCOMANSWER):
    structure = (("ppQIResults", PREMQIRESULTS), ("ErrorCode", ULONG))


def query_results(data):
    read = RemQueryInterfaceResponse(data)
    results = [joined(one["hResult"] & 0xFFFFFFFF, std_of(one["std"])) for one in read["ppQIResults"]]
    return joined(read["ErrorCode"], *results), read.getData()


# Cards, from the IDL of MS-TPMVSC.


class BYTES(NDRUniConformantArray):
    item = "c"


class PBYTES(NDRPOINTER):
    referent = (("Data", BYTES),)


BEFORE = (
    ("pszFriendlyName", WSTR),
    ("bAdminAlgId", UCHAR),
    ("pbAdminKey", BYTES),
    ("cbAdminKey", ULONG),
    ("pbAdminKcv", PBYTES),
    ("cbAdminKcv", ULONG),
    ("pbPuk", PBYTES),
    ("cbPuk", ULONG),
    ("pbPin", BYTES),
    ("cbPin", ULONG),
)
POLICY = (("pbPinPolicy", PBYTES), ("cbPinPolicy", ULONG))
ATTESTATION = (("attestationType", ULONG),)
AFTER = (("fGenerate", LONG), ("pStatusCallback", dcomrt.PMInterfacePointer))


class Create(dcomrt.DCOMCALL):
    opnum = 3
    structure = BEFORE + AFTER


class CreateWithPolicy(dcomrt.DCOMCALL):
    opnum = 5
    structure = BEFORE + POLICY + AFTER


class CreateWithAttestation(dcomrt.DCOMCALL):
    opnum = 6
    structure = BEFORE + POLICY + ATTESTATION + AFTER


def create(kind):
    def read_and_write(data):
        read = kind(data)

        def optional(name):
            if name not in read.fields:
                return "null"
            pointer = read.fields[name]
            return hexed(octets(pointer["Data"])) if pointer["ReferentID"] else "null"

        callback = read.fields["pStatusCallback"]
        said = joined(
            hexed(read["ORPCthis"]["cid"]), hexed(read["pszFriendlyName"][:-1].encode("utf-16le")),
            read["bAdminAlgId"], hexed(octets(read["pbAdminKey"])), optional("pbAdminKcv"), optional("pbPuk"),
            hexed(octets(read["pbPin"])), optional("pbPinPolicy"),
            read["attestationType"] if "attestationType" in read.fields else 0, read["fGenerate"],
            hexed(octets(callback["abData"])) if callback["ReferentID"] else "null")
        return said, read.getData()

    return read_and_write


KINDS = {
    "bind": bind,
    "bind_ack": bind_ack,
    "request": request,
    "response": response,
    "fault": fault,
    "objref": objref,
    "activation": activation,
    "answer": answer,
    "query_results": query_results,
    "create3": create(Create),
    "create5": create(CreateWithPolicy),
    "create6": create(CreateWithAttestation),
}


def main():
    for line in sys.stdin:
        kind, data = line.split()
        said, again = KINDS[kind](bytes.fromhex(data))
        print(f"{said}\t{again.hex()}")


main()
