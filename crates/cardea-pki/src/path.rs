//! Certification paths: from a certificate to an authority that the caller trusts.
//!
//! For certificates of TPMs and of what TPMs attest, not for hosts on the web: subjects may be empty, names are
//! directory names, and the purpose is one of the TCG's.
//!
//! Of RFC 5280, section 6: signatures, validity, names of issuers (compared byte by byte), basic constraints with
//! their path length, key usage, critical extensions. Name constraints and policy constraints are not evaluated, and
//! a certificate in which they are critical is refused. Revocation is a question to the caller.

mod certificate;
mod signed;

pub(crate) use certificate::key_identifier;
pub use certificate::{PathCertificate, RawPublicKey};
pub(crate) use signed::verify;

use crate::KeyUsage;

/// The most certificates in a path, both ends included.
const MAX_DEPTH: usize = 8;
/// The most signatures that are checked for one path, whatever the intermediate certificates look like.
const MAX_CHECKS: usize = 64;

/// What is wrong with a certificate or its path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Signed with what is too weak or not known.
    #[error("the signature algorithm {0} is not accepted")]
    Algorithm(String),
    /// Something that must be understood is not.
    #[error("a critical extension is not known: {0}")]
    CriticalExtension(String),
    /// It cannot be read.
    #[error("the certificate is damaged, or its encoding is not DER")]
    Encoding,
    /// Its time is over.
    #[error("a certificate is no longer valid")]
    Expired,
    /// It is followed by something.
    #[error("other bytes follow the certificate")]
    Junk,
    /// Authorities that issue each other.
    #[error("the chain does not lead to a trusted authority but back to itself")]
    Loop,
    /// The issuer may not issue.
    #[error("the issuer is not a certification authority")]
    NotAnAuthority,
    /// Its time has not begun.
    #[error("a certificate is not valid yet")]
    NotYetValid,
    /// Too many authorities below one.
    #[error("an authority has more authorities below it than its certificate allows")]
    PathLength,
    /// The authority may issue other certificates only.
    #[error("an authority is for other purposes than this")]
    Purpose,
    /// The caller knows it as revoked.
    #[error("a certificate has been revoked")]
    Revoked,
    /// Not made with the issuer's key.
    #[error("the signature of a certificate is invalid")]
    Signature,
    /// More certificates or signatures than are looked at.
    #[error("the chain is too long")]
    TooLong,
    /// The issuer is not among those that are trusted, nor below one of them.
    #[error("no trusted authority issued the certificate")]
    UnknownIssuer,
}

/// What a path may consist of, and when.
#[derive(Clone, Copy)]
pub struct PathRules<'a> {
    /// Authorities that are trusted: where a path ends. They need not be self-signed.
    pub anchors: &'a [PathCertificate],
    /// Certificates that may lie between; nothing is believed of them.
    pub intermediates: &'a [PathCertificate],
    /// Seconds since 1970: all certificates of the path must be valid then.
    pub now: i64,
    /// The extended key usage that an authority must allow, if it names any: a dotted object identifier.
    pub purpose: &'a str,
    /// Whether a certificate has been revoked.
    pub is_revoked: &'a dyn Fn(&PathCertificate) -> bool,
}

impl PathRules<'_> {
    /// Finds a path for a certificate: its issuers in order, the trusted authority last.
    ///
    /// A certificate that is itself trusted is its own path, and the result is empty.
    ///
    /// # Errors
    /// [`PathError`], of the first path that was tried.
    pub fn validate(&self, leaf: &PathCertificate) -> Result<Vec<&PathCertificate>, PathError> {
        self.check_one(leaf)?;
        if self.is_anchor(leaf) {
            return Ok(Vec::new());
        }
        let mut checks = 0;
        let mut issuers = Vec::new();
        self.climb(leaf, &mut issuers, &mut checks)?;
        Ok(issuers)
    }

    fn is_anchor(&self, certificate: &PathCertificate) -> bool {
        self.anchors
            .iter()
            .any(|anchor| anchor.der() == certificate.der())
    }

    /// What must hold for each certificate by itself.
    fn check_one(&self, certificate: &PathCertificate) -> Result<(), PathError> {
        if let Some(unknown) = certificate.unknown_critical() {
            return Err(PathError::CriticalExtension(unknown.to_owned()));
        }
        if self.now < certificate.not_before() {
            return Err(PathError::NotYetValid);
        }
        if self.now > certificate.not_after() {
            return Err(PathError::Expired);
        }
        if (self.is_revoked)(certificate) {
            return Err(PathError::Revoked);
        }
        Ok(())
    }

    /// What must hold for an authority above `below` others, those that issued themselves not counted.
    fn check_issuer(&self, issuer: &PathCertificate, below: usize) -> Result<(), PathError> {
        self.check_one(issuer)?;
        let limit = issuer.authority().ok_or(PathError::NotAnAuthority)?;
        if !issuer.allows(KeyUsage::KeyCertSign) {
            return Err(PathError::NotAnAuthority);
        }
        if limit.is_some_and(|limit| u64::try_from(below).is_ok_and(|below| below > limit)) {
            return Err(PathError::PathLength);
        }
        match issuer.extended_key_usages() {
            Some(usages)
                if !usages
                    .iter()
                    .any(|usage| usage == self.purpose || usage == ANY) =>
            {
                Err(PathError::Purpose)
            }
            _ => Ok(()),
        }
    }

    fn climb<'a>(
        &'a self,
        certificate: &PathCertificate,
        issuers: &mut Vec<&'a PathCertificate>,
        checks: &mut usize,
    ) -> Result<(), PathError> {
        // With the leaf and the next issuer.
        if issuers.len() + 2 > MAX_DEPTH {
            return Err(PathError::TooLong);
        }
        let below = issuers
            .iter()
            .filter(|issuer| !issuer.is_self_issued())
            .count();
        let mut first_error = None;
        let mut looped = false;
        let all = self.anchors.iter().chain(self.intermediates);
        for issuer in all.filter(|issuer| issuer.subject().der() == certificate.issuer().der()) {
            if issuer.der() == certificate.der()
                || issuers.iter().any(|known| known.der() == issuer.der())
            {
                looped = true;
                continue;
            }
            *checks += 1;
            if *checks > MAX_CHECKS {
                return Err(PathError::TooLong);
            }
            let tried = signed::check(certificate, issuer)
                .and_then(|()| self.check_issuer(issuer, below))
                .and_then(|()| {
                    issuers.push(issuer);
                    if self.is_anchor(issuer) {
                        return Ok(());
                    }
                    self.climb(issuer, issuers, checks)
                        .inspect_err(|_| _ = issuers.pop())
                });
            match tried {
                Ok(()) => return Ok(()),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(if looped {
            PathError::Loop
        } else {
            PathError::UnknownIssuer
        }))
    }
}

/// `anyExtendedKeyUsage`.
const ANY: &str = "2.5.29.37.0";
