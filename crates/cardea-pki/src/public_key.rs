//! Public keys: SPKI and OpenSSH.

use base64ct::{Base64, Encoding};
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::asn1::{self, Reader};
use crate::kind::rsa_kind;
use crate::pem::{self, Content};
use crate::{Curve, Error, KeyKind, oid};

const WHAT: &str = "public key";
/// 65537.
pub(crate) const EXPONENT: [u8; 3] = [1, 0, 1];

/// A public key of a kind that a card holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// On a curve.
    Ec(EcPublicKey),
    /// RSA.
    Rsa(RsaPublicKey),
}

/// An RSA public key; its exponent is 65537.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RsaPublicKey {
    n: Vec<u8>,
    kind: KeyKind,
}

/// A point on a curve; that it lies there was checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EcPublicKey {
    curve: Curve,
    /// Uncompressed: 4, x, y.
    point: Vec<u8>,
}

impl PublicKey {
    /// An RSA key from its modulus and exponent, big-endian.
    ///
    /// # Errors
    /// [`Error::UnsupportedKey`] for other sizes, [`Error::Exponent`] for an exponent other than 65537.
    pub fn from_rsa(n: &[u8], e: &[u8]) -> Result<Self, Error> {
        let n = asn1::strip_zeros(n);
        let kind = rsa_kind(n).map_err(|found| Error::UnsupportedKey { found })?;
        if asn1::strip_zeros(e) != EXPONENT {
            return Err(Error::Exponent);
        }
        if n.last().is_none_or(|last| last % 2 == 0) {
            return Err(Error::InconsistentKey("the modulus is even"));
        }
        let n = n.to_vec();
        Ok(Self::Rsa(RsaPublicKey { n, kind }))
    }

    /// A key on a curve from its coordinates, big-endian; shorter ones are filled up.
    ///
    /// # Errors
    /// [`Error::InconsistentKey`] if the point is not on the curve.
    pub fn from_ec(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, Error> {
        let mut point = vec![4];
        for coordinate in [x, y] {
            let coordinate = asn1::strip_zeros(coordinate);
            let zeros = curve
                .field_len()
                .checked_sub(coordinate.len())
                .ok_or(NOT_ON_CURVE)?;
            point.resize(point.len() + zeros, 0);
            point.extend_from_slice(coordinate);
        }
        Self::from_ec_point(curve, &point)
    }

    /// A key on a curve from a point as SEC 1 writes it, compressed or not.
    ///
    /// # Errors
    /// [`Error::InconsistentKey`] if it is not a point of the curve.
    pub fn from_ec_point(curve: Curve, point: &[u8]) -> Result<Self, Error> {
        let point = match curve {
            Curve::P256 => p256::PublicKey::from_sec1_bytes(point)
                .map(|key| key.to_sec1_point(false).as_bytes().to_vec()),
            Curve::P384 => p384::PublicKey::from_sec1_bytes(point)
                .map(|key| key.to_sec1_point(false).as_bytes().to_vec()),
        }
        .map_err(|_| NOT_ON_CURVE)?;
        Ok(Self::Ec(EcPublicKey { curve, point }))
    }

    /// Reads a SubjectPublicKeyInfo, DER or PEM (`PUBLIC KEY`).
    ///
    /// # Errors
    /// [`Error::UnsupportedKey`] for keys that no card holds, [`Error::Malformed`] for damaged ones.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        if input.len() > crate::MAX_INPUT {
            return Err(Error::TooLarge(input.len()));
        }
        if !pem::is_pem(input) {
            return Self::from_spki(input);
        }
        for block in pem::blocks(input, WHAT)? {
            if let ("PUBLIC KEY", Content::Der(der)) = (block.label.as_str(), &block.content) {
                return Self::from_spki(der);
            }
        }
        Err(Error::Malformed { what: WHAT })
    }

    fn from_spki(der: &[u8]) -> Result<Self, Error> {
        let mut spki = Reader::whole(der, WHAT)?;
        let mut algorithm = spki.sequence()?;
        let bits = spki.bits()?;
        spki.finish()?;
        match algorithm.oid()? {
            // A key that a certificate restricts to PSS (RFC 4055, section 1.2) is the same key, and parameters, which
            // should be NULL and are sometimes absent, say nothing of it.
            oid::RSA_ENCRYPTION | oid::RSASSA_PSS => {
                let mut key = Reader::whole(bits, WHAT)?;
                let (n, e) = (key.unsigned()?, key.unsigned()?);
                key.finish()?;
                Self::from_rsa(n, e)
            }
            oid::EC_PUBLIC_KEY => Self::from_ec_point(read_curve(&mut algorithm)?, bits),
            other => Err(Error::UnsupportedKey {
                found: oid::describe(other),
            }),
        }
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        match self {
            Self::Ec(key) => key.curve.key_kind(),
            Self::Rsa(key) => key.kind,
        }
    }

    /// The SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
    #[must_use]
    pub fn to_spki_der(&self) -> Vec<u8> {
        let algorithm = match self {
            Self::Ec(key) => [asn1::oid(oid::EC_PUBLIC_KEY), asn1::oid(key.curve.oid())],
            Self::Rsa(_) => [
                asn1::oid(oid::RSA_ENCRYPTION),
                asn1::element(asn1::TAG_NULL, &[]),
            ],
        };
        asn1::sequence(&[
            asn1::sequence(&algorithm),
            asn1::bits(&self.subject_public_key()),
        ])
    }

    /// The SubjectPublicKeyInfo as PEM (`PUBLIC KEY`).
    #[must_use]
    pub fn to_spki_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.to_spki_der())
    }

    /// The line that OpenSSH wants in `authorized_keys`; no line end, control characters of the comment left out.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> String {
        let (name, parts) = match self {
            Self::Ec(key) => {
                let curve = match key.curve {
                    Curve::P256 => "nistp256",
                    Curve::P384 => "nistp384",
                };
                (
                    format!("ecdsa-sha2-{curve}"),
                    vec![curve.as_bytes().to_vec(), key.point.clone()],
                )
            }
            // The modulus has its highest bit set, and the numbers are signed ones.
            Self::Rsa(key) => (
                "ssh-rsa".to_owned(),
                vec![EXPONENT.to_vec(), [&[0], key.n.as_slice()].concat()],
            ),
        };
        let mut blob = ssh_string(name.as_bytes());
        for part in &parts {
            blob.extend(ssh_string(part));
        }
        let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
        let line = format!("{name} {} {}", Base64::encode_string(&blob), comment.trim());
        line.trim_end().to_owned()
    }

    /// The bits inside the SubjectPublicKeyInfo.
    pub(crate) fn subject_public_key(&self) -> Vec<u8> {
        match self {
            Self::Ec(key) => key.point.clone(),
            Self::Rsa(key) => asn1::sequence(&[asn1::unsigned(&key.n), asn1::unsigned(&EXPONENT)]),
        }
    }
}

impl RsaPublicKey {
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
}

impl EcPublicKey {
    /// The curve.
    #[must_use]
    pub const fn curve(&self) -> Curve {
        self.curve
    }

    /// The point as SEC 1 writes it, uncompressed: 4, x, y.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// The first coordinate, as long as the field.
    #[must_use]
    pub fn x(&self) -> &[u8] {
        self.point
            .get(1..1 + self.curve.field_len())
            .unwrap_or_default()
    }

    /// The second coordinate, as long as the field.
    #[must_use]
    pub fn y(&self) -> &[u8] {
        self.point
            .get(1 + self.curve.field_len()..)
            .unwrap_or_default()
    }
}

const NOT_ON_CURVE: Error = Error::InconsistentKey("the public point is not on the curve");

/// The curve that parameters name.
pub(crate) fn read_curve(parameters: &mut Reader<'_>) -> Result<Curve, Error> {
    if parameters.next_is(der::Tag::Sequence) {
        return Err(Error::UnsupportedKey {
            found: "one on a curve that is described instead of named".to_owned(),
        });
    }
    let named = parameters.oid()?;
    Curve::from_oid(named).ok_or_else(|| Error::UnsupportedKey {
        found: oid::describe(named),
    })
}

/// A string of SSH (RFC 4251, section 5).
fn ssh_string(bytes: &[u8]) -> Vec<u8> {
    // No key has four gigabytes.
    let len = u32::try_from(bytes.len()).unwrap_or_default();
    [&len.to_be_bytes(), bytes].concat()
}
