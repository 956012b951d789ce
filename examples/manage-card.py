#!/usr/bin/python3
"""Everything that an application can do with virtual smart cards on D-Bus, step by step.

Makes a card, or takes the one whose card id is given (its admin key, in hexadecimal, comes on standard input);
personalises it, changes and diversifies its administrator's key, changes its PIN, resets it, and destroys the card.
A card that is given is wiped, and its PIN is reset without the change before.

Needs python3-gi and python3-cryptography, and the right to create and destroy cards.
"""

import hashlib
import hmac
import os
import secrets
import sys

import gi
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

SERVICE = "org.cardea.VirtualSmartCard1"
ROOT = "/org/cardea/VirtualSmartCard1"


class Bus:
    """The service, with secrets as file descriptors."""

    def __init__(self):
        self.connection = Gio.bus_get_sync(Gio.BusType.SYSTEM)

    def call(self, path, interface, method, signature="()", values=(), secrets=()):
        """Calls a method; in `values`, number N stands for the Nth secret."""
        descriptors = Gio.UnixFDList.new()
        for secret in secrets:
            reader, writer = os.pipe()
            os.write(writer, secret)
            os.close(writer)
            descriptors.append(reader)
            os.close(reader)
        if "." not in interface:
            interface = f"{SERVICE}.{interface}"
        answer, _ = self.connection.call_with_unix_fd_list_sync(
            SERVICE, path, interface, method, GLib.Variant(signature, values),
            None, Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION, 180_000, descriptors)
        return answer.unpack()

    def get(self, path, interface, name):
        """A property."""
        properties = "org.freedesktop.DBus.Properties"
        return self.call(path, properties, "Get", "(ss)", (f"{SERVICE}.{interface}", name))[0]

    def operate(self, method, name, options, secrets=()):
        """Something that takes its time, to its end."""
        result = {}
        loop = GLib.MainLoop()

        def finished(_connection, _sender, _path, _interface, _signal, parameters):
            result["ok"], _, result["error"], result["values"] = parameters.unpack()
            loop.quit()

        def progress(_connection, _sender, _path, _interface, _signal, parameters):
            print(f"    {parameters.unpack()[1].lower().replace('_', ' ')}")

        operation = f"{SERVICE}.Operation"
        watches = [
            self.connection.signal_subscribe(
                SERVICE, operation, signal, None, None, Gio.DBusSignalFlags.NONE, handler)
            for signal, handler in [("Finished", finished), ("Progress", progress)]
        ]
        path = self.call(ROOT, "Manager", method, "(sa{sv})", (name, options), secrets)[0]
        loop.run()
        for watch in watches:
            self.connection.signal_unsubscribe(watch)
        if not result["ok"]:
            sys.exit(f"{method}: {self.get(path, 'Operation', 'ErrorMessage')}")
        return result["values"]


def respond(key, challenge):
    """The administrator's answer to a challenge: TDEA, CBC without padding from zeros."""
    encryptor = Cipher(algorithms.TripleDES(key), modes.CBC(bytes(8))).encryptor()
    return encryptor.update(bytes(challenge)) + encryptor.finalize()


def diversified(master, card_id):
    """A key for one card from a master secret: SP 800-108, counter mode, HMAC-SHA256."""
    context = bytes.fromhex(card_id.replace("-", ""))
    fixed = b"Cardea admin key" + b"\0" + context + (8 * 24).to_bytes(4, "big")
    return hmac.new(master, (1).to_bytes(4, "big") + fixed, hashlib.sha256).digest()[:24]


def administer(bus, card, key):
    """A challenge context in which the administrator is authenticated."""
    context = bus.call(card, "Provisioning", "GetChallengeContext")[0]
    challenge = bus.get(context, "ChallengeContext", "Challenge")
    right = bus.call(context, "ChallengeContext", "VerifyResponse", "(h)", (0,),
                     [respond(key, challenge)])[0]
    if not right:
        sys.exit("the admin key is not right")
    return context


def main():
    bus = Bus()
    pin, new_pin = (str(secrets.randbelow(10**8)).zfill(8).encode() for _ in range(2))
    key = secrets.token_bytes(24)

    if len(sys.argv) > 1:
        print("1. Select a card that is present")
        card = bus.call(ROOT, "Manager", "GetCardByCardId", "(s)", (sys.argv[1],))[0]
        key = bytes.fromhex(sys.stdin.readline().strip())
    else:
        print("1. Create a card")
        options = {
            "admin-key": GLib.Variant("s", "supplied"),
            "admin-key-fd": GLib.Variant("h", 0),
            "pin-fd": GLib.Variant("h", 1),
        }
        made = bus.operate("CreateCard", "Example", options, [key, pin])
        card = made["card"]
    instance = bus.get(card, "Card", "InstanceId")
    print(f"   {bus.get(card, 'Card', 'FriendlyName')}: {instance}")

    print("2. Personalise it: a fresh file system")
    context = administer(bus, card, key)
    bus.call(context, "ChallengeContext", "Provision", "(hbs)", (0, True, ""), [b""])

    print("3. Change the admin key")
    changed = secrets.token_bytes(24)
    bus.call(context, "ChallengeContext", "ChangeAdministrativeKey", "(hh)", (0, 1), [b"", changed])
    bus.call(context, "ChallengeContext", "Close")

    print("4. Diversify the admin key: another one for each card, from one master secret")
    card_id = bus.get(card, "Card", "CardId")
    key = diversified(secrets.token_bytes(32), card_id)
    context = administer(bus, card, changed)
    bus.call(context, "ChallengeContext", "ChangeAdministrativeKey", "(hh)", (0, 1), [b"", key])
    bus.call(context, "ChallengeContext", "Close")

    if len(sys.argv) == 1:
        print("5. Change the PIN")
        bus.call(card, "Provisioning", "ChangePin", "(hh)", (0, 1), [pin, new_pin])

    print("6. Reset the PIN, as a help desk does")
    request = bus.call(card, "Provisioning", "RequestPinReset", "(a{sv})", ({},))[0]
    response = respond(key, bus.get(request, "PinResetRequest", "Challenge"))
    bus.call(request, "PinResetRequest", "SetResponse", "(h)", (0,), [response])
    bus.call(request, "PinResetRequest", "SetNewPin", "(h)", (0,), [pin])
    if not bus.call(request, "PinResetRequest", "Complete")[0]:
        sys.exit("the PIN was not reset")

    print("7. Destroy the card")
    bus.operate("DestroyCard", instance, {})
    print("done")


if __name__ == "__main__":
    main()
