//! `cardea key import`: a key that was made elsewhere, and its certificate.

use std::path::Path;

use cardea_client::message::{
    CardDetails, CardRequest, KeySummary, NewKey, PrivateKey as Material, Reply, Request,
    SecretBytes,
};
use cardea_pki::{Certificate, Error, Pkcs12, PrivateKey, is_pem};

use crate::arguments::{NewKeyArguments, OutputArguments};
use crate::daemon::Daemon;
use crate::describe::print_new;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::on_card::{self, Stored, must_have_room, public_key, shortened, title};
use crate::terminal::output::note;
use crate::terminal::secret;

/// Where the key and the secrets come from.
pub(crate) struct Source<'a> {
    pub(crate) file: &'a Path,
    pub(crate) passphrase: &'a secret::Source<'a>,
    pub(crate) pin: &'a secret::Source<'a>,
}

/// The content of a file.
struct Found {
    key: PrivateKey,
    certificate: Option<Certificate>,
    others: Vec<Certificate>,
    name: Option<String>,
}

pub(crate) fn run(
    card: &CardDetails,
    source: &Source<'_>,
    options: &NewKeyArguments,
    output: OutputArguments,
    daemon: &mut Daemon,
) -> Result<(), Failure> {
    let found = read(source)?;
    let is_rsa = matches!(found.key, PrivateKey::Rsa(_));
    if options.sign_only && !is_rsa {
        return Err(Failure::usage("--sign-only applies to RSA keys only"));
    }
    if let Some(present) = present(card, &found.key) {
        return Err(Failure::usage(format!(
            "the card already has this key: {}",
            title(present)
        )));
    }
    if let Some(certificate) = &found.certificate {
        on_card::check_length(certificate.der())?;
    }
    must_have_room(card)?;
    let pin = secret::present("PIN", source.pin)?;
    let request = Request::card(
        card.summary.card_id.clone(),
        CardRequest::ImportKey {
            pin: Some(pin.clone()),
            key: NewKey {
                label: options.label.clone().or_else(|| found.name.clone()),
                class: options.class(),
                sign_only: options.sign_only,
                id: None,
            },
            material: material(&found.key),
        },
    );
    let mut key = match daemon.call(&request, "importing the key")? {
        Reply::Key(key) => *key,
        _ => return Err(Daemon::unexpected()),
    };
    drop(request);
    note(&format!(
        "key {} imported and permanently marked as imported: anyone with a copy of {} also has the key",
        title(&key),
        source.file.display()
    ));
    let mut stored = None;
    if let Some(certificate) = &found.certificate {
        on_card::store(card, key.reference, pin, certificate.der(), daemon).map_err(|failure| {
            Failure::new(
                failure.exit,
                format!("the key was imported, but its certificate was not stored: {failure}"),
            )
        })?;
        key.certificate = true;
        stored = Some(Stored::new(key.reference, certificate.der()));
        note(&format!(
            "certificate of {} stored with it",
            certificate.subject()
        ));
    }
    on_card::note_left_out(&found.others, found.key.public_key())?;
    print_new(card, &key, stored.as_ref(), output)
}

/// Reads the file, and asks for its passphrase if it needs one.
fn read(source: &Source<'_>) -> Result<Found, Failure> {
    let content = file::read(source.file)?;
    let given = source
        .passphrase
        .is_given()
        .then(|| secret::passphrase(source.passphrase))
        .transpose()?;
    let found = match parse(&content, given.as_deref().map(Vec::as_slice)) {
        Err(Error::PassphraseNeeded) if given.is_none() => {
            let typed = secret::passphrase(source.passphrase)?;
            parse(&content, Some(&typed))
        }
        other => other,
    };
    found.map_err(|error| {
        let exit = match error {
            Error::WrongPassphrase => Exit::PinWrong,
            _ => Exit::Usage,
        };
        Failure::new(exit, format!("{}: {error}", source.file.display()))
    })
}

fn parse(content: &[u8], passphrase: Option<&[u8]>) -> Result<Found, Error> {
    if !Pkcs12::looks_like(content) {
        let key = PrivateKey::parse(content, passphrase)?;
        // Beside the key in a PEM file.
        let all = match is_pem(content).then(|| Certificate::parse_all(content)) {
            None | Some(Err(Error::NoCertificate { .. })) => Vec::new(),
            Some(result) => result?,
        };
        let (certificate, others) = chosen(all, &key);
        return Ok(Found {
            name: certificate.as_ref().and_then(common_name),
            key,
            certificate,
            others,
        });
    }
    let file = Pkcs12::parse(content, passphrase)?;
    let (certificate, others) = chosen(file.certificates().to_vec(), file.key());
    Ok(Found {
        name: file
            .friendly_name()
            .and_then(shortened)
            .or_else(|| certificate.as_ref().and_then(common_name)),
        others,
        certificate,
        key: file.into_key(),
    })
}

fn common_name(certificate: &Certificate) -> Option<String> {
    certificate.subject().common_name().and_then(shortened)
}

/// The certificate that is stored with the key, and the others.
fn chosen(all: Vec<Certificate>, key: &PrivateKey) -> (Option<Certificate>, Vec<Certificate>) {
    let of_key = all
        .iter()
        .filter(|certificate| certificate.matches(key.public_key()));
    let certificate = on_card::newest(of_key).cloned();
    let others = all
        .iter()
        .filter(|other| Some(*other) != certificate.as_ref());
    let others = others.cloned().collect();
    (certificate, others)
}

/// The same key on the card.
fn present<'a>(card: &'a CardDetails, key: &PrivateKey) -> Option<&'a KeySummary> {
    card.keys
        .iter()
        .find(|present| public_key(present).is_ok_and(|public| public == *key.public_key()))
}

fn material(key: &PrivateKey) -> Material {
    match key {
        PrivateKey::Rsa(key) => Material::Rsa {
            modulus: key.n().to_vec(),
            prime: SecretBytes::new(key.p().to_vec()),
        },
        PrivateKey::Ec(key) => Material::Ec {
            scalar: SecretBytes::new(key.d().to_vec()),
            x: key.x().to_vec(),
            y: key.y().to_vec(),
        },
    }
}
