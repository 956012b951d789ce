//! What a card's TPM says of the card: that its keys, its counters and its policies are what they are said to be
//! (docs/design/attestation.md). None of it takes a PIN, and none of it lets anybody use anything.

use cardea_card::record::{CardRecord, IndexRole, KeyRecord, ObjectBlob};
use zeroize::Zeroizing;

use crate::approve::approve;
use crate::commands::{Signing, Statement};
use crate::core::Core;
use crate::create::make_signing_key;
use crate::endorsement;
use crate::error::TpmError;
use crate::examination::{Obstacle, OptionalCommand};
use crate::operate::require_own_tpm;
use crate::policy::{
    ApprovalId, Comparison, X_SIZE, attestation_template, name_of, nv_public, nv_written,
};
use crate::sealed::Sealed;
use crate::session::Session;
use crate::tpm::Handle;
use crate::trusted_record::Anchor;

/// Bytes in a counter.
const COUNTER_SIZE: u16 = 8;

/// A card's evidence, before it is put together.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// TPMT_PUBLIC of the storage root key.
    pub storage_root_key: Vec<u8>,
    /// The witness of sealed policies, certified by the attestation key. None where the policies are approved ones, and
    /// until the TPM has been reset: what the indices hold is signed by the attestation key then.
    pub witness: Option<Statement>,
    /// The index with sealed policies first, then those of PIN, administrator and PUK. Of a card with approved policies
    /// its PIN's alone: nobody has approved more.
    pub indices: Vec<CertifiedIndex>,
    /// In the order in which they were asked for.
    pub keys: Vec<CertifiedKey>,
}

/// An index, and what it holds.
#[derive(Clone, Debug)]
pub struct CertifiedIndex {
    /// Whose secret it counts; none for the one with sealed policies.
    pub role: Option<IndexRole>,
    /// TPMS_NV_PUBLIC.
    pub public: Vec<u8>,
    /// TPM2_NV_Certify.
    pub statement: Statement,
}

/// A key that is where it is said to be.
#[derive(Clone, Debug)]
pub struct CertifiedKey {
    /// TPM2_Certify.
    pub statement: Statement,
    /// TPM2_CertifyCreation, of a recoverable key.
    pub creation: Option<Statement>,
}

/// What the attestation key says of itself and of the witness.
#[derive(Clone, Debug)]
pub struct CertifiedKeys {
    /// TPM2_Certify of the attestation key by itself.
    pub attestation_key: Statement,
    /// TPM2_Certify of the witness.
    pub witness: Option<Statement>,
}

/// What is encrypted for one attestation key and one TPM.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// Which of the TPM's endorsement keys, in the order of [`crate::Service::endorsement_keys`].
    pub endorsement_key: usize,
    /// Contents of TPM2B_ID_OBJECT.
    pub blob: Vec<u8>,
    /// Contents of TPM2B_ENCRYPTED_SECRET.
    pub seed: Vec<u8>,
}

/// Makes an attestation key for a card that has none.
pub(crate) fn make_key(core: &mut Core, anchor: &Anchor) -> Result<ObjectBlob, TpmError> {
    require_own_tpm(core, anchor)?;
    make_signing_key(core, &attestation_template())
}

/// The attestation key at work.
struct Attester<'a> {
    anchor: &'a Anchor,
    key: &'a ObjectBlob,
    name: [u8; 34],
    qualifying: &'a [u8],
    card: u64,
}

impl<'a> Attester<'a> {
    fn new(
        core: &mut Core,
        card: u64,
        anchor: &'a Anchor,
        qualifying: &'a [u8],
    ) -> Result<Self, TpmError> {
        let key = anchor.attestation_key.as_ref();
        let key = key.ok_or_else(|| TpmError::Lost("the card has no attestation key".into()))?;
        require_own_tpm(core, anchor)?;
        // Two sessions are needed beside the channel, and two keys are loaded at once.
        core.make_room();
        core.channel()?;
        Ok(Self {
            anchor,
            key,
            name: name_of(&key.public),
            qualifying,
            card,
        })
    }

    fn load(&self, core: &mut Core) -> Result<u32, TpmError> {
        core.load(&self.key.private, &self.key.public)
    }

    /// TPM2_Certify of a key below the storage root key.
    fn certify(&self, core: &mut Core, object: &ObjectBlob) -> Result<Statement, TpmError> {
        let own = self.load(core)?;
        let loaded = core.load(&object.private, &object.public)?;
        let name = name_of(&object.public);
        let (object, own) = (Handle::named(loaded, &name), Handle::named(own, &self.name));
        core.link()?.tpm.certify(object, own, self.qualifying)
    }

    fn certify_creation(&self, core: &mut Core, key: &KeyRecord) -> Result<Statement, TpmError> {
        let own = self.load(core)?;
        let loaded = core.load(&key.object.private, &key.object.public)?;
        let name = name_of(&key.object.public);
        core.link()?.tpm.certify_creation(
            Handle::named(loaded, &name),
            Handle::named(own, &self.name),
            self.qualifying,
            (&key.creation_hash, &key.creation_ticket),
        )
    }

    fn key(&self, core: &mut Core, key: &KeyRecord) -> Result<CertifiedKey, TpmError> {
        let statement = self.certify(core, &key.object)?;
        let creation = match key.recovery {
            Some(_) => Some(self.certify_creation(core, key)?),
            None => None,
        };
        // The slot is the next one's.
        core.unload(&key.object.public);
        Ok(CertifiedKey {
            statement,
            creation,
        })
    }

    /// All indices that evidence is given of, signed by the witness if it can already sign.
    fn indices(
        &self,
        core: &mut Core,
        witness: Option<&Sealed>,
    ) -> Result<Vec<CertifiedIndex>, TpmError> {
        let mut session = match witness {
            Some(_) => Some(core.open_policy_session(self.card)?),
            None => None,
        };
        let result = self.indices_in(core, witness, session.as_mut());
        if let Some(session) = session {
            core.flush(session.handle);
        }
        result
    }

    fn indices_in(
        &self,
        core: &mut Core,
        witness: Option<&Sealed>,
        mut session: Option<&mut Session>,
    ) -> Result<Vec<CertifiedIndex>, TpmError> {
        let mut certified = Vec::new();
        if let Some(sealed) = self.anchor.sealed() {
            let index = (sealed.handle, &sealed.name, X_SIZE);
            let signer = (witness, session.as_deref_mut());
            certified.push(CertifiedIndex {
                role: None,
                public: sealed.public.clone(),
                statement: self.nv_certify(core, signer, index, None)?,
            });
        }
        let is_shown = |role: IndexRole| role == IndexRole::Pin || self.anchor.sealed().is_some();
        let indices = self.anchor.indices().filter(|index| is_shown(index.role));
        for index in indices {
            let Some((handle, policy)) = index.nv() else {
                continue;
            };
            let mut reading = core.open_policy_session(self.card)?;
            let tpm = &mut core.link()?.tpm;
            let signer = (witness, session.as_deref_mut());
            let statement = approve(tpm, self.anchor, &reading, ApprovalId::P7).and_then(|()| {
                let place = (handle, &index.name, COUNTER_SIZE);
                self.nv_certify(core, signer, place, Some(&mut reading))
            });
            if statement.is_err() {
                core.flush(reading.handle);
            }
            certified.push(CertifiedIndex {
                role: Some(index.role),
                public: nv_public(handle, nv_written(self.anchor.mode), policy),
                statement: statement?,
            });
        }
        // An order of its own: PIN, administrator, PUK.
        certified.sort_by_key(|index| index.role);
        Ok(certified)
    }

    fn nv_certify(
        &self,
        core: &mut Core,
        (witness, session): (Option<&Sealed>, Option<&mut Session>),
        index: (u32, &[u8; 34], u16),
        reading: Option<&mut Session>,
    ) -> Result<Statement, TpmError> {
        let (Some(sealed), Some(session)) = (witness, session) else {
            let own = self.load(core)?;
            let signer = (Handle::named(own, &self.name), Signing::Open);
            let tpm = &mut core.link()?.tpm;
            return tpm.nv_certify(signer, index, reading, self.qualifying);
        };
        let loaded = core.load(&sealed.witness.private, &sealed.witness.public)?;
        let name = name_of(&sealed.witness.public);
        let tpm = &mut core.link()?.tpm;
        tpm.policy_resets(session, Comparison::Greater, sealed.made_at_reset)?;
        let signer = (Handle::named(loaded, &name), Signing::Policy(session));
        tpm.nv_certify(signer, index, reading, self.qualifying)
    }
}

/// A card's evidence. In the boot of its creation a card with sealed policies has no more of it than one without.
pub(crate) fn evidence(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    qualifying: &[u8; 32],
    keys: &[KeyRecord],
) -> Result<Evidence, TpmError> {
    if !core.link()?.tpm.has(OptionalCommand::NvCertify)? {
        let lacks = Obstacle::Lacks(OptionalCommand::NvCertify);
        return Err(TpmError::NoEvidence(lacks.to_string()));
    }
    let attester = Attester::new(core, card, anchor, qualifying)?;
    let storage_root_key = core.root_public()?;
    let resets = core.link()?.tpm.read_clock()?.resets;
    let sealed = anchor.sealed();
    let witness = sealed.filter(|sealed| resets != sealed.made_at_reset);
    let certified = match witness {
        Some(sealed) => Some(attester.certify(core, &sealed.witness)?),
        None => None,
    };
    let indices = attester.indices(core, witness)?;
    if let Some(sealed) = witness {
        core.unload(&sealed.witness.public);
    }
    let keys: Result<_, _> = keys.iter().map(|key| attester.key(core, key)).collect();
    Ok(Evidence {
        storage_root_key,
        witness: certified,
        indices,
        keys: keys?,
    })
}

/// TPMT_PUBLIC of the storage root key that the card is below.
pub(crate) fn storage_root_key(core: &mut Core, anchor: &Anchor) -> Result<Vec<u8>, TpmError> {
    require_own_tpm(core, anchor)?;
    core.root_public()
}

/// What goes with the answer to a challenge.
pub(crate) fn certify_own(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    qualifying: &[u8; 32],
) -> Result<CertifiedKeys, TpmError> {
    let attester = Attester::new(core, card, anchor, qualifying)?;
    let attestation_key = attester.certify(core, attester.key)?;
    let witness = match anchor.sealed() {
        Some(sealed) => Some(attester.certify(core, &sealed.witness)?),
        None => None,
    };
    Ok(CertifiedKeys {
        attestation_key,
        witness,
    })
}

/// One key, with whatever is to be signed with it: at most what the TPM's largest digest has, 32 bytes on any.
pub(crate) fn certify_key(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    qualifying: &[u8],
    key: &KeyRecord,
) -> Result<CertifiedKey, TpmError> {
    Attester::new(core, card, anchor, qualifying)?.key(core, key)
}

/// Opens what was encrypted for the card's attestation key and this TPM.
pub(crate) fn activate(
    core: &mut Core,
    card: u64,
    anchor: &Anchor,
    challenge: &Challenge,
) -> Result<Zeroizing<Vec<u8>>, TpmError> {
    let attester = Attester::new(core, card, anchor, &[])?;
    let attestation = attester.load(core)?;
    let endorsement = endorsement::load(core, challenge.endorsement_key)?;
    let opened = endorsement.open(
        core,
        card,
        Handle::named(attestation, &attester.name),
        (&challenge.blob, &challenge.seed),
    );
    endorsement.unload(core);
    opened
}

/// The key of a record with this reference.
pub(crate) fn key_of(record: &CardRecord, reference: u8) -> Result<KeyRecord, TpmError> {
    let mut keys = record.keys.iter();
    let found = keys.find(|key| key.reference == reference).cloned();
    found.ok_or_else(|| TpmError::Lost(format!("the card has no key {reference:02X}")))
}
