//! The table of what is on the bus: interfaces, members, their types. Introspection is made from it, and a call
//! reaches its handler only with the types that are written here.

use std::fmt::Write;

/// The service's name.
pub(crate) const SERVICE: &str = "org.cardea.VirtualSmartCard1";
/// Path of the manager; all objects are below.
pub(crate) const ROOT: &str = "/org/cardea/VirtualSmartCard1";

pub(crate) const AGENT: &str = "org.cardea.VirtualSmartCard1.Agent";
pub(crate) const CARD: &str = "org.cardea.VirtualSmartCard1.Card";
pub(crate) const CHALLENGE_CONTEXT: &str = "org.cardea.VirtualSmartCard1.ChallengeContext";
pub(crate) const MANAGER: &str = "org.cardea.VirtualSmartCard1.Manager";
pub(crate) const OPERATION: &str = "org.cardea.VirtualSmartCard1.Operation";
pub(crate) const PIN_RESET_REQUEST: &str = "org.cardea.VirtualSmartCard1.PinResetRequest";
pub(crate) const PROVISIONING: &str = "org.cardea.VirtualSmartCard1.Provisioning";
pub(crate) const READER: &str = "org.cardea.VirtualSmartCard1.Reader";

pub(crate) const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub(crate) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";
pub(crate) const PEER: &str = "org.freedesktop.DBus.Peer";
pub(crate) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Name and type of an argument.
type Argument = (&'static str, &'static str);

/// A method: name, what it takes, what it gives.
pub(crate) struct Method(
    pub(crate) &'static str,
    pub(crate) &'static [Argument],
    pub(crate) &'static [Argument],
);

/// An interface.
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) signals: &'static [(&'static str, &'static [Argument])],
    pub(crate) properties: &'static [Argument],
}

/// Every interface; ours first, in alphabetical order.
pub(crate) const INTERFACES: &[Interface] = &[
    Interface {
        name: CARD,
        methods: &[],
        signals: &[],
        properties: &[
            ("AdminBlocked", "b"),
            ("Atr", "ay"),
            ("Attestation", "s"),
            ("AuthorityKeyContainerName", "s"),
            ("CardId", "s"),
            ("CertificateCount", "u"),
            ("CertificatesIssued", "u"),
            ("Created", "t"),
            ("Formatted", "b"),
            ("FriendlyName", "s"),
            ("InstanceId", "s"),
            ("KeyCount", "u"),
            ("MissingParts", "as"),
            ("Owner", "u"),
            ("PinBlocked", "b"),
            ("PinPad", "b"),
            ("PinPolicy", "a{sv}"),
            ("PinTriesLeft", "u"),
            ("PinTriesMax", "u"),
            ("PukTriesLeft", "u"),
            ("Reader", "o"),
            ("ReaderName", "s"),
            ("Reason", "s"),
            ("Status", "s"),
            ("UnblockMode", "s"),
        ],
    },
    Interface {
        name: CHALLENGE_CONTEXT,
        methods: &[
            Method(
                "ChangeAdministrativeKey",
                &[("response", "h"), ("new_key", "h")],
                &[],
            ),
            Method("Close", &[], &[]),
            Method(
                "Provision",
                &[("response", "h"), ("format", "b"), ("new_card_id", "s")],
                &[],
            ),
            Method("VerifyResponse", &[("response", "h")], &[("right", "b")]),
        ],
        signals: &[],
        properties: &[("Algorithm", "s"), ("Challenge", "ay"), ("Deadline", "t")],
    },
    Interface {
        name: MANAGER,
        methods: &[
            Method(
                "CreateCard",
                &[("name", "s"), ("options", "a{sv}")],
                &[("operation", "o")],
            ),
            Method(
                "DestroyCard",
                &[("instance_id", "s"), ("options", "a{sv}")],
                &[("operation", "o")],
            ),
            Method("GetCardByCardId", &[("card_id", "s")], &[("card", "o")]),
            Method(
                "GetCardByInstanceId",
                &[("instance_id", "s")],
                &[("card", "o")],
            ),
            Method("GetCardByReader", &[("reader", "s")], &[("card", "o")]),
            Method("RegisterAgent", &[("agent", "o")], &[]),
            Method("ResetTpmLockout", &[("auth", "h")], &[]),
            Method("UnregisterAgent", &[("agent", "o")], &[]),
        ],
        signals: &[],
        properties: &[
            ("CardLimit", "u"),
            ("CertificateLifetimeLimit", "u"),
            ("KeyLimit", "u"),
            ("RemoteManagementEnabled", "b"),
            ("TpmHierarchyPolicies", "as"),
            ("TpmInLockout", "b"),
            ("TpmLockoutSeconds", "u"),
            ("TpmManufacturer", "s"),
            ("TpmPresent", "b"),
            ("Version", "s"),
        ],
    },
    Interface {
        name: OPERATION,
        methods: &[Method("Cancel", &[], &[])],
        signals: &[
            ("ErrorReported", &[("error", "u"), ("name", "s")]),
            (
                "Finished",
                &[
                    ("ok", "b"),
                    ("hresult", "u"),
                    ("error_name", "s"),
                    ("result", "a{sv}"),
                ],
            ),
            ("Progress", &[("status", "u"), ("name", "s")]),
        ],
        properties: &[
            ("ErrorMessage", "s"),
            ("ErrorName", "s"),
            ("Finished", "b"),
            ("Hresult", "u"),
            ("Kind", "s"),
            ("Result", "a{sv}"),
            ("Status", "u"),
            ("StatusName", "s"),
        ],
    },
    Interface {
        name: PIN_RESET_REQUEST,
        methods: &[
            Method("Cancel", &[], &[]),
            Method("Complete", &[], &[("done", "b")]),
            Method("SetNewPin", &[("new_pin", "h")], &[]),
            Method("SetResponse", &[("response", "h")], &[]),
        ],
        signals: &[],
        properties: &[("Challenge", "ay"), ("Deadline", "t")],
    },
    Interface {
        name: PROVISIONING,
        methods: &[
            Method("ChangePin", &[("old", "h"), ("new", "h")], &[]),
            Method(
                "GetAttestation",
                &[("nonce", "ay"), ("what", "a{sv}")],
                &[("statement", "a{sv}")],
            ),
            Method("GetChallengeContext", &[], &[("context", "o")]),
            Method(
                "RequestPinChange",
                &[("options", "a{sv}")],
                &[("done", "b")],
            ),
            Method(
                "RequestPinReset",
                &[("options", "a{sv}")],
                &[("request", "o")],
            ),
            Method("SetFriendlyName", &[("name", "s")], &[]),
            Method("UnblockWithPuk", &[("puk", "h"), ("new_pin", "h")], &[]),
        ],
        signals: &[],
        properties: &[],
    },
    Interface {
        name: READER,
        methods: &[],
        signals: &[],
        properties: &[
            ("Card", "o"),
            ("DeviceId", "s"),
            ("Kind", "s"),
            ("Name", "s"),
            ("Status", "s"),
        ],
    },
    Interface {
        name: INTROSPECTABLE,
        methods: &[Method("Introspect", &[], &[("xml", "s")])],
        signals: &[],
        properties: &[],
    },
    Interface {
        name: OBJECT_MANAGER,
        methods: &[Method(
            "GetManagedObjects",
            &[],
            &[("objects", "a{oa{sa{sv}}}")],
        )],
        signals: &[
            (
                "InterfacesAdded",
                &[("object", "o"), ("interfaces", "a{sa{sv}}")],
            ),
            (
                "InterfacesRemoved",
                &[("object", "o"), ("interfaces", "as")],
            ),
        ],
        properties: &[],
    },
    Interface {
        name: PEER,
        methods: &[
            Method("GetMachineId", &[], &[("machine_id", "s")]),
            Method("Ping", &[], &[]),
        ],
        signals: &[],
        properties: &[],
    },
    Interface {
        name: PROPERTIES,
        methods: &[
            Method(
                "Get",
                &[("interface", "s"), ("property", "s")],
                &[("value", "v")],
            ),
            Method("GetAll", &[("interface", "s")], &[("properties", "a{sv}")]),
            Method(
                "Set",
                &[("interface", "s"), ("property", "s"), ("value", "v")],
                &[],
            ),
        ],
        signals: &[(
            "PropertiesChanged",
            &[
                ("interface", "s"),
                ("changed", "a{sv}"),
                ("invalidated", "as"),
            ],
        )],
        properties: &[],
    },
];

/// The interface of that name.
pub(crate) fn interface(name: &str) -> Option<&'static Interface> {
    INTERFACES.iter().find(|interface| interface.name == name)
}

impl Interface {
    pub(crate) fn method(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.0 == name)
    }

    pub(crate) fn has_property(&self, name: &str) -> bool {
        self.properties.iter().any(|property| property.0 == name)
    }
}

impl Method {
    /// The types that it takes, as a message's body has them.
    pub(crate) fn signature(&self) -> String {
        self.1.iter().map(|argument| argument.1).collect()
    }
}

/// Introspection data of an object with these interfaces and children.
pub(crate) fn introspect(interfaces: &[&str], children: &[String]) -> String {
    let mut xml = String::from(
        "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
         \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n",
    );
    for name in interfaces {
        if let Some(interface) = interface(name) {
            describe(&mut xml, interface);
        }
    }
    for child in children {
        // Writing to a string does not fail.
        let _ = writeln!(xml, "  <node name=\"{child}\"/>");
    }
    xml.push_str("</node>\n");
    xml
}

fn describe(xml: &mut String, interface: &Interface) {
    let mut line = |text: String| {
        xml.push_str(&text);
        xml.push('\n');
    };
    line(format!("  <interface name=\"{}\">", interface.name));
    for Method(name, takes, gives) in interface.methods {
        line(format!("    <method name=\"{name}\">"));
        let ways = [(*takes, "in"), (*gives, "out")];
        for (arguments, way) in ways {
            for (name, kind) in arguments {
                line(format!(
                    "      <arg name=\"{name}\" type=\"{kind}\" direction=\"{way}\"/>"
                ));
            }
        }
        line("    </method>".into());
    }
    for (name, arguments) in interface.signals {
        line(format!("    <signal name=\"{name}\">"));
        for (name, kind) in *arguments {
            line(format!("      <arg name=\"{name}\" type=\"{kind}\"/>"));
        }
        line("    </signal>".into());
    }
    for (name, kind) in interface.properties {
        line(format!(
            "    <property name=\"{name}\" type=\"{kind}\" access=\"read\"/>"
        ));
    }
    line("  </interface>".into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_one_and_names_are_sorted() {
        for interface in INTERFACES {
            let arguments = interface.methods.iter().flat_map(|method| {
                let both = [method.1, method.2];
                both.into_iter().flatten()
            });
            let told = interface.signals.iter().flat_map(|signal| signal.1);
            for (name, kind) in arguments.chain(told).chain(interface.properties) {
                let signature = zbus::Signature::try_from(*kind);
                assert!(signature.is_ok(), "{} {name}", interface.name);
            }
            assert!(interface.methods.is_sorted_by_key(|method| method.0));
            assert!(interface.properties.is_sorted());
        }
    }

    #[test]
    fn introspection_tells_members_and_children() {
        let xml = introspect(&[MANAGER, PEER], &["cards".into()]);
        for part in [
            "<method name=\"CreateCard\">",
            "<arg name=\"options\" type=\"a{sv}\" direction=\"in\"/>",
            "<property name=\"TpmPresent\" type=\"b\" access=\"read\"/>",
            "<node name=\"cards\"/>",
        ] {
            assert!(xml.contains(part), "{part}");
        }
        assert_eq!(xml.matches("<interface").count(), 2);
    }
}
