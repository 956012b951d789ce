//! The table of what is on the bus: interfaces, members, their types. Introspection is made from it, and a call
//! reaches its handler only with the types that are written here.

use std::fmt::Write;
use std::sync::Arc;

use super::challenge::{self, ChallengeContext};
use super::error::BusError;
use super::names::{
    CARD, CHALLENGE_CONTEXT, INTROSPECTABLE, MANAGER, OBJECT_MANAGER, OPERATION, PEER,
    PIN_RESET_REQUEST, PROPERTIES, PROVISIONING, READER,
};
use super::operation::Operation;
use super::pin_reset::{self, PinResetRequest};
use super::request::{Answer, Request};
use super::{manager, provisioning};
use crate::doors::bus::Bus;
use cardea_host::HostedCard;
use cardea_host::Right;

/// Name and type of an argument.
type Argument = (&'static str, &'static str);

/// A method with its callers and its handler: there is none without.
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) takes: &'static [Argument],
    pub(crate) gives: &'static [Argument],
    pub(crate) bound: Bound,
    pub(crate) needs: Needs,
    pub(crate) handler: Handler,
}

/// What a call may bring at most. More is refused before anything of it is decoded, and before the caller's rights
/// are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Length of the body in bytes.
    pub(crate) body: usize,
    pub(crate) descriptors: usize,
}

impl Bound {
    /// Names, ids, paths: much longer than any that is accepted, so that most mistakes still have their own errors.
    const WORDS: Self = Self {
        body: 8192,
        descriptors: 0,
    };

    /// One PIN, key or response.
    const SECRET: Self = Self {
        descriptors: 1,
        ..Self::WORDS
    };

    /// An old and a new secret, or one secret that allows a new one.
    const SECRETS: Self = Self {
        descriptors: 2,
        ..Self::WORDS
    };

    /// The options of a new card, with PIN, PUK, admin key and owner authorisation.
    pub(crate) const ORDER: Self = Self {
        body: 16_384,
        descriptors: 4,
    };

    /// Of the method that a call means; of one that does not exist, as of one that takes words.
    pub(crate) fn of(named: Option<&str>, member: &str) -> Self {
        let mut interfaces = INTERFACES.iter();
        let found = interfaces.find_map(|interface| {
            let meant = named.is_none_or(|name| name == interface.name);
            interface.method(member).filter(|_| meant)
        });
        found.map_or(Self::WORDS, |method| method.bound)
    }
}

/// What a caller needs for a method, beyond seeing the object.
#[derive(Clone, Copy)]
pub(crate) enum Needs {
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// The right, about the card that the object is, if it is one.
    Right(Right),
    /// The right, about the card with the instance id that is the first argument.
    RightByInstance(Right),
    /// The right, about a card that is going to belong to the user in the options.
    RightByOwner(Right),
}

type Handled = Result<Answer, BusError>;

/// What does a method, by the kind of object.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Card(fn(&Arc<Bus>, &Request<'_>, &Arc<HostedCard>) -> Handled),
    Challenge(fn(&Arc<Bus>, &Request<'_>, &Arc<ChallengeContext>) -> Handled),
    Manager(fn(&Arc<Bus>, &Request<'_>) -> Handled),
    Operation(fn(&Operation)),
    PinReset(fn(&Arc<Bus>, &Request<'_>, &Arc<PinResetRequest>) -> Handled),
    /// Of an interface that every object has.
    Standard(Standard),
}

/// A method that every object has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standard {
    Get,
    GetAll,
    GetMachineId,
    GetManagedObjects,
    Introspect,
    Ping,
    Set,
}

/// An interface.
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    pub(crate) methods: &'static [Method],
    pub(crate) signals: &'static [(&'static str, &'static [Argument])],
    pub(crate) properties: &'static [Argument],
}

/// Why a method needs no right.
const SEEN: &str = "it shows what its caller sees anyway";
const OWN: &str = "the object is its caller's own, and nobody else's";
const AGENT: &str = "an agent is asked for the cards of its own user only";
const ANSWERED: &str =
    "the object was made by a right, and the administrator's response proves the rest";
const EVIDENCE: &str = "whoever may see the card may have its evidence, which opens nothing";

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
            ("CountedHere", "b"),
            ("CounterMode", "s"),
            ("Created", "t"),
            ("Formatted", "b"),
            ("FriendlyName", "s"),
            ("InstanceId", "s"),
            ("KeyCount", "u"),
            ("LockoutSeconds", "u"),
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
            Method {
                name: "ChangeAdministrativeKey",
                takes: &[("response", "h"), ("new_key", "h")],
                gives: &[],
                bound: Bound::SECRETS,
                needs: Needs::Nothing(ANSWERED),
                handler: Handler::Challenge(challenge::change_administrative_key),
            },
            Method {
                name: "Close",
                takes: &[],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Nothing(OWN),
                handler: Handler::Challenge(challenge::close),
            },
            Method {
                name: "Provision",
                takes: &[("response", "h"), ("format", "b"), ("new_card_id", "s")],
                gives: &[],
                bound: Bound::SECRET,
                needs: Needs::Nothing(ANSWERED),
                handler: Handler::Challenge(challenge::provision),
            },
            Method {
                name: "VerifyResponse",
                takes: &[("response", "h")],
                gives: &[("right", "b")],
                bound: Bound::SECRET,
                needs: Needs::Nothing(ANSWERED),
                handler: Handler::Challenge(challenge::verify_response),
            },
        ],
        signals: &[],
        properties: &[("Algorithm", "s"), ("Challenge", "ay"), ("Deadline", "t")],
    },
    Interface {
        name: MANAGER,
        methods: &[
            Method {
                name: "CreateCard",
                takes: &[("name", "s"), ("options", "a{sv}")],
                gives: &[("operation", "o")],
                bound: Bound::ORDER,
                needs: Needs::RightByOwner(Right::CreateCard),
                handler: Handler::Manager(manager::create_card),
            },
            Method {
                name: "DestroyCard",
                takes: &[("instance_id", "s"), ("options", "a{sv}")],
                gives: &[("operation", "o")],
                bound: Bound::SECRET,
                needs: Needs::RightByInstance(Right::DestroyCard),
                handler: Handler::Manager(manager::destroy_card),
            },
            Method {
                name: "GetCardByCardId",
                takes: &[("card_id", "s")],
                gives: &[("card", "o")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Manager(manager::get_card_by_card_id),
            },
            Method {
                name: "GetCardByInstanceId",
                takes: &[("instance_id", "s")],
                gives: &[("card", "o")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Manager(manager::get_card_by_instance_id),
            },
            Method {
                name: "GetCardByReader",
                takes: &[("reader", "s")],
                gives: &[("card", "o")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Manager(manager::get_card_by_reader),
            },
            Method {
                name: "RegisterAgent",
                takes: &[("agent", "o")],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Nothing(AGENT),
                handler: Handler::Manager(manager::register_agent),
            },
            Method {
                name: "ResetTpmLockout",
                takes: &[("auth", "h")],
                gives: &[],
                bound: Bound::SECRET,
                needs: Needs::Right(Right::ResetTpmLockout),
                handler: Handler::Manager(manager::reset_tpm_lockout),
            },
            Method {
                name: "UnregisterAgent",
                takes: &[("agent", "o")],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Nothing(AGENT),
                handler: Handler::Manager(manager::unregister_agent),
            },
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
        methods: &[Method {
            name: "Cancel",
            takes: &[],
            gives: &[],
            bound: Bound::WORDS,
            needs: Needs::Nothing(OWN),
            handler: Handler::Operation(Operation::cancel),
        }],
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
            Method {
                name: "Cancel",
                takes: &[],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Nothing(OWN),
                handler: Handler::PinReset(pin_reset::cancel),
            },
            Method {
                name: "Complete",
                takes: &[],
                gives: &[("done", "b")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(ANSWERED),
                handler: Handler::PinReset(pin_reset::complete),
            },
            Method {
                name: "SetNewPin",
                takes: &[("new_pin", "h")],
                gives: &[],
                bound: Bound::SECRET,
                needs: Needs::Nothing(OWN),
                handler: Handler::PinReset(pin_reset::set_new_pin),
            },
            Method {
                name: "SetResponse",
                takes: &[("response", "h")],
                gives: &[],
                bound: Bound::SECRET,
                needs: Needs::Nothing(OWN),
                handler: Handler::PinReset(pin_reset::set_response),
            },
        ],
        signals: &[],
        properties: &[("Challenge", "ay"), ("Deadline", "t")],
    },
    Interface {
        name: PROVISIONING,
        methods: &[
            Method {
                name: "ChangePin",
                takes: &[("old", "h"), ("new", "h")],
                gives: &[],
                bound: Bound::SECRETS,
                needs: Needs::Right(Right::ChangePin),
                handler: Handler::Card(provisioning::change_pin),
            },
            Method {
                name: "GetAttestation",
                takes: &[("nonce", "ay"), ("what", "a{sv}")],
                gives: &[("statement", "a{sv}")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(EVIDENCE),
                handler: Handler::Card(provisioning::get_attestation),
            },
            Method {
                name: "GetChallengeContext",
                takes: &[],
                gives: &[("context", "o")],
                bound: Bound::WORDS,
                needs: Needs::Right(Right::Provision),
                handler: Handler::Card(provisioning::get_challenge_context),
            },
            Method {
                name: "RequestPinChange",
                takes: &[("options", "a{sv}")],
                gives: &[("done", "b")],
                bound: Bound::WORDS,
                needs: Needs::Right(Right::ChangePin),
                handler: Handler::Card(provisioning::request_pin_change),
            },
            Method {
                name: "RequestPinReset",
                takes: &[("options", "a{sv}")],
                gives: &[("request", "o")],
                bound: Bound::WORDS,
                needs: Needs::Right(Right::ResetPin),
                handler: Handler::Card(provisioning::request_pin_reset),
            },
            Method {
                name: "SetFriendlyName",
                takes: &[("name", "s")],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Right(Right::RenameCard),
                handler: Handler::Card(provisioning::set_friendly_name),
            },
            Method {
                name: "UnblockWithPuk",
                takes: &[("puk", "h"), ("new_pin", "h")],
                gives: &[],
                bound: Bound::SECRETS,
                needs: Needs::Right(Right::ChangePin),
                handler: Handler::Card(provisioning::unblock_with_puk),
            },
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
        methods: &[Method {
            name: "Introspect",
            takes: &[],
            gives: &[("xml", "s")],
            bound: Bound::WORDS,
            needs: Needs::Nothing(SEEN),
            handler: Handler::Standard(Standard::Introspect),
        }],
        signals: &[],
        properties: &[],
    },
    Interface {
        name: OBJECT_MANAGER,
        methods: &[Method {
            name: "GetManagedObjects",
            takes: &[],
            gives: &[("objects", "a{oa{sa{sv}}}")],
            bound: Bound::WORDS,
            needs: Needs::Nothing(SEEN),
            handler: Handler::Standard(Standard::GetManagedObjects),
        }],
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
            Method {
                name: "GetMachineId",
                takes: &[],
                gives: &[("machine_id", "s")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Standard(Standard::GetMachineId),
            },
            Method {
                name: "Ping",
                takes: &[],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Standard(Standard::Ping),
            },
        ],
        signals: &[],
        properties: &[],
    },
    Interface {
        name: PROPERTIES,
        methods: &[
            Method {
                name: "Get",
                takes: &[("interface", "s"), ("property", "s")],
                gives: &[("value", "v")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Standard(Standard::Get),
            },
            Method {
                name: "GetAll",
                takes: &[("interface", "s")],
                gives: &[("properties", "a{sv}")],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Standard(Standard::GetAll),
            },
            Method {
                name: "Set",
                takes: &[("interface", "s"), ("property", "s"), ("value", "v")],
                gives: &[],
                bound: Bound::WORDS,
                needs: Needs::Nothing(SEEN),
                handler: Handler::Standard(Standard::Set),
            },
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
        self.methods.iter().find(|method| method.name == name)
    }

    pub(crate) fn has_property(&self, name: &str) -> bool {
        self.properties.iter().any(|property| property.0 == name)
    }
}

impl Method {
    /// The types that it takes, as a message's body has them.
    pub(crate) fn signature(&self) -> String {
        self.takes.iter().map(|argument| argument.1).collect()
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
    for method in interface.methods {
        let Method {
            name, takes, gives, ..
        } = method;
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
                let both = [method.takes, method.gives];
                both.into_iter().flatten()
            });
            let told = interface.signals.iter().flat_map(|signal| signal.1);
            for (name, kind) in arguments.chain(told).chain(interface.properties) {
                let signature = zbus::Signature::try_from(*kind);
                assert!(signature.is_ok(), "{} {name}", interface.name);
            }
            assert!(interface.methods.is_sorted_by_key(|method| method.name));
            assert!(interface.properties.is_sorted());
        }
    }

    /// What programs are generated from (`/usr/share/dbus-1/interfaces`).
    #[test]
    fn packaged_description_is_what_introspection_says() {
        let ours = INTERFACES.iter().map(|interface| interface.name);
        let ours: Vec<&str> = ours
            .filter(|name| name.starts_with("org.cardea."))
            .collect();
        let said = introspect(&ours, &[]);
        let file = include_str!("../../../../../packaging/org.cardea.VirtualSmartCard1.xml");
        assert_eq!(
            file, said,
            "packaging/org.cardea.VirtualSmartCard1.xml has to be:\n{said}"
        );
    }

    #[test]
    fn no_call_brings_more_than_its_method_takes() {
        let methods = INTERFACES.iter().flat_map(|interface| interface.methods);
        for method in methods {
            let secrets = method.takes.iter().filter(|(_, kind)| *kind == "h").count();
            let options = method.takes.iter().any(|(_, kind)| *kind == "a{sv}");
            let most = if options { 4 } else { secrets };
            assert!(
                (secrets..=most).contains(&method.bound.descriptors),
                "{}",
                method.name
            );
            assert!(method.bound.body <= 16_384, "{}", method.name);
            assert_eq!(Bound::of(None, method.name), method.bound);
        }
        assert_eq!(Bound::of(Some(MANAGER), "CreateCard"), Bound::ORDER);
        assert_eq!(Bound::of(Some(CARD), "CreateCard"), Bound::WORDS);
        assert_eq!(Bound::of(None, "Unknown"), Bound::WORDS);
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

    #[test]
    fn only_what_says_why_needs_no_right() {
        for interface in INTERFACES {
            for method in interface.methods {
                let of_card = matches!(method.handler, Handler::Card(_));
                if let Needs::Nothing(reason) = method.needs {
                    assert!(!reason.is_empty(), "{}", method.name);
                    assert!(
                        !of_card || method.name == "GetAttestation",
                        "{}",
                        method.name
                    );
                }
            }
        }
    }
}
