//! Making and unmaking a card's objects in the TPM.

mod seal_policies;

use cardea_card::record::{
    Approval, CounterMode, IndexRecord, IndexRole, ObjectBlob, Provisional, SealedPolicies,
    SrkRecord, TpmRecord, Vault,
};
use cardea_card::secret::{Held, Pin};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use cardea_terms::Step;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::auth::{AuthValue, auth_value};
use crate::commands::Sensitive;
use crate::core::Core;
use crate::counter_object;
use crate::error::{ResponseCode, TpmError};
use crate::intent::{IntentIndex, NV_RANGE};
use crate::policy::{
    ApprovalId, Names, REF_INIT, a_hash, attestation_template, birth_public, cc, first_content,
    init_policy, is_made_from, is_of_card, name_of, nv_defined, nv_public, nv_written, role_ref,
    signed_hash, witness_template,
};
use crate::random::random;
use crate::seal::seal;
use crate::sealed::PolicySource;
use crate::session::Session;
use crate::trusted_record::Anchor;
use crate::vault::{AdminKey, make_vault};

/// Tries of the PIN.
pub const PIN_LIMIT: u32 = 5;
/// Tries of the PUK.
pub const PUK_LIMIT: u32 = 10;
/// Tries of the admin value: an answer has at least 64 bits, and a small limit would let anybody at the
/// reader lock the administrator out permanently.
pub const ADM_LIMIT: u32 = 10_000;

/// What a new card is made with.
#[derive(Debug)]
pub struct NewCard {
    /// The first values.
    pub secrets: NewSecrets,
    /// Tries of the PIN, 1 to 255: [`PIN_LIMIT`] unless somebody chose.
    pub pin_limit: u32,
    /// Tries of the PUK, 1 to 255: [`PUK_LIMIT`] unless somebody chose.
    pub puk_limit: u32,
    /// Where tries are counted: in NV unless somebody chose. Where a policy that reads a count sets it back, the owner
    /// alone reads those in NV.
    pub mode: CounterMode,
    /// Whether the card can prove all that it promises: it gets an attestation key, and its policies are sealed in one
    /// more index. For counters in NV that anybody may read.
    pub attests: bool,
}

/// First values of a card's indices.
#[derive(Debug)]
pub enum NewSecrets {
    /// For a card in operational state.
    Given {
        /// The first PIN.
        pin: Pin,
        /// The PUK, if there is to be one.
        puk: Option<Pin>,
        /// The admin key; none makes a card without administrator.
        admin_key: Option<AdminKey>,
    },
    /// Random ones, for a card in initialisation state; with an index for a PUK or without.
    Random {
        /// Whether there is to be a PUK.
        puk: bool,
    },
}

impl NewCard {
    /// With the usual numbers of tries.
    #[must_use]
    pub fn new(secrets: NewSecrets) -> Self {
        Self {
            secrets,
            pin_limit: PIN_LIMIT,
            puk_limit: PUK_LIMIT,
            mode: CounterMode::Nv,
            attests: false,
        }
    }
}

/// A card with a birth key, values and handles but nothing in NV yet. The birth key is erased with it.
pub struct PreparedCard {
    new: NewCard,
    admin: Option<Admin>,
    provisional: Option<Provisional>,
    /// Boxed: where it is moved it would leave a copy, and whoever finds one can take the card over.
    birth: Box<SigningKey>,
    birth_public: Vec<u8>,
    base: u32,
    /// The TPM's number of resets, for a card whose policies are to be sealed.
    made_at_reset: Option<u32>,
}

/// The administrator's part. Its vault takes a tenth of a second of key derivation, and the thread that
/// prepares a card has it; the TPM serves the other cards meanwhile.
struct Admin {
    value: AuthValue,
    masked_key: Held<24>,
    vault: Vault,
}

impl Admin {
    fn new(key: &AdminKey) -> Self {
        let mut value = AuthValue::zeroed();
        random(&mut *value);
        let mut mask = Held::zeroed();
        random(&mut *mask);
        Self {
            masked_key: key.masked(&mask),
            vault: make_vault(key, &value, &mask, &[], &mut random),
            value,
        }
    }
}

impl PreparedCard {
    pub(crate) fn new(
        new: NewCard,
        base: u32,
        made_at_reset: Option<u32>,
    ) -> Result<Self, TpmError> {
        let secret = birth_key();
        let point = secret.public_key().to_sec1_point(false);
        let coordinate = |bytes: Option<&_>| -> Option<[u8; 32]> {
            let bytes: &[u8] = AsRef::<[u8]>::as_ref(bytes?);
            bytes.try_into().ok()
        };
        let (Some(x), Some(y)) = (coordinate(point.x()), coordinate(point.y())) else {
            return Err(TpmError::Unfit("a birth key has no coordinates".into()));
        };
        let (admin, provisional) = match &new.secrets {
            NewSecrets::Given { admin_key, .. } => (admin_key.as_ref().map(Admin::new), None),
            NewSecrets::Random { puk } => (None, Some(provisional(*puk))),
        };
        Ok(Self {
            admin,
            provisional,
            new,
            birth: Box::new(SigningKey::from(secret)),
            birth_public: birth_public(&x, &y),
            base,
            made_at_reset,
        })
    }

    /// What is going to be defined, for the intent record.
    #[must_use]
    pub fn intent(&self) -> Vec<IntentIndex> {
        if self.new.mode == CounterMode::Object {
            // Nothing is left in the TPM.
            return Vec::new();
        }
        let source = self.source();
        self.roles()
            .map(|role| IntentIndex {
                handle: self.handle(role),
                policy: source.policy(role),
            })
            .chain(source.x())
            .collect()
    }

    /// What the policies of its indices follow from.
    fn source(&self) -> PolicySource {
        let sealed = self
            .made_at_reset
            .map(|made_at_reset| (self.base + X_OFFSET, made_at_reset));
        PolicySource::new(name_of(&self.birth_public), sealed)
    }

    /// Where tries will be counted: in NV, as this TPM needs it.
    #[must_use]
    pub fn mode(&self) -> CounterMode {
        self.new.mode
    }

    /// The random first values of a card in initialisation state, for its file.
    #[must_use]
    pub fn provisional(&self) -> Option<&Provisional> {
        self.provisional.as_ref()
    }

    fn roles(&self) -> impl Iterator<Item = IndexRole> {
        let (adm, puk) = match &self.new.secrets {
            NewSecrets::Given { puk, admin_key, .. } => (admin_key.is_some(), puk.is_some()),
            NewSecrets::Random { puk } => (true, *puk),
        };
        let adm = adm.then_some(IndexRole::Adm);
        let puk = puk.then_some(IndexRole::Puk);
        [Some(IndexRole::Pin), adm, puk].into_iter().flatten()
    }

    /// Role, value, limit and name for people of each index.
    fn values(&self, salt: &[u8; 16]) -> Vec<(IndexRole, AuthValue, u32)> {
        let mut values = Vec::new();
        for role in self.roles() {
            let limit = match role {
                IndexRole::Pin => self.new.pin_limit,
                IndexRole::Adm => ADM_LIMIT,
                IndexRole::Puk => self.new.puk_limit,
            };
            if let Some(value) = self.value(role, salt) {
                values.push((role, value, limit));
            }
        }
        values
    }

    fn value(&self, role: IndexRole, salt: &[u8; 16]) -> Option<AuthValue> {
        let typed = |secret: &Pin| auth_value(salt, role, secret.expose());
        match (&self.new.secrets, &self.provisional) {
            (_, Some(provisional)) => match role {
                IndexRole::Pin => provisional.pin,
                IndexRole::Adm => provisional.adm,
                IndexRole::Puk => provisional.puk,
            }
            .map(|first| AuthValue::copy_of(&first)),
            (NewSecrets::Given { pin, puk, .. }, None) => match role {
                IndexRole::Pin => Some(typed(pin)),
                IndexRole::Adm => self.admin.as_ref().map(|admin| admin.value.clone()),
                IndexRole::Puk => puk.as_ref().map(typed),
            },
            (NewSecrets::Random { .. }, None) => None,
        }
    }

    fn handle(&self, role: IndexRole) -> u32 {
        self.base
            + match role {
                IndexRole::Pin => 0,
                IndexRole::Adm => 1,
                IndexRole::Puk => 2,
            }
    }

    /// Public area of an index before its first write and after.
    fn public(&self, role: IndexRole, attributes: u32) -> Vec<u8> {
        nv_public(self.handle(role), attributes, &self.source().policy(role))
    }

    fn written_public(&self, role: IndexRole) -> Vec<u8> {
        self.public(role, nv_written(self.new.mode))
    }

    fn written_name(&self, role: IndexRole) -> [u8; 34] {
        name_of(&self.written_public(role))
    }

    fn defined_name(&self, role: IndexRole) -> [u8; 34] {
        name_of(&self.public(role, nv_defined(self.new.mode)))
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<[u8; 64], TpmError> {
        let signature: Signature = self
            .birth
            .sign_prehash(digest)
            .map_err(|_| TpmError::Unfit("the birth key could not sign".into()))?;
        Ok(signature.to_bytes().into())
    }
}

fn provisional(puk: bool) -> Provisional {
    let value = || {
        let mut value = [0; 32];
        random(&mut value);
        value
    };
    Provisional {
        pin: Some(value()),
        adm: Some(value()),
        puk: puk.then(value),
    }
}

/// Where the index with sealed policies is, after those of PIN, administrator and PUK.
const X_OFFSET: u32 = 3;

/// Where so many free handles begin, outside `taken` and outside what is defined. Cards begin at every third handle.
pub(crate) fn free_base(core: &mut Core, taken: &[u32], attests: bool) -> Result<u32, TpmError> {
    let last = if attests { X_OFFSET } else { X_OFFSET - 1 };
    let defined = core.link()?.tpm.handles(*NV_RANGE.start())?;
    NV_RANGE
        .step_by(3)
        .take_while(|base| NV_RANGE.contains(&(base + last)))
        .find(|base| {
            (*base..=base + last)
                .all(|handle| !taken.contains(&handle) && !defined.contains(&handle))
        })
        .ok_or_else(|| TpmError::Unfit("no index handle is free".into()))
}

/// Defines and initialises the indices, approves the policies, makes the vault.
/// Undefines what it defined if it fails.
pub(crate) fn create(
    core: &mut Core,
    card: u64,
    prepared: &PreparedCard,
    progress: &mut dyn FnMut(Step),
) -> Result<TpmRecord, TpmError> {
    let srk = core.srk_record()?;
    core.end_verifier();
    core.channel()?;
    if prepared.new.mode == CounterMode::Object {
        return create_objects(core, prepared, srk, progress);
    }
    progress(Step::LoadBirthKey);
    let birth = core.link()?.tpm.load_external(&prepared.birth_public)?;
    let made = create_with_birth(core, card, prepared, srk, birth, progress);
    core.flush(birth);
    if made.is_err() {
        for index in prepared.intent() {
            if let Err(error) = undefine(core, &index) {
                tracing::warn!(error = %error, "an index of a card that was not made is left");
            }
        }
    }
    made
}

/// A card whose counters are objects. No birth key approves anything for it.
fn create_objects(
    core: &mut Core,
    prepared: &PreparedCard,
    srk: SrkRecord,
    progress: &mut dyn FnMut(Step),
) -> Result<TpmRecord, TpmError> {
    let mut salt = [0; 16];
    random(&mut salt);
    let objects = counter_object::make_all(core, &prepared.values(&salt), progress)?;
    let adm = objects.iter().find(|object| object.role == IndexRole::Adm);
    let mut vault = None;
    let mut sealed_key = None;
    if let (Some(admin), Some(adm)) = (&prepared.admin, adm) {
        progress(Step::SealAdminKey);
        vault = Some(admin.vault.clone());
        sealed_key = Some(seal(core, &name_of(&adm.object.public), &admin.masked_key)?);
    }
    let record = TpmRecord {
        mode: CounterMode::Object,
        srk,
        salt,
        birth_public: Vec::new(),
        indices: Vec::new(),
        approvals: Vec::new(),
        vault,
        previous_vault: None,
        sealed_key,
        attestation_key: None,
        previous_sealed_key: None,
        counter_objects: Some(objects),
        sealed_policies: None,
        attestation_chain: None,
    };
    made_as_asked(&record)?;
    Ok(record)
}

fn made_as_asked(record: &TpmRecord) -> Result<(), TpmError> {
    Anchor::from_tpm_record(record, 0)
        .map(drop)
        .map_err(|fault| TpmError::Unfit(format!("the TPM made something else: {fault}")))
}

fn create_with_birth(
    core: &mut Core,
    card: u64,
    prepared: &PreparedCard,
    srk: SrkRecord,
    birth: u32,
    progress: &mut dyn FnMut(Step),
) -> Result<TpmRecord, TpmError> {
    let birth_name = name_of(&prepared.birth_public);
    let mut salt = [0; 16];
    random(&mut salt);
    let values = prepared.values(&salt);
    if prepared.made_at_reset.is_some() {
        seal_policies::define_x(core, prepared)?;
    }
    let mut indices = Vec::new();
    for (role, auth, limit) in &values {
        progress(Step::DefineCounter(*role));
        define_index(core, prepared, *role, auth)?;
        if prepared.made_at_reset.is_none() {
            let first = |core: &mut Core, session: &mut Session| {
                write_first(core, prepared, birth, session, *role, *limit)
            };
            in_session(core, card, first)?;
        }
        indices.push(IndexRecord {
            role: *role,
            handle: prepared.handle(*role),
            name: prepared.written_name(*role).to_vec(),
            limit: *limit,
        });
    }

    let name_of_role = |role| {
        indices
            .iter()
            .find(|index: &&IndexRecord| index.role == role)
            .map(|index| &index.name[..])
    };
    let names = Names {
        birth: &birth_name,
        pin: name_of_role(IndexRole::Pin).unwrap_or_default(),
        adm: name_of_role(IndexRole::Adm),
        puk: name_of_role(IndexRole::Puk),
    };
    progress(Step::ApprovePolicies);
    let mut approvals = Vec::new();
    let mut sealed_policies = None;
    match prepared.made_at_reset {
        None => approvals = approve_all(core, prepared, birth, &names)?,
        Some(made_at_reset) => {
            seal_policies::write(core, card, (prepared, birth), &names, &indices)?;
            sealed_policies = Some((prepared.base + X_OFFSET, made_at_reset));
        }
    }
    for index in &indices {
        check_written(core, prepared, index.role)?;
    }

    let mut vault = None;
    let mut sealed_key = None;
    if let (Some(admin), Some(adm_name)) = (&prepared.admin, names.adm) {
        progress(Step::SealAdminKey);
        vault = Some(admin.vault.clone());
        // The birth key's slot is the one that the new object needs next to the SRK's.
        sealed_key = Some(seal(core, adm_name, &admin.masked_key)?);
    }

    let mut attestation_key = None;
    let mut sealed = None;
    if let Some((handle, made_at_reset)) = sealed_policies {
        progress(Step::MakeAttestationKey);
        attestation_key = Some(make_signing_key(core, &attestation_template())?);
        sealed = Some(SealedPolicies {
            handle,
            made_at_reset,
            witness: make_signing_key(core, &witness_template(made_at_reset))?,
        });
    }

    let record = TpmRecord {
        mode: prepared.new.mode,
        srk,
        salt,
        birth_public: prepared.birth_public.clone(),
        indices,
        approvals,
        vault,
        previous_vault: None,
        sealed_key,
        attestation_key,
        previous_sealed_key: None,
        counter_objects: None,
        sealed_policies: sealed,
        attestation_chain: None,
    };
    made_as_asked(&record)?;
    Ok(record)
}

/// The policies that the birth key approves.
fn approve_all(
    core: &mut Core,
    prepared: &PreparedCard,
    birth: u32,
    names: &Names<'_>,
) -> Result<Vec<Approval>, TpmError> {
    let mut approvals = Vec::new();
    for id in ApprovalId::present(prepared.new.mode, names.adm.is_some(), names.puk.is_some()) {
        let Some(digest) = id.digest(names) else {
            continue;
        };
        let ticket = approve(core, prepared, birth, &digest, role_ref(id.role()))?;
        approvals.push(Approval {
            id: id.as_str().to_owned(),
            role: id.role(),
            digest,
            ticket,
        });
    }
    Ok(approvals)
}

/// A key below the storage root key that signs what the TPM says.
pub(crate) fn make_signing_key(core: &mut Core, template: &[u8]) -> Result<ObjectBlob, TpmError> {
    core.channel()?;
    core.room_for_key()?;
    let (tpm, srk, channel) = core.link()?.parts()?;
    let made = tpm.create(srk, channel, &Sensitive::default(), template)?;
    if !is_made_from(template, &made.public) {
        return Err(TpmError::Protocol {
            command: "Create",
            what: "not the template's key",
        });
    }
    Ok(ObjectBlob {
        private: made.private,
        public: made.public,
    })
}

/// Defines an index, which is good for nothing before its first write: that takes the birth key's fresh signature.
fn define_index(
    core: &mut Core,
    prepared: &PreparedCard,
    role: IndexRole,
    auth: &AuthValue,
) -> Result<(), TpmError> {
    let public = prepared.public(role, nv_defined(prepared.new.mode));
    define(core, &auth[..], &public)
}

/// Defines an index with this public area, which begins with its handle.
fn define(core: &mut Core, auth: &[u8], public: &[u8]) -> Result<(), TpmError> {
    let (tpm, _, channel) = core.link()?.parts()?;
    tpm.nv_define(channel, auth, public).map_err(full)?;
    require_public(core, public, "the TPM defined another index than asked")
}

fn check_written(
    core: &mut Core,
    prepared: &PreparedCard,
    role: IndexRole,
) -> Result<(), TpmError> {
    let public = prepared.written_public(role);
    let text = "a written index has another public area than expected";
    require_public(core, &public, text)
}

/// That an index is in the TPM with exactly this public area, which begins with its handle.
fn require_public(core: &mut Core, public: &[u8], text: &str) -> Result<(), TpmError> {
    let handle = public.first_chunk().map_or(0, |it| u32::from_be_bytes(*it));
    match core.link()?.tpm.nv_read_public(handle)? == public {
        true => Ok(()),
        false => Err(TpmError::Unfit(text.into())),
    }
}

/// In a policy session that is gone afterwards.
fn in_session(
    core: &mut Core,
    card: u64,
    work: impl FnOnce(&mut Core, &mut Session) -> Result<(), TpmError>,
) -> Result<(), TpmError> {
    let mut session = core.policy_session(card)?;
    let result = work(core, &mut session);
    if result.is_err() {
        core.flush(session.handle);
    }
    result
}

fn write_first(
    core: &mut Core,
    prepared: &PreparedCard,
    birth: u32,
    session: &mut Session,
    role: IndexRole,
    limit: u32,
) -> Result<(), TpmError> {
    let birth_name = name_of(&prepared.birth_public);
    let approved = init_policy(&birth_name);
    // Whatever becomes of this signature: the same birth key signs for no second creation.
    core.commit();
    let signature = prepared.sign(&signed_hash(&session.nonce_tpm, REF_INIT))?;
    let ticket = approve(core, prepared, birth, &approved, role_ref(role))?;
    let tpm = &mut core.link()?.tpm;
    if birth_key_signs() {
        tpm.policy_signed(birth, &birth_name, session, REF_INIT, &signature)?;
    }
    tpm.policy_command_code(session, cc::NV_WRITE)?;
    if tpm.policy_digest(session)? != approved {
        return Err(TpmError::Unfit(
            "the TPM computes policies in another way".into(),
        ));
    }
    tpm.policy_authorize(session, &approved, role_ref(role), &birth_name, &ticket)?;
    let handle = prepared.handle(role);
    let name = prepared.defined_name(role);
    tpm.nv_write(handle, &name, session, 0, &first_content(limit))
}

/// A new one for each card.
fn birth_key() -> p256::SecretKey {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::KnownBirthKey) || weakened::has(Weakness::OpenGate) {
        return crate::crypto::secret_scalar(&mut |bytes| bytes.fill(weakened::KNOWN_BIRTH_KEY[0]));
    }
    crate::crypto::secret_scalar(&mut random)
}

/// The approval alone would serve whoever comes later.
fn birth_key_signs() -> bool {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::ApprovedFirstWrite) {
        return false;
    }
    true
}

fn approve(
    core: &mut Core,
    prepared: &PreparedCard,
    birth: u32,
    digest: &[u8; 32],
    policy_ref: &[u8],
) -> Result<Vec<u8>, TpmError> {
    let a_hash = a_hash(digest, policy_ref);
    let signature = prepared.sign(&a_hash)?;
    core.link()?
        .tpm
        .verify_signature(birth, &a_hash, &signature)
}

/// Undefines an index if handle and policy are those of the intent; another or none is left alone.
pub(crate) fn undefine(core: &mut Core, intent: &IntentIndex) -> Result<(), TpmError> {
    if !NV_RANGE.contains(&intent.handle) {
        return Ok(());
    }
    let is_ours = |public: &[u8]| is_of_card(intent.handle, &intent.policy, public);
    undefine_if(core, intent.handle, is_ours).map(drop)
}

/// Undefines the index with this handle if it is there, and its public area is one of those that are meant. Whether it
/// did.
pub(crate) fn undefine_if(
    core: &mut Core,
    handle: u32,
    is_meant: impl FnOnce(&[u8]) -> bool,
) -> Result<bool, TpmError> {
    let tpm = &mut core.link()?.tpm;
    let public = match tpm.nv_read_public(handle) {
        Err(error) if error.code() == Some(ResponseCode::HANDLE) => return Ok(false),
        other => other?,
    };
    let is_meant = is_meant(&public);
    if is_meant {
        tpm.nv_undefine(handle, &name_of(&public))?;
    }
    Ok(is_meant)
}

/// No room, or no such kind of index (its attributes are refused): both leave the TPM without a counter.
pub(crate) fn full(error: TpmError) -> TpmError {
    match error.code() {
        Some(ResponseCode::NV_SPACE | ResponseCode::ATTRIBUTES | ResponseCode::RESERVED_BITS) => {
            TpmError::NvFull(Box::new(error))
        }
        _ => error,
    }
}
