//! Endorsement keys: what identifies a TPM to whoever vouches for its attestation keys (TCG EK Credential Profile 2.5).
//!
//! The maker leaves a certificate in an NV index, sometimes with the template that makes its key beside it. The key is
//! found by its persistent handle or made from the template, which takes some chips half a minute; it is not kept.

use crate::core::Core;
use crate::error::TpmError;
use crate::hierarchy::{ENDORSEMENT, Hierarchy};
use crate::policy::name_of;
use crate::status::is_set;
use crate::tpm::{Handle, Tpm};
use crate::wire::Reader;
use sha2::{Digest, Sha384};
use zeroize::Zeroizing;

/// An endorsement key of a TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsementKey {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// What the index with its certificate holds, with whatever lies behind the certificate; none: the TPM's maker has
    /// left none that can be read.
    pub certificate: Option<Vec<u8>>,
}

/// Where endorsement keys are persistent.
const PERSISTENT: std::ops::RangeInclusive<u32> = 0x8101_0000..=0x8101_FFFF;

/// Where the maker's indices are.
const INDICES: std::ops::RangeInclusive<u32> = 0x01C0_0000..=0x01C0_7FFF;

/// PolicySecret of the endorsement hierarchy: policy A of the profile, SHA-256.
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

/// That or what an index approves: policy B of the profile.
const POLICY_B: [(u16, &str); 2] = [
    (
        SHA256,
        "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0",
    ),
    (
        SHA384,
        "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
    ),
];

const SHA256: u16 = 0x000B;
const SHA384: u16 = 0x000C;
const RSA: u16 = 0x0001;
const ECC: u16 = 0x0023;
const P256: u16 = 0x0003;
const P384: u16 = 0x0004;
const AES: u16 = 0x0006;
const CFB: u16 = 0x0043;
const NULL: u16 = 0x0010;

/// A kind of endorsement key, and the indices that go with it.
struct Kind {
    certificate: u32,
    /// First bytes of `unique`, for the low range.
    nonce: Option<u32>,
    template: u32,
    name_alg: u16,
    size: Size,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Rsa(u16),
    Ecc(u16),
}

/// In the order of preference where several have a certificate.
const KINDS: [Kind; 6] = [
    Kind::low(0x01C0_0002, Size::Rsa(2048)),
    Kind::low(0x01C0_000A, Size::Ecc(P256)),
    Kind::high(0x01C0_0012, SHA256, Size::Rsa(2048)),
    Kind::high(0x01C0_0014, SHA256, Size::Ecc(P256)),
    Kind::high(0x01C0_0016, SHA384, Size::Ecc(P384)),
    Kind::high(0x01C0_001C, SHA384, Size::Rsa(3072)),
];

impl Kind {
    const fn low(certificate: u32, size: Size) -> Self {
        Self {
            certificate,
            nonce: Some(certificate + 1),
            template: certificate + 2,
            name_alg: SHA256,
            size,
        }
    }

    const fn high(certificate: u32, name_alg: u16, size: Size) -> Self {
        Self {
            certificate,
            nonce: None,
            template: certificate + 1,
            name_alg,
            size,
        }
    }

    /// The profile's template (annex B): TPMT_PUBLIC.
    fn default_template(&self) -> Vec<u8> {
        let is_low = self.nonce.is_some();
        let (attributes, policy) = if is_low {
            (0x0003_00B2_u32, POLICY_A)
        } else {
            let policy = POLICY_B.iter().find(|(hash, _)| *hash == self.name_alg);
            (0x0003_00F2, policy.map_or("", |(_, digest)| digest))
        };
        let policy = base16ct::lower::decode_vec(policy).unwrap_or_default();
        let aes = if self.name_alg == SHA256 { 128 } else { 256 };
        let mut template = Template(Vec::new());
        template.u16(match self.size {
            Size::Rsa(_) => RSA,
            Size::Ecc(_) => ECC,
        });
        template.u16(self.name_alg);
        template.0.extend(attributes.to_be_bytes());
        template.sized(&policy);
        for field in [AES, aes, CFB, NULL] {
            template.u16(field);
        }
        match self.size {
            Size::Rsa(bits) => {
                template.u16(bits);
                template.0.extend([0; 4]);
                template.sized(&vec![0; if is_low { usize::from(bits) / 8 } else { 0 }]);
            }
            Size::Ecc(curve) => {
                template.u16(curve);
                template.u16(NULL);
                for _ in 0..2 {
                    template.sized(if is_low { &[0; 32] } else { &[] });
                }
            }
        }
        template.0
    }
}

struct Template(Vec<u8>);

impl Template {
    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_be_bytes());
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        self.0.extend_from_slice(bytes);
    }
}

/// Everything before `unique` in a TPMT_PUBLIC of a storage key.
fn head(public: &[u8]) -> Result<&[u8], TpmError> {
    let mut reader = Reader::new("ReadPublic", public);
    let kind = reader.u16()?;
    reader.raw(6)?;
    reader.sized()?;
    // AES, its size and mode; no scheme.
    reader.raw(8)?;
    reader.raw(if kind == RSA { 6 } else { 4 })?;
    let rest = reader.rest().len();
    Ok(public.get(..public.len() - rest).unwrap_or_default())
}

impl EndorsementKey {
    /// Those with a certificate; where there is none, one without.
    pub(crate) fn read(core: &mut Core) -> Result<Vec<Self>, TpmError> {
        let mut found = Vec::new();
        for (kind, certificate) in kinds(core)? {
            let loaded = find(core, kind)?;
            loaded.unload(core);
            found.push(Self {
                public: loaded.public,
                certificate,
            });
        }
        Ok(found)
    }
}

/// A kind of endorsement key that the TPM has, and its certificate.
type Present = (&'static Kind, Option<Vec<u8>>);

/// The kinds of the TPM's endorsement keys, with their certificates.
fn kinds(core: &mut Core) -> Result<Vec<Present>, TpmError> {
    let indices = indices(core)?;
    let mut found = Vec::new();
    for kind in &KINDS {
        if indices.contains(&kind.certificate)
            && let Some(certificate) = read_index(&mut core.link()?.tpm, kind.certificate)?
        {
            found.push((kind, Some(certificate)));
        }
    }
    if found.is_empty() {
        let has_p256 = core.link()?.tpm.curves()?.contains(&P256);
        // A P-256 key is made in no time.
        let wanted = if has_p256 {
            Size::Ecc(P256)
        } else {
            Size::Rsa(2048)
        };
        let mut kinds = KINDS.iter().filter(|kind| kind.size == wanted);
        found.extend(kinds.next().map(|kind| (kind, None)));
    }
    Ok(found)
}

/// Where the maker has left something.
fn indices(core: &mut Core) -> Result<Vec<u32>, TpmError> {
    let mut indices = core.link()?.tpm.handles(*INDICES.start())?;
    indices.retain(|index| INDICES.contains(index));
    Ok(indices)
}

/// An endorsement key that can be used.
pub(crate) struct Loaded {
    handle: u32,
    public: Vec<u8>,
    is_persistent: bool,
}

impl Loaded {
    pub(crate) fn unload(&self, core: &mut Core) {
        if !self.is_persistent {
            core.flush(self.handle);
        }
    }

    /// Its Name, with its own hash.
    fn name(&self) -> Vec<u8> {
        match self.public.get(2..4) {
            Some([0x00, 0x0C]) => {
                let digest = Sha384::digest(&self.public);
                [&SHA384.to_be_bytes()[..], &digest].concat()
            }
            _ => name_of(&self.public).to_vec(),
        }
    }

    /// Whether it is used with its empty value (userWithAuth), and not by the policy of its hierarchy.
    fn takes_value(&self) -> bool {
        const USER_WITH_AUTH: u8 = 0x40;
        let last = self.public.get(7);
        last.is_some_and(|attributes| attributes & USER_WITH_AUTH != 0)
    }

    /// Opens what was encrypted to it for an attestation key: TPM2_ActivateCredential.
    pub(crate) fn open(
        &self,
        core: &mut Core,
        card: u64,
        attestation: Handle<'_>,
        sealed: (&[u8], &[u8]),
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let name = self.name();
        let own = Handle::named(self.handle, &name);
        core.channel()?;
        if self.takes_value() {
            let (tpm, _, channel) = core.link()?.parts()?;
            return tpm.activate_credential(attestation, (own, None), channel, sealed);
        }
        let mut session = core.policy_session(card)?;
        let (tpm, _, channel) = core.link()?.parts()?;
        let hierarchy = ENDORSEMENT.to_be_bytes();
        let opened = tpm
            .policy_secret(ENDORSEMENT, &hierarchy, channel, &[], &session, &[], 0)
            .and_then(|_| {
                let own = (own, Some(&mut session));
                tpm.activate_credential(attestation, own, channel, sealed)
            });
        if opened.is_err() {
            core.flush(session.handle);
        }
        opened
    }
}

/// The endorsement key with this number in the order of [`EndorsementKey::read`], loaded.
pub(crate) fn load(core: &mut Core, number: usize) -> Result<Loaded, TpmError> {
    let kinds = kinds(core)?;
    let kind = kinds.get(number).map(|(kind, _)| *kind);
    let kind = kind.ok_or_else(|| TpmError::Lost("the TPM has no such endorsement key".into()))?;
    if is_set(core, Hierarchy::Endorsement)? {
        return Err(TpmError::AuthMissing(Hierarchy::Endorsement));
    }
    find(core, kind)
}

/// A kind of key: a persistent one, or one that is made for the moment.
fn find(core: &mut Core, kind: &Kind) -> Result<Loaded, TpmError> {
    let indices = indices(core)?;
    let mut template = kind.default_template();
    if indices.contains(&kind.template)
        && let Some(own) = read_index(&mut core.link()?.tpm, kind.template)?
    {
        template = own;
    }
    let length = head(&template)?.len();
    if let Some(nonce) = kind.nonce.filter(|nonce| indices.contains(nonce))
        && let Some(nonce) = read_index(&mut core.link()?.tpm, nonce)?
        // Behind the size of the first field.
        && let Some(place) = template.get_mut(length + 2..length + 2 + nonce.len())
    {
        place.copy_from_slice(&nonce);
    }
    let mut persistent = core.link()?.tpm.handles(*PERSISTENT.start())?;
    persistent.retain(|handle| PERSISTENT.contains(handle));
    for handle in persistent {
        let public = core.link()?.tpm.read_public(handle)?;
        if public.get(..length) == template.get(..length) {
            return Ok(Loaded {
                handle,
                public,
                is_persistent: true,
            });
        }
    }
    if is_set(core, Hierarchy::Endorsement)? {
        return Err(TpmError::AuthMissing(Hierarchy::Endorsement));
    }
    let (handle, public) = core.link()?.tpm.create_in(ENDORSEMENT, &template)?;
    Ok(Loaded {
        handle,
        public,
        is_persistent: false,
    })
}

/// An index of the maker's, whole; none if nothing was written to it or nobody but the platform may read it.
fn read_index(tpm: &mut Tpm, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
    /// TPM_PT_NV_BUFFER_MAX, and the least that it can be.
    const BUFFER_MAX: u32 = 0x12C;
    const LEAST: u16 = 64;
    const OWNER_READ: u32 = 0x0002_0000;
    const AUTH_READ: u32 = 0x0004_0000;
    const WRITTEN: u32 = 0x2000_0000;

    let public = tpm.nv_read_public(index)?;
    let mut reader = Reader::new("NV_ReadPublic", &public);
    reader.u32()?;
    let name_alg = reader.u16()?;
    let attributes = reader.u32()?;
    reader.sized()?;
    let size = reader.u16()?;
    reader.finish()?;
    let name = name_of(&public);
    let by_owner = match attributes {
        _ if attributes & WRITTEN == 0 => return Ok(None),
        _ if attributes & AUTH_READ != 0 => None,
        _ if attributes & OWNER_READ != 0 && name_alg == SHA256 => Some(&name[..]),
        _ => return Ok(None),
    };
    let most = tpm.property(BUFFER_MAX)?.unwrap_or(0);
    let most = u16::try_from(most).unwrap_or(u16::MAX).max(LEAST);
    let mut content = Vec::new();
    for offset in (0..size).step_by(usize::from(most)) {
        let part = most.min(size - offset);
        content.extend(tpm.nv_read_part(index, by_owner, part, offset)?);
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_the_profiles() {
        let hex = |bytes: &[u8]| base16ct::lower::encode_string(bytes);
        let [rsa, p256, _, high, p384, _] = KINDS.map(|kind| kind.default_template());
        assert_eq!(rsa.len(), 314);
        assert_eq!(
            hex(head(&rsa).unwrap()),
            format!(
                "0001000b000300b20020{POLICY_A}00060080004300100800{}",
                "00000000"
            )
        );
        assert_eq!(
            hex(&p256),
            format!(
                "0023000b000300b20020{POLICY_A}000600800043001000030010{}{}{}{}",
                "0020",
                "00".repeat(32),
                "0020",
                "00".repeat(32)
            )
        );
        assert_eq!(
            hex(&high),
            format!(
                "0023000b000300f20020{}00060080004300100003001000000000",
                POLICY_B[0].1
            )
        );
        assert_eq!(
            hex(&p384),
            format!(
                "0023000c000300f20030{}00060100004300100004001000000000",
                POLICY_B[1].1
            )
        );
        for template in [&p256[..20], &[], &rsa[..55]] {
            assert!(head(template).is_err());
        }
    }
}
