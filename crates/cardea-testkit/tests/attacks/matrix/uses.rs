//! Every command that uses a key, authorised in nine ways without the PIN, and once with it.

use cardea_card::record::CounterMode;
use cardea_tpm::policy::{ApprovalId, name_of};

use super::live::Live;
use super::row::Object::{Ec, Imported, Once, Rsa, Srk};
use super::row::{BLOBS, EC_KEYS, KEYS, Knowledge, Object, Row, Seen, row};
use super::ways::Way;
use crate::raw::{
    Auth, EMPTY, ENDORSEMENT, Entity, NULL, OWNER, SessionKind, cc, ecc_salt, ecc_signing_area,
    no_pcrs, point, sensitive, sign_parameters, sized, sized_point,
};

/// A use of a key: which command, and how it is put together.
#[derive(Clone, Copy)]
struct Use {
    command: u32,
    tried: &'static str,
    shape: Shape,
    parameters: fn(&Live, Object) -> Vec<u8>,
    /// What the TPM says after the PIN: of an EC key, of an RSA key.
    with_pin: (u32, u32),
    /// What it says of the storage root key, whose value is empty.
    of_srk: u32,
}

/// Where the key is among a command's handles.
#[derive(Clone, Copy)]
enum Shape {
    /// Alone.
    Alone,
    /// Before itself, which needs no authorisation.
    BeforeItself,
    /// Before another handle that needs none.
    Before(u32),
    /// After itself as an object that is authorised by its empty value.
    AfterItself,
    /// After a hierarchy that is authorised by its empty value.
    After(u32),
    /// Before an index, which an approval lets anybody attest.
    BeforeIndex,
    /// After the endorsement hierarchy, before a session.
    BeforeSession,
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for used in uses() {
        let session = match used.shape {
            Shape::AfterItself | Shape::After(_) | Shape::BeforeSession => 2,
            _ => 1,
        };
        rows.push(
            row(used.command, Knowledge::CardFile, used.tried)
                .on(BLOBS, nine_ways(session))
                .by(move |live, object| in_nine_ways(live, used, object)),
        );
        let by_value = row(used.command, Knowledge::Device, used.tried)
            .on(&[Srk], used.of_srk)
            .by(move |live, object| {
                let key = live.entity(object);
                used.send(live, object, &key, EMPTY)
            });
        rows.push(by_value);
        let (ec, rsa) = used.with_pin;
        let with_pin = row(used.command, Knowledge::Pin, used.tried)
            .on(EC_KEYS, ec)
            .on(&[Rsa], rsa)
            .by(move |live, object| with_the_pin(live, used, object));
        rows.push(with_pin);
    }
    rows.extend(others());
    rows
}

fn others() -> Vec<Row> {
    let other_class = "sign after the PIN was given for the other key class";
    vec![
        row(cc::SIGN, Knowledge::Pin, other_class)
            .on(KEYS, 0x99D)
            .by(|live, object| {
                let key = live.entity(object);
                let session = live.satisfied(match object {
                    Once => b"sess",
                    _ => b"once",
                });
                live.sign(object, &key, Auth::Session(&session, &[]))
            }),
        row(cc::SIGN, Knowledge::Pin, "sign without a scheme")
            .on(KEYS, 0x2D2)
            .by(|live, object| signed_as(live, object, &[0, 0x10])),
        row(
            cc::SIGN,
            Knowledge::Pin,
            "sign anonymously with a nonce of the TPM, then with the same nonce",
        )
        .on(EC_KEYS, [("", 0), ("again", 0x84)])
        .by(|live, object| {
            let ephemeral = live.bench.send(cc::EC_EPHEMERAL, &[], &[], &[0, 3]);
            let count = &ephemeral.body[ephemeral.body.len() - 2..];
            let scheme = [&[0, 0x1A, 0, 0x0B][..], count].concat();
            let first = signed_as(live, object, &scheme);
            live.clean();
            [("", first), ("again", signed_as(live, object, &scheme))]
        }),
        row(
            cc::POLICY_SECRET,
            Knowledge::CardFile,
            "use it as an authority",
        )
        .on(BLOBS, as_an_authority())
        .by(|live, object| {
            let key = live.entity(object);
            let tried = Way::ALL.map(|(name, way)| {
                let own = live.bench.policy_session();
                let code = live.by_way(way, object, &key, |auth| {
                    live.bench.policy_secret(&key, auth, &own, b"")
                });
                live.bench.flush(own.handle);
                (name, code)
            });
            Seen::from(tried)
        }),
        row(
            cc::POLICY_SECRET,
            Knowledge::Device,
            "use it as an authority",
        )
        .on(&[Srk], 0)
        .by(|live, object| {
            let own = live.bench.policy_session();
            let key = live.entity(object);
            live.bench.policy_secret(&key, EMPTY, &own, b"")
        }),
    ]
}

/// PolicySecret wants a session that knows a value.
fn as_an_authority() -> Seen {
    let codes = Way::ALL.map(|(name, way)| {
        let code = match way {
            Way::Value | Way::Hmac | Way::SaltedHmac | Way::BoundHmac => 0x12F,
            Way::Policy | Way::PolicyOr => 0x989,
            Way::PolicyPassword | Way::PolicyAuthValue => 0x99D,
            Way::Trial => 0x982,
        };
        (name, code)
    });
    codes.into()
}

/// A signature of this scheme, after the PIN.
fn signed_as(live: &Live, object: Object, scheme: &[u8]) -> u32 {
    let key = [live.entity(object)];
    let session = live.satisfied(policy_ref(object));
    let auth = [Auth::Session(&session, &[])];
    let parameters = sign_parameters(scheme);
    live.bench.send(cc::SIGN, &key, &auth, &parameters).code
}

/// Without a secret: by value, in a policy session, in a trial session.
fn nine_ways(session: u32) -> Seen {
    let of_session = |error: u32| 0x800 | session << 8 | error;
    let codes = Way::ALL.map(|(name, way)| {
        let code = match way {
            Way::Value | Way::Hmac | Way::SaltedHmac | Way::BoundHmac => 0x12F,
            Way::Trial => of_session(0x82),
            _ => of_session(0x9D),
        };
        (name, code)
    });
    codes.into()
}

fn in_nine_ways(live: &Live, used: Use, object: Object) -> Seen {
    let key = live.entity(object);
    let tried = Way::ALL.map(|(name, way)| {
        let code = live.by_way(way, object, &key, |auth| {
            used.send(live, object, &key, auth)
        });
        (name, code)
    });
    tried.into()
}

fn with_the_pin(live: &Live, used: Use, object: Object) -> u32 {
    let key = live.entity(object);
    let session = live.satisfied(policy_ref(object));
    used.send(live, object, &key, Auth::Session(&session, &[]))
}

/// What the PIN is asked for where the key is to be used.
pub(super) fn policy_ref(object: Object) -> &'static [u8] {
    match object {
        Once => b"once",
        _ => b"sess",
    }
}

impl Use {
    fn send(self, live: &Live, object: Object, key: &Entity, auth: Auth<'_>) -> u32 {
        let key = || key.clone();
        let plain = Entity::plain;
        let (entities, auths) = match self.shape {
            Shape::Alone => (vec![key()], vec![auth]),
            Shape::BeforeItself => (vec![key(), key()], vec![auth]),
            Shape::Before(other) => (vec![key(), plain(other)], vec![auth]),
            Shape::AfterItself => (vec![key(), key()], vec![EMPTY, auth]),
            Shape::After(hierarchy) => (vec![plain(hierarchy), key()], vec![EMPTY, auth]),
            Shape::BeforeIndex => {
                let index = live.entity(Object::PinIndex);
                if live.record.tpm.mode == CounterMode::NvOwner {
                    let entities = [key(), plain(OWNER), index];
                    return self.send_to(live, object, &entities, &[auth, EMPTY]);
                }
                let read = live.bench.policy_session();
                live.bench.policy_command_code(&read, cc::NV_CERTIFY);
                live.authorize(&read, ApprovalId::P7);
                let entities = [key(), index.clone(), index];
                let auths = [auth, Auth::Session(&read, &[])];
                let code = self.send_to(live, object, &entities, &auths);
                live.bench.flush(read.handle);
                return code;
            }
            Shape::BeforeSession => {
                let audit = live.bench.session(SessionKind::Hmac, false, None);
                let entities = [plain(ENDORSEMENT), key(), plain(audit.handle)];
                let code = self.send_to(live, object, &entities, &[EMPTY, auth]);
                live.bench.flush(audit.handle);
                return code;
            }
        };
        self.send_to(live, object, &entities, &auths)
    }

    fn send_to(self, live: &Live, object: Object, entities: &[Entity], auths: &[Auth<'_>]) -> u32 {
        let parameters = (self.parameters)(live, object);
        live.bench
            .send(self.command, entities, auths, &parameters)
            .code
    }
}

/// A use of a key; what the TPM says to it after the PIN, and of the storage root key, follows.
fn using(
    command: u32,
    tried: &'static str,
    shape: Shape,
    parameters: fn(&Live, Object) -> Vec<u8>,
) -> Use {
    Use {
        command,
        tried,
        shape,
        parameters,
        with_pin: (0, 0),
        of_srk: 0,
    }
}

impl Use {
    fn answered(self, with_pin: (u32, u32), of_srk: u32) -> Self {
        Self {
            with_pin,
            of_srk,
            ..self
        }
    }
}

fn uses() -> Vec<Use> {
    [signatures(), secrets(), children()].concat()
}

/// What signs.
fn signatures() -> Vec<Use> {
    let attest = |live: &Live, object| [&[0, 0][..], &live.scheme(object)].concat();
    vec![
        using(cc::SIGN, "sign a digest", Shape::Alone, |live, object| {
            sign_parameters(&live.scheme(object))
        })
        .answered((0, 0), 0x19C),
        using(
            cc::QUOTE,
            "sign PCR values",
            Shape::Alone,
            |live, object| [&[0, 0][..], &live.scheme(object), &[0; 4]].concat(),
        )
        .answered((0, 0), 0x19C),
        using(
            cc::GET_TIME,
            "sign the time",
            Shape::After(ENDORSEMENT),
            attest,
        )
        .answered((0, 0), 0x29C),
        using(
            cc::GET_COMMAND_AUDIT_DIGEST,
            "sign the command audit",
            Shape::After(ENDORSEMENT),
            attest,
        )
        .answered((0, 0), 0x29C),
        using(
            cc::GET_SESSION_AUDIT_DIGEST,
            "sign a session audit",
            Shape::BeforeSession,
            attest,
        )
        .answered((0x38A, 0x38A), 0x29C),
        using(
            cc::CERTIFY,
            "sign a statement about itself",
            Shape::AfterItself,
            attest,
        )
        .answered((0, 0), 0x29C),
        using(
            cc::CERTIFY_CREATION,
            "sign a statement about its creation",
            Shape::BeforeItself,
            |live, object| {
                let forged = [0x80, 0x21, 0x40, 0, 0, 1, 0, 0];
                [&[0; 4][..], &live.scheme(object), &forged].concat()
            },
        )
        .answered((0x4E0, 0x4E0), 0x19C),
        using(
            cc::CERTIFY_X509,
            "sign a certificate for itself",
            Shape::AfterItself,
            |live, object| {
                [
                    &[0, 0][..],
                    &live.scheme(object),
                    &sized(&partial_certificate()),
                ]
                .concat()
            },
        )
        .answered((0, 0), 0x19C),
        using(
            cc::NV_CERTIFY,
            "sign a statement about the PIN counter",
            Shape::BeforeIndex,
            |live, object| [&[0, 0][..], &live.scheme(object), &[0, 8, 0, 0]].concat(),
        )
        .answered((0, 0), 0x19C),
        using(
            cc::COMMIT,
            "begin an anonymous signature",
            Shape::Alone,
            |_, _| vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 0],
        )
        .answered((0x192, 0x19C), 0x192),
    ]
}

/// What deciphers, agrees or unseals.
fn secrets() -> Vec<Use> {
    vec![
        using(cc::RSA_DECRYPT, "decrypt", Shape::Alone, |_, _| {
            [&sized(&[1; 256])[..], &[0, 0x10, 0, 0]].concat()
        })
        .answered((0x19C, 0), 0x19C),
        using(cc::ECDH_ZGEN, "agree on a key", Shape::Alone, |_, _| {
            let (x, y) = point();
            sized_point(&x, &y)
        })
        .answered((0, 0x19C), 0x182),
        using(
            cc::ZGEN_2PHASE,
            "agree on a key in two phases",
            Shape::Alone,
            |live, _| {
                let (x, y) = point();
                let point = sized_point(&x, &y);
                let ephemeral = live.bench.send(cc::EC_EPHEMERAL, &[], &[], &[0, 3]);
                let count = &ephemeral.body[ephemeral.body.len() - 2..];
                [&point[..], &point, &[0, 0x19], count].concat()
            },
        )
        .answered((0, 0x19C), 0x182),
        using(cc::HMAC, "compute an HMAC", Shape::Alone, |_, _| {
            [&sized(&[7; 32])[..], &[0, 0x0B]].concat()
        })
        .answered((0x18A, 0x18A), 0x18A),
        using(cc::HMAC_START, "compute an HMAC", Shape::Alone, |_, _| {
            vec![0, 0, 0, 0x0B]
        })
        .answered((0x18A, 0x18A), 0x18A),
        using(
            cc::ENCRYPT_DECRYPT,
            "decrypt with a symmetric cipher",
            Shape::Alone,
            |_, _| [&[1, 0, 0x43][..], &sized(&[0; 16]), &sized(&[7; 16])].concat(),
        )
        .answered((0x19C, 0x19C), 0x19C),
        using(
            cc::ENCRYPT_DECRYPT_2,
            "decrypt with a symmetric cipher",
            Shape::Alone,
            |_, _| [&sized(&[7; 16])[..], &[1, 0, 0x43], &sized(&[0; 16])].concat(),
        )
        .answered((0x19C, 0x19C), 0x19C),
        using(cc::UNSEAL, "unseal", Shape::Alone, |_, _| Vec::new())
            .answered((0x18A, 0x18A), 0x18A),
    ]
}

/// What has the key as a parent.
fn children() -> Vec<Use> {
    vec![
        using(
            cc::CREATE,
            "create an object below it",
            Shape::Alone,
            |_, _| {
                let area = sized(&ecc_signing_area(0x0004_0472));
                [&sensitive(&[], &[])[..], &area, &no_pcrs()].concat()
            },
        )
        .answered((0x18A, 0x18A), 0),
        using(
            cc::CREATE_LOADED,
            "create an object below it",
            Shape::Alone,
            |_, _| {
                let area = sized(&ecc_signing_area(0x0004_0472));
                [&sensitive(&[], &[])[..], &area].concat()
            },
        )
        .answered((0x18A, 0x18A), 0),
        using(
            cc::LOAD,
            "load an object below it",
            Shape::Alone,
            |live, _| {
                let (private, public) = live.blob(Ec);
                [sized(private), sized(public)].concat()
            },
        )
        .answered((0x18A, 0x18A), 0),
        using(
            cc::IMPORT,
            "import an object below it",
            Shape::Alone,
            |live, _| {
                let (_, public) = live.blob(Imported);
                let nothing = [0, 0, 0, 0, 0, 0x10];
                [&[0, 0][..], &sized(public), &nothing].concat()
            },
        )
        .answered((0x18A, 0x18A), 0x3DA),
        using(
            cc::REWRAP,
            "rewrap an object from it to clear text",
            Shape::Before(NULL),
            |live, _| {
                let (private, public) = live.blob(Imported);
                let srk = live.bench.public_of(&live.entity(Srk));
                let (_, seed) = ecc_salt(&srk, b"DUPLICATE\0");
                [sized(private), sized(&name_of(public)), sized(&seed)].concat()
            },
        )
        .answered((0x18A, 0x18A), 0x1DF),
        using(
            cc::ACTIVATE_CREDENTIAL,
            "decrypt a credential with it",
            Shape::AfterItself,
            |live, _| {
                let srk = live.bench.public_of(&live.entity(Srk));
                let (_, seed) = ecc_salt(&srk, b"SECRET\0");
                [
                    sized(&[&sized(&[7; 32])[..], &[7; 16]].concat()),
                    sized(&seed),
                ]
                .concat()
            },
        )
        .answered((0x28A, 0x28A), 0x1DF),
    ]
}

/// What CertifyX509 completes (TPM 2.0 Part 3 §18.8): names, times, and a key usage.
fn partial_certificate() -> Vec<u8> {
    let der = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap();
        [&[tag, length], content].concat()
    };
    let name = [&[0x06, 3, 0x55, 4, 3][..], &der(0x0C, b"root")].concat();
    let name = der(0x30, &der(0x31, &der(0x30, &name)));
    let times = [der(0x17, b"260101000000Z"), der(0x17, b"360101000000Z")].concat();
    // keyUsage, critical: digitalSignature.
    let usage = [6, 3, 0x55, 0x1D, 0x0F, 1, 1, 0xFF, 4, 4, 3, 2, 7, 0x80];
    let extensions = der(0xA3, &der(0x30, &der(0x30, &usage)));
    let parts = [&name[..], &der(0x30, &times), &name, &extensions].concat();
    der(0x30, &parts)
}
