//! Private keys from files: PKCS#8 plain and encrypted, PKCS#1, SEC 1.

use std::fmt;

use cardea_terms::{RsaMisfit, RsaNumbers};
use der::Tag;
use p256::elliptic_curve::sec1::ToSec1Point;
use zeroize::Zeroizing;

use crate::asn1::{self, Reader};
use crate::error::quotable;
use crate::kind::rsa_kind;
use crate::pbe::{self, Passphrase};
use crate::pem::{self, Content};
use crate::public_key::{EXPONENT, read_curve};
use crate::{Curve, Error, KeyKind, MAX_INPUT, PublicKey, oid};

const WHAT: &str = "private key";

/// A private key of a kind that a card holds, in the parts that a TPM takes.
pub enum PrivateKey {
    /// On a curve.
    Ec(EcPrivateKey),
    /// RSA.
    Rsa(RsaPrivateKey),
}

/// An RSA private key; its exponent is 65537, and its primes make up its modulus.
pub struct RsaPrivateKey {
    public: PublicKey,
    n: Vec<u8>,
    p: Zeroizing<Box<[u8]>>,
    q: Zeroizing<Box<[u8]>>,
}

/// A private key on a curve, with the point that belongs to it.
pub struct EcPrivateKey {
    public: PublicKey,
    curve: Curve,
    d: Zeroizing<Box<[u8]>>,
    x: Vec<u8>,
    y: Vec<u8>,
}

impl PrivateKey {
    /// Reads the first private key of a file, PEM or DER.
    ///
    /// PKCS#8, encrypted PKCS#8 (PBES2, and the schemes of PKCS#12), PKCS#1 and SEC 1.
    /// A passphrase for a file that is not encrypted is not used.
    ///
    /// # Errors
    /// [`Error::UnsupportedKey`] says what key it is if no card holds it; [`Error::PassphraseNeeded`] and
    /// [`Error::WrongPassphrase`]; [`Error::NoKey`] says what the file has instead.
    pub fn parse(input: &[u8], passphrase: Option<&[u8]>) -> Result<Self, Error> {
        if input.len() > MAX_INPUT {
            return Err(Error::TooLarge(input.len()));
        }
        if !pem::is_pem(input) {
            return from_der(input, passphrase);
        }
        let mut others = Vec::new();
        for block in pem::blocks(input, WHAT)? {
            let label = block.label.as_str();
            match block.content {
                Content::OldEncryption => {
                    return Err(Error::Unsupported(
                        "the old encryption of PEM (convert with `openssl pkcs8 -topk8`)"
                            .to_owned(),
                    ));
                }
                Content::Der(der) => match label {
                    "PRIVATE KEY"
                    | "ENCRYPTED PRIVATE KEY"
                    | "RSA PRIVATE KEY"
                    | "EC PRIVATE KEY" => return from_der(&der, passphrase),
                    "OPENSSH PRIVATE KEY" => {
                        return Err(Error::Unsupported(
                            "the form of OpenSSH (convert with `ssh-keygen -p -m PKCS8`)"
                                .to_owned(),
                        ));
                    }
                    _ => others.push(quotable(label)),
                },
            }
        }
        others.dedup();
        Err(Error::NoKey {
            found: others.join(", "),
        })
    }

    /// What kind of key it is.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.public_key().kind()
    }

    /// The public key that belongs to it.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        match self {
            Self::Ec(key) => &key.public,
            Self::Rsa(key) => &key.public,
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.kind())
    }
}

impl RsaPrivateKey {
    /// The modulus, big-endian without leading zeros.
    #[must_use]
    pub fn n(&self) -> &[u8] {
        &self.n
    }

    /// The exponent, big-endian: 65537.
    #[must_use]
    pub const fn e(&self) -> &'static [u8] {
        &EXPONENT
    }

    /// The first prime, big-endian, half as long as the modulus.
    #[must_use]
    pub fn p(&self) -> &[u8] {
        &self.p
    }

    /// The second prime, big-endian, half as long as the modulus.
    #[must_use]
    pub fn q(&self) -> &[u8] {
        &self.q
    }
}

impl fmt::Debug for RsaPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPrivateKey({})", self.public.kind())
    }
}

impl EcPrivateKey {
    /// The key with a private scalar, which is as long as the field and comes from a good random source.
    ///
    /// # Errors
    /// [`Error::InconsistentKey`] if it is zero or not below the order of the curve: take another.
    pub fn new(curve: Curve, d: &[u8]) -> Result<Self, Error> {
        with_point(curve, pad(d, curve.field_len())?)
    }

    /// PrivateKeyInfo (RFC 5958, section 2), PEM, not encrypted: `openssl pkcs8` reads it.
    #[must_use]
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        let erased = |bytes: Vec<u8>| Zeroizing::new(bytes);
        let point = asn1::bits(&[&[4], &self.x[..], &self.y].concat());
        let scalar = erased(asn1::element(asn1::TAG_OCTET_STRING, &self.d));
        let version = asn1::unsigned(&[1]);
        let point = asn1::element(asn1::constructed(1), &point);
        let parts = erased([&version[..], &scalar, &point].concat());
        let key = erased(asn1::element(asn1::TAG_SEQUENCE, &parts));
        let key = erased(asn1::element(asn1::TAG_OCTET_STRING, &key));
        let algorithm =
            asn1::sequence(&[asn1::oid(oid::EC_PUBLIC_KEY), asn1::oid(self.curve.oid())]);
        let parts = erased([&asn1::unsigned(&[0])[..], &algorithm, &key].concat());
        let info = erased(asn1::element(asn1::TAG_SEQUENCE, &parts));
        Zeroizing::new(pem::encode("PRIVATE KEY", &info))
    }

    /// The curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The private scalar, big-endian, as long as the field.
    #[must_use]
    pub fn d(&self) -> &[u8] {
        &self.d
    }

    /// The first coordinate of the public point, as long as the field.
    #[must_use]
    pub fn x(&self) -> &[u8] {
        &self.x
    }

    /// The second coordinate of the public point, as long as the field.
    #[must_use]
    pub fn y(&self) -> &[u8] {
        &self.y
    }
}

impl fmt::Debug for EcPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EcPrivateKey({})", self.public.kind())
    }
}

/// Tells the forms apart by how they begin.
fn from_der(der: &[u8], passphrase: Option<&[u8]>) -> Result<PrivateKey, Error> {
    let fields = Reader::whole(der, WHAT)?;
    let mut look = fields.clone();
    if look.next_is(Tag::Sequence) {
        look.sequence()?;
        if look.next_is(Tag::OctetString) {
            let passphrase = passphrase.ok_or(Error::PassphraseNeeded)?;
            return from_encrypted_pkcs8(fields, &Passphrase::new(passphrase));
        }
        return Err(Error::NoKey {
            found: "something else, possibly a certificate".to_owned(),
        });
    }
    let version = look.small()?;
    if look.next_is(Tag::Sequence) {
        if version == 3 {
            return Err(Error::NoKey {
                found: "PKCS#12, which is read another way".to_owned(),
            });
        }
        return from_pkcs8(der);
    }
    if look.next_is(Tag::OctetString) {
        return from_sec1(der, None).map(PrivateKey::Ec);
    }
    from_pkcs1(der).map(PrivateKey::Rsa)
}

/// EncryptedPrivateKeyInfo (RFC 5958, section 3), from inside its SEQUENCE.
pub(crate) fn from_encrypted_pkcs8(
    mut fields: Reader<'_>,
    passphrase: &Passphrase,
) -> Result<PrivateKey, Error> {
    let mut algorithm = fields.clone();
    fields.sequence()?;
    let ciphertext = fields.octets()?;
    fields.finish()?;
    let plain = pbe::decrypt(&mut algorithm, ciphertext, passphrase)?;
    // One wrong passphrase of 256 leaves something that looks padded.
    if Reader::whole(&plain, WHAT).is_err() {
        return Err(Error::WrongPassphrase);
    }
    from_pkcs8(&plain)
}

/// PrivateKeyInfo or OneAsymmetricKey (RFC 5958, section 2).
pub(crate) fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, Error> {
    let mut info = Reader::whole(der, WHAT)?;
    if info.small()? > 1 {
        return Err(info.malformed());
    }
    let mut algorithm = info.sequence()?;
    let key = info.octets()?;
    if info.next_is(der::TagNumber(0).context_specific(true)) {
        // Attributes.
        info.any()?;
    }
    let public = match info.next_is(der::TagNumber(1).context_specific(false)) {
        // A BIT STRING of whole bytes, which begins with the number of unused bits.
        true => match info.any()?.value() {
            [0, bits @ ..] => Some(bits),
            _ => return Err(info.malformed()),
        },
        false => None,
    };
    info.finish()?;
    let key = match algorithm.oid()? {
        oid::RSA_ENCRYPTION => from_pkcs1(key).map(PrivateKey::Rsa)?,
        oid::EC_PUBLIC_KEY => {
            let curve = read_curve(&mut algorithm)?;
            from_sec1(key, Some(curve)).map(PrivateKey::Ec)?
        }
        other => {
            return Err(Error::UnsupportedKey {
                found: oid::describe(other),
            });
        }
    };
    let belongs = public.is_none_or(|bits| match &key {
        PrivateKey::Ec(key) => {
            PublicKey::from_ec_point(key.curve, bits).is_ok_and(|public| public == key.public)
        }
        PrivateKey::Rsa(key) => key.public.subject_public_key() == bits,
    });
    belongs.then_some(key).ok_or(Error::InconsistentKey(
        "its public key does not belong to its private part",
    ))
}

/// RSAPrivateKey (RFC 8017, appendix A.1.2).
fn from_pkcs1(der: &[u8]) -> Result<RsaPrivateKey, Error> {
    let mut key = Reader::whole(der, WHAT)?;
    let version = key.small()?;
    let n = key.unsigned()?;
    let e = key.unsigned()?;
    let d = key.unsigned()?;
    let p = key.unsigned()?;
    let q = key.unsigned()?;
    let (dp, dq, coefficient) = (key.unsigned()?, key.unsigned()?, key.unsigned()?);
    rsa_kind(n).map_err(|found| Error::UnsupportedKey { found })?;
    if version != 0 {
        return Err(Error::UnsupportedKey {
            found: "RSA with more than two primes".to_owned(),
        });
    }
    key.finish()?;
    let public = PublicKey::from_rsa(n, e)?;
    let numbers = RsaNumbers {
        modulus: n,
        private_exponent: Some(d),
        prime_1: p,
        prime_2: Some(q),
        exponent_1: Some(dp),
        exponent_2: Some(dq),
        coefficient: Some(coefficient),
    };
    numbers.check().map_err(|misfit| {
        Error::InconsistentKey(match misfit {
            RsaMisfit::Coefficient => "its coefficient is not the inverse of its second prime",
            RsaMisfit::Exponent1 => "its first exponent does not belong to its first prime",
            RsaMisfit::Exponent2 => "its second exponent does not belong to its second prime",
            RsaMisfit::Length => "its primes are not half as long as its modulus",
            RsaMisfit::Primes => "its modulus is not the product of its primes",
            RsaMisfit::PrivateExponent => "its private exponent does not belong to its public key",
        })
    })?;
    Ok(RsaPrivateKey {
        public,
        n: n.to_vec(),
        p: Zeroizing::new(p.into()),
        q: Zeroizing::new(q.into()),
    })
}

/// ECPrivateKey (RFC 5915); inside PKCS#8 the curve is named outside.
fn from_sec1(der: &[u8], outside: Option<Curve>) -> Result<EcPrivateKey, Error> {
    let mut key = Reader::whole(der, WHAT)?;
    if key.small()? != 1 {
        return Err(key.malformed());
    }
    let scalar = key.octets()?;
    let inside = match key.constructed(0)? {
        Some(mut parameters) => Some(read_curve(&mut parameters)?),
        None => None,
    };
    let point = match key.constructed(1)? {
        Some(mut point) => Some(point.bits()?),
        None => None,
    };
    key.finish()?;
    let curve = match (outside, inside) {
        (Some(outside), Some(inside)) if outside != inside => {
            return Err(Error::InconsistentKey("it names two curves"));
        }
        (Some(curve), _) | (None, Some(curve)) => curve,
        (None, None) => {
            return Err(Error::UnsupportedKey {
                found: "one on a curve that the file does not name".to_owned(),
            });
        }
    };

    let key = with_point(curve, pad(scalar, curve.field_len())?)?;
    if let Some(point) = point
        && PublicKey::from_ec_point(curve, point)? != key.public
    {
        return Err(Error::InconsistentKey(
            "its public point does not belong to its private part",
        ));
    }
    Ok(key)
}

/// The key with a scalar as long as the field.
fn with_point(curve: Curve, d: Zeroizing<Box<[u8]>>) -> Result<EcPrivateKey, Error> {
    let own = public_of(curve, &d)?;
    let PublicKey::Ec(public) = &own else {
        return Err(Error::Malformed { what: WHAT });
    };
    Ok(EcPrivateKey {
        curve,
        d,
        x: public.x().to_vec(),
        y: public.y().to_vec(),
        public: own,
    })
}

/// The scalar with as many leading zeros as make it as long as the field.
fn pad(scalar: &[u8], len: usize) -> Result<Zeroizing<Box<[u8]>>, Error> {
    let mut out = Zeroizing::new(vec![0; len].into_boxed_slice());
    let scalar = asn1::strip_zeros(scalar);
    let start = len
        .checked_sub(scalar.len())
        .ok_or(Error::InconsistentKey(BAD_SCALAR))?;
    for (to, from) in out.iter_mut().skip(start).zip(scalar) {
        *to = *from;
    }
    Ok(out)
}

const BAD_SCALAR: &str = "its private part is not below the order of the curve, or zero";

fn public_of(curve: Curve, d: &[u8]) -> Result<PublicKey, Error> {
    let wrong = |_| Error::InconsistentKey(BAD_SCALAR);
    let point = match curve {
        Curve::P256 => p256::SecretKey::from_slice(d)
            .map_err(wrong)?
            .public_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec(),
        Curve::P384 => p384::SecretKey::from_slice(d)
            .map_err(wrong)?
            .public_key()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec(),
    };
    PublicKey::from_ec_point(curve, &point)
}
