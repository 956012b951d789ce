//! `cardea card restore`: the recoverable keys of a lost card, from a copy of its file, on a new card.
//!
//! The file is foreign data: nothing in it is believed. A key is put on the new card if its copy opens with the recovery
//! key and what is in it is the private half of the public key; a certificate, if it is of that key.

mod with;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use cardea_card::record::{CardRecord, KeyRecord, RecoveryTarget};
use cardea_card::token::KeyInfo;
use cardea_card::{KeptKey, KeyNumber, KeyUsage};
use cardea_client::message::{
    CardDetails, CardRequest, KeySummary, NewKey, PrivateKey as Material, Reply, Request,
    SecretBytes, Thing,
};
use cardea_pki::recovery::{KeyCopy, Point, Recovered};
use cardea_pki::{Certificate, Curve, PublicKey};
use cardea_store::format::{HostKey, MAX_FILE, decode};
use cardea_terms::{KeyAlgorithm, KeyClass};
use cardea_tpm::{DescribedKey, describe_keys};
use serde_json::{Value, json};

use self::with::RecoveryKey;
use super::{NARROW, create, print_details};
use crate::arguments::RestoreArguments;
use crate::daemon::Daemon;
use crate::describe::details_json;
use crate::exit::{Exit, Failure};
use crate::on_card::{self, shortened};
use crate::terminal::output::{note, print_json, printable};

pub(super) fn run(
    arguments: &RestoreArguments,
    socket: &Path,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let options = &arguments.create;
    if options.uninitialised || options.blank {
        return Err(Failure::usage(
            "a card with keys needs a PIN and a file system: leave out --uninitialised and --blank",
        ));
    }
    let old = read_card(&arguments.file)?;
    let with = RecoveryKey::find(arguments, &old, daemon)?;
    let (found, lost) = open(&arguments.file, &old, &with, daemon)?;
    if found.is_empty() {
        note_lost(&lost);
        return Err(Failure::new(
            Exit::NotFound,
            format!(
                "no key of this card can be brought back with {}; no card created",
                with.name
            ),
        ));
    }
    for key in &found {
        note(&format!("key {} will be brought back", key.title()));
    }
    note_lost(&lost);
    let (card, pin) = create::make(options, socket, daemon)?;
    let pin = pin.ok_or_else(Daemon::unexpected)?;
    for key in &found {
        key.put_on(&card, &pin, daemon).map_err(|failure| {
            let name = &card.summary.name;
            failure.and(&format!(
                "key {} and those after it are not on the new card {name}: `cardea card destroy` it and restore again",
                key.title()
            ))
        })?;
    }
    let card = daemon.show(&card.summary.card_id)?;
    if options.output.json {
        return Ok(print_json(&with_lost(&card, &lost))?);
    }
    note(
        "the keys are marked as imported; if the old card still works somewhere, it has them too, with its own PIN",
    );
    print_details(&card, options.output, NARROW)
}

/// The record in the copy of a card file. Its HMAC is of another computer, or of another time.
fn read_card(path: &Path) -> Result<CardRecord, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::usage(format!("{} cannot be read: {error}", path.display()))
    };
    let mut content = Vec::new();
    let limit = u64::try_from(MAX_FILE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let file = File::open(path).map_err(cannot)?;
    file.take(limit).read_to_end(&mut content).map_err(cannot)?;
    let decoded = decode(&HostKey::new([0; 32]), &content)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(decoded.record)
}

/// A key that comes back.
struct Found {
    kept: Kept,
    class: KeyClass,
    material: Material,
}

/// A key that does not.
struct Lost {
    kept: Kept,
    reason: String,
}

/// What the old card knew of a key.
struct Kept {
    reference: u8,
    content: KeptKey,
    certificate: Option<Certificate>,
}

impl Kept {
    fn new(record: &CardRecord, key: &KeyRecord) -> Option<Self> {
        let content = KeptKey::of(record, KeyNumber::new(key.reference))?;
        let der = content.certificate.as_deref();
        let certificate = der.and_then(|der| Certificate::parse(der).ok());
        Some(Self {
            reference: key.reference,
            content,
            certificate,
        })
    }

    fn label(&self) -> Option<String> {
        self.content.label.as_deref().and_then(shortened)
    }

    /// How messages name it.
    fn title(&self) -> String {
        match self.label() {
            Some(label) => format!("{:02X} \"{}\"", self.reference, printable(&label)),
            None => format!("{:02X}", self.reference),
        }
    }

    fn subject(&self) -> Option<String> {
        let certificate = self.certificate.as_ref()?;
        Some(printable(&certificate.subject().to_string()))
    }
}

/// The keys of a record, by whether they can be brought back with this key.
fn open(
    path: &Path,
    record: &CardRecord,
    with: &RecoveryKey,
    daemon: &mut Daemon,
) -> Result<(Vec<Found>, Vec<Lost>), Failure> {
    let described = describe_keys(record)
        .map_err(|fault| Failure::usage(format!("{}: {fault}", path.display())))?;
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    for (key, description) in record.keys.iter().zip(described) {
        let Some(kept) = Kept::new(record, key) else {
            continue;
        };
        match open_key(key, description, with, daemon)? {
            Ok((class, material)) => found.push(Found {
                kept,
                class,
                material,
            }),
            Err(reason) => lost.push(Lost { kept, reason }),
        }
    }
    Ok((found, lost))
}

/// The private half of a key, or why it is lost. A failure is one of the recovery key's place.
fn open_key(
    key: &KeyRecord,
    description: Option<DescribedKey>,
    with: &RecoveryKey,
    daemon: &mut Daemon,
) -> Result<Result<(KeyClass, Material), String>, Failure> {
    let (info, opening) = match opening(key, description.as_ref(), with) {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    let agreed = with.agree(&opening.peer, daemon)?;
    let opened = opening.copy().open(&with.point.x, &agreed);
    Ok(opened
        .map_err(|error| error.to_string())
        .and_then(|recovered| material(recovered, &opening.public))
        .map(|material| (info.class, material)))
}

/// A copy that the recovery key may open.
struct Opening<'a> {
    name: &'a [u8; 34],
    target: &'a RecoveryTarget,
    public: PublicKey,
    peer: Point,
}

impl Opening<'_> {
    fn copy(&self) -> KeyCopy<'_> {
        KeyCopy {
            name: self.name,
            public: &self.public,
            private: &self.target.private,
            seed: &self.target.seed,
        }
    }
}

fn opening<'a>(
    key: &'a KeyRecord,
    description: Option<&'a DescribedKey>,
    with: &RecoveryKey,
) -> Result<(&'a KeyInfo, Opening<'a>), String> {
    let description = description.ok_or("its description in the file was changed")?;
    let DescribedKey { name, info } = description;
    if !info.is_recoverable {
        return Err("it is not recoverable".to_owned());
    }
    let target = with
        .target(key)
        .ok_or("it is recoverable by other keys than this one")?;
    let public = public_key(info).ok_or("its public half is impossible")?;
    let copy = KeyCopy {
        name,
        public: &public,
        private: &target.private,
        seed: &target.seed,
    };
    let peer = copy.peer().map_err(|error| error.to_string())?;
    let opening = Opening {
        name,
        target,
        public,
        peer,
    };
    Ok((info, opening))
}

fn material(recovered: Recovered, public: &PublicKey) -> Result<Material, String> {
    match (recovered, public) {
        (Recovered::Ec(scalar), PublicKey::Ec(public)) => Ok(Material::Ec {
            scalar: SecretBytes::new(scalar.to_vec()),
            x: public.x().to_vec(),
            y: public.y().to_vec(),
        }),
        (Recovered::Rsa(prime), PublicKey::Rsa(public)) => Ok(Material::Rsa {
            modulus: public.n().to_vec(),
            prime: SecretBytes::new(prime.to_vec()),
        }),
        _ => Err("its copy is of another kind".to_owned()),
    }
}

fn public_key(info: &KeyInfo) -> Option<PublicKey> {
    match (&info.public, info.algorithm) {
        (cardea_terms::PublicKey::Rsa { modulus, exponent }, _) => {
            PublicKey::from_rsa(modulus, &exponent.to_be_bytes()).ok()
        }
        (cardea_terms::PublicKey::Ec { x, y }, KeyAlgorithm::P384) => {
            PublicKey::from_ec(Curve::P384, x, y).ok()
        }
        (cardea_terms::PublicKey::Ec { x, y }, _) => PublicKey::from_ec(Curve::P256, x, y).ok(),
    }
}

impl Found {
    fn title(&self) -> String {
        self.kept.title()
    }

    /// Imports the key with what belongs to it; in its old place, which a new card has free.
    fn put_on(
        &self,
        card: &CardDetails,
        pin: &SecretBytes,
        daemon: &mut Daemon,
    ) -> Result<(), Failure> {
        let content = &self.kept.content;
        let is_rsa = matches!(self.material, Material::Rsa { .. });
        let imported = order(
            card,
            CardRequest::ImportKey {
                pin: Some(pin.clone()),
                key: NewKey {
                    label: self.kept.label(),
                    class: self.class,
                    sign_only: is_rsa && content.usage == KeyUsage::Signature,
                    id: content.catalogue_id.clone(),
                },
                material: copy_of(&self.material),
            },
            daemon,
        )?;
        let Reply::Key(key) = imported else {
            return Err(Daemon::unexpected());
        };
        self.rename(card, pin, &key, daemon)?;
        self.store_certificate(card, pin, &key, daemon)
    }

    /// The identifier that a client chose comes after the place.
    fn rename(
        &self,
        card: &CardDetails,
        pin: &SecretBytes,
        key: &KeySummary,
        daemon: &mut Daemon,
    ) -> Result<(), Failure> {
        let Some(id) = self.kept.content.client_id.clone() else {
            return Ok(());
        };
        let renamed = CardRequest::Rename {
            pin: Some(pin.clone()),
            thing: Thing::Key(key.reference),
            label: None,
            id: Some(id),
        };
        order(card, renamed, daemon).map(drop)
    }

    fn store_certificate(
        &self,
        card: &CardDetails,
        pin: &SecretBytes,
        key: &KeySummary,
        daemon: &mut Daemon,
    ) -> Result<(), Failure> {
        let Some(certificate) = &self.kept.certificate else {
            return Ok(());
        };
        let public = on_card::public_key(key)?;
        if !certificate.matches(&public) {
            let subject = printable(&certificate.subject().to_string());
            note(&format!(
                "certificate of {subject} not stored: for another key than {}",
                self.title()
            ));
            return Ok(());
        }
        let label = self.kept.content.certificate_label.as_deref();
        let stored = CardRequest::StoreCertificate {
            pin: Some(pin.clone()),
            reference: key.reference,
            der: certificate.der().to_vec(),
            label: label.and_then(shortened),
        };
        order(card, stored, daemon).map(drop)
    }
}

fn order(card: &CardDetails, request: CardRequest, daemon: &mut Daemon) -> Result<Reply, Failure> {
    let request = Request::card(card.summary.card_id.clone(), request);
    daemon.call(&request, "bringing the key back")
}

fn copy_of(material: &Material) -> Material {
    match material {
        Material::Ec { scalar, x, y } => Material::Ec {
            scalar: scalar.clone(),
            x: x.clone(),
            y: y.clone(),
        },
        Material::Rsa { modulus, prime } => Material::Rsa {
            modulus: modulus.clone(),
            prime: prime.clone(),
        },
    }
}

/// Names what is lost, so that somebody revokes the certificates and enrols again.
fn note_lost(lost: &[Lost]) {
    for key in lost {
        let title = key.kept.title();
        let certificate = match key.kept.subject() {
            Some(subject) => format!("have its certificate of {subject} revoked"),
            None => "it has no certificate".to_owned(),
        };
        note(&format!(
            "key {title} is lost: {}; {certificate}",
            key.reason
        ));
    }
}

fn with_lost(card: &CardDetails, lost: &[Lost]) -> Value {
    let lost: Vec<Value> = lost
        .iter()
        .map(|key| {
            json!({
                "reference": format!("{:02X}", key.kept.reference),
                "label": key.kept.label(),
                "subject": key.kept.subject(),
                "reason": key.reason,
            })
        })
        .collect();
    let mut value = details_json(card);
    if let Some(value) = value.as_object_mut() {
        value.insert("lost".into(), lost.into());
    }
    value
}
