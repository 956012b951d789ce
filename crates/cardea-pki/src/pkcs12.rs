//! PKCS#12 (RFC 7292): a key and its certificates in one file.
//!
//! A parser of our own over the `der` crate (RustCrypto, Apache-2.0 OR MIT, in the generation that the workspace already
//! has), because no library fits. `p12-keystore` 0.4.1 (MIT OR Apache-2.0) refuses the BER that Firefox writes (our
//! `nss.p12`), never erases a key, brings `x509-parser`, `nom` and `rand`, and stands on pre-releases: RustCrypto's
//! `pkcs12` 0.2.0-pre.0 and `cms` 0.3.0-pre.1 (Apache-2.0 OR MIT), which by themselves are types without decryption of
//! these files. Ciphers, digests and HMAC are RustCrypto's; what is ours is structure, in two hundred lines.

use cardea_terms::tame;
use der::asn1::ObjectIdentifier;
use der::{Tag, TagNumber};
use zeroize::Zeroizing;

use crate::asn1::Reader;
use crate::name::bmp_text;
use crate::pbe::{self, Hash, Passphrase};
use crate::pem::{self, Content};
use crate::private_key::{from_encrypted_pkcs8, from_pkcs8};
use crate::{Certificate, Error, MAX_INPUT, PrivateKey, ber, oid};

const WHAT: &str = "PKCS#12 file";
/// Bags inside bags.
const MAX_DEPTH: usize = 8;
/// Each may be encrypted by itself, and each decryption is slow. OpenSSL and NSS write two.
const MAX_SAFES: usize = 16;

/// What a PKCS#12 file holds: one key, and certificates.
#[derive(Debug)]
pub struct Pkcs12 {
    key: PrivateKey,
    certificates: Vec<Certificate>,
    friendly_name: Option<String>,
}

impl Pkcs12 {
    /// Reads a file: DER, the BER that NSS writes, or PEM (`PKCS12`).
    ///
    /// Its MAC must be right: a file without one is refused. PBES2 with PBKDF2 or scrypt and AES or 3DES, and the older
    /// PBE-SHA1-3DES and PBE-SHA1-RC2; HMAC with the derivation of PKCS#12 or PBMAC1.
    /// No passphrase and the empty one are the same.
    ///
    /// # Errors
    /// [`Error::WrongPassphrase`] and [`Error::PassphraseNeeded`]; [`Error::SeveralKeys`] and [`Error::NoKey`];
    /// [`Error::UnsupportedKey`] says what key it is if no card holds it.
    pub fn parse(input: &[u8], passphrase: Option<&[u8]>) -> Result<Self, Error> {
        if input.len() > MAX_INPUT {
            return Err(Error::TooLarge(input.len()));
        }
        if !pem::is_pem(input) {
            return from_der(input, passphrase);
        }
        for block in pem::blocks(input, WHAT)? {
            if let ("PKCS12", Content::Der(der)) = (block.label.as_str(), &block.content) {
                return from_der(der, passphrase);
            }
        }
        Err(Error::Malformed { what: WHAT })
    }

    /// Whether a file begins as PKCS#12 does, sound or not: to tell it from the files of
    /// [`PrivateKey::parse`].
    #[must_use]
    pub fn looks_like(input: &[u8]) -> bool {
        if pem::is_pem(input) {
            return pem::blocks(input, WHAT)
                .is_ok_and(|blocks| blocks.iter().any(|block| block.label == "PKCS12"));
        }
        // A SEQUENCE of whatever length, and version 3, which no private key has.
        let content = match input {
            [0x30, len @ 0x81..=0x84, rest @ ..] => rest.get(usize::from(len & 0x7f)..),
            [0x30, _, rest @ ..] => Some(rest),
            _ => None,
        };
        content.is_some_and(|content| content.starts_with(&[2, 1, 3]))
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The key, taken out.
    #[must_use]
    pub fn into_key(self) -> PrivateKey {
        self.key
    }

    /// All certificates, the key's and others, in the order of the file.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The name that people see, of the key or of its certificate; control characters are replaced.
    #[must_use]
    pub fn friendly_name(&self) -> Option<&str> {
        self.friendly_name.as_deref()
    }
}

fn from_der(input: &[u8], passphrase: Option<&[u8]>) -> Result<Pkcs12, Error> {
    let der = ber::to_der(input, WHAT)?;
    let mut pfx = Reader::whole(&der, WHAT)?;
    if pfx.small()? != 3 {
        return Err(pfx.malformed());
    }
    let mut auth_safe = pfx.sequence()?;
    match auth_safe.oid()? {
        oid::PKCS7_DATA => {}
        other => return Err(Error::Unsupported(oid::describe(other))),
    }
    let content = auth_safe
        .constructed(0)?
        .ok_or_else(|| auth_safe.malformed())?
        .octets()?;
    if pfx.is_empty() {
        return Err(Error::Unsupported("PKCS#12 without a MAC".to_owned()));
    }
    let mac = pfx.sequence()?;
    pfx.finish()?;
    let passphrase = check_mac(mac, content, passphrase)?;

    let mut found = Found::default();
    let content = ber::to_der(content, WHAT)?;
    let mut infos = Reader::whole(&content, WHAT)?;
    let mut safes = 0;
    while !infos.is_empty() {
        safes += 1;
        if safes > MAX_SAFES {
            return Err(infos.malformed());
        }
        let mut info = infos.sequence()?;
        match info.oid()? {
            oid::PKCS7_DATA => {
                let plain = info
                    .constructed(0)?
                    .ok_or_else(|| info.malformed())?
                    .octets()?;
                found.read_safe(plain, &passphrase)?;
            }
            oid::PKCS7_ENCRYPTED => {
                let data = info.constructed(0)?.ok_or_else(|| info.malformed())?;
                found.read_safe(&decrypt_data(data, &passphrase)?, &passphrase)?;
            }
            other => return Err(Error::Unsupported(oid::describe(other))),
        }
    }
    found.finish()
}

/// The passphrase in the form that makes the MAC right.
fn check_mac(
    mut mac: Reader<'_>,
    content: &[u8],
    passphrase: Option<&[u8]>,
) -> Result<Passphrase, Error> {
    let mut digest_info = mac.sequence()?;
    let mut algorithm = digest_info.sequence()?;
    let expected = digest_info.octets()?;
    let salt = mac.octets()?;
    let iterations = match mac.is_empty() {
        true => 1,
        false => mac.small()?,
    };
    let scheme = algorithm.oid()?;
    mac.finish()?;
    digest_info.finish()?;

    let mut forms = vec![Passphrase::new(passphrase.unwrap_or_default())];
    if passphrase.is_none_or(<[u8]>::is_empty) {
        forms.push(Passphrase::absent());
    }
    for form in forms {
        let is_right = if scheme == oid::PBMAC1 {
            pbe::pbmac1_is_right(algorithm.clone().sequence()?, &form, content, expected)?
        } else {
            let hash = Hash::from_oid(scheme).ok_or_else(|| {
                Error::Unsupported(format!("a MAC with {}", oid::describe(scheme)))
            })?;
            if !algorithm.is_empty() {
                algorithm.clone().null()?;
            }
            hash.pkcs12_mac_is_right(&form, salt, iterations, content, expected)?
        };
        if is_right {
            return Ok(form);
        }
    }
    Err(match passphrase {
        None => Error::PassphraseNeeded,
        Some(_) => Error::WrongPassphrase,
    })
}

/// EncryptedData (RFC 5652, section 8).
fn decrypt_data(
    mut data: Reader<'_>,
    passphrase: &Passphrase,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut data = data.sequence()?;
    data.small()?;
    let mut content = data.sequence()?;
    if content.oid()? != oid::PKCS7_DATA {
        return Err(content.malformed());
    }
    let mut algorithm = content.clone();
    content.sequence()?;
    // [0] IMPLICIT OCTET STRING: whole, or in pieces.
    if content.next_is(TagNumber(0).context_specific(false)) {
        return pbe::decrypt(&mut algorithm, content.any()?.value(), passphrase);
    }
    let mut pieces = content.constructed(0)?.ok_or_else(|| content.malformed())?;
    let mut ciphertext = Vec::new();
    while !pieces.is_empty() {
        ciphertext.extend_from_slice(pieces.octets()?);
    }
    pbe::decrypt(&mut algorithm, &ciphertext, passphrase)
}

/// What was found so far.
#[derive(Default)]
struct Found {
    /// The first key, and its name.
    key: Option<(Result<PrivateKey, Error>, Option<String>)>,
    /// All keys; those behind the first are not decrypted.
    count: usize,
    certificates: Vec<(Certificate, Option<String>)>,
}

impl Found {
    /// SafeContents (RFC 7292, section 4.2).
    fn read_safe(&mut self, bytes: &[u8], passphrase: &Passphrase) -> Result<(), Error> {
        let der = ber::to_der(bytes, WHAT)?;
        self.read_bags(Reader::whole(&der, WHAT)?, passphrase, 0)
    }

    fn read_bags(
        &mut self,
        mut bags: Reader<'_>,
        passphrase: &Passphrase,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(bags.malformed());
        }
        while !bags.is_empty() {
            let mut bag = bags.sequence()?;
            let kind = bag.oid()?;
            let mut value = bag.constructed(0)?.ok_or_else(|| bag.malformed())?;
            let name = friendly_name(&mut bag)?;
            self.read_bag(kind, &mut value, name, passphrase, depth)?;
        }
        Ok(())
    }

    fn read_bag(
        &mut self,
        kind: ObjectIdentifier,
        value: &mut Reader<'_>,
        name: Option<String>,
        passphrase: &Passphrase,
        depth: usize,
    ) -> Result<(), Error> {
        match kind {
            oid::BAG_KEY | oid::BAG_SHROUDED_KEY => {
                self.count += 1;
                if self.key.is_some() {
                    return Ok(());
                }
                let key = match kind {
                    oid::BAG_KEY => from_pkcs8(value.encoded()?),
                    _ => from_encrypted_pkcs8(value.sequence()?, passphrase),
                };
                self.key = Some((key, name));
            }
            oid::BAG_CERTIFICATE => {
                let mut bag = value.sequence()?;
                if bag.oid()? == oid::X509_CERTIFICATE {
                    let der = bag
                        .constructed(0)?
                        .ok_or_else(|| bag.malformed())?
                        .octets()?;
                    self.certificates.push((Certificate::from_der(der)?, name));
                }
            }
            oid::BAG_SAFE_CONTENTS => {
                self.read_bags(value.sequence()?, passphrase, depth + 1)?;
            }
            // Revocation lists and what somebody calls a secret.
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Pkcs12, Error> {
        let (key, mut friendly_name) = match (self.key, self.count) {
            (Some((key, name)), 1) => (key?, name),
            (Some(_), count) => return Err(Error::SeveralKeys(count)),
            (None, _) => {
                return Err(Error::NoKey {
                    found: match self.certificates.len() {
                        0 => "nothing".to_owned(),
                        count => format!("{count} certificates only"),
                    },
                });
            }
        };
        for (found, name) in &self.certificates {
            if found.matches(key.public_key()) {
                friendly_name = friendly_name.or_else(|| name.clone());
            }
        }
        let certificates = self.certificates.into_iter();
        Ok(Pkcs12 {
            key,
            certificates: certificates.map(|(certificate, _)| certificate).collect(),
            friendly_name,
        })
    }
}

/// The name among a bag's attributes.
fn friendly_name(bag: &mut Reader<'_>) -> Result<Option<String>, Error> {
    if !bag.next_is(Tag::Set) {
        return Ok(None);
    }
    let mut attributes = bag.set()?;
    let mut found = None;
    while !attributes.is_empty() {
        let mut attribute = attributes.sequence()?;
        let kind = attribute.oid()?;
        let mut values = attribute.set()?;
        if kind == oid::FRIENDLY_NAME && values.next_is(Tag::BmpString) {
            found = bmp_text(values.any()?.value());
        }
    }
    let shown = found.map(|name| tame(&name));
    Ok(shown.filter(|name| !name.is_empty()))
}
