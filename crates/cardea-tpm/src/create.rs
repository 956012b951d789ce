//! Making and unmaking a card's objects in the TPM.

use cardea_card::record::{
    Approval, CounterMode, IndexRecord, IndexRole, Provisional, SrkRecord, TpmRecord, Vault,
};
use cardea_card::secret::{Held, Pin};
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};
use cardea_terms::Step;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::auth::{AuthValue, auth_value};
use crate::core::Core;
use crate::counter_object;
use crate::error::{ResponseCode, TpmError};
use crate::intent::IntentIndex;
use crate::policy::{
    ApprovalId, NV_FORMS, Names, REF_INIT, a_hash, birth_public, cc, index_policy, init_policy,
    name_of, nv_defined, nv_public, nv_written, role_ref, signed_hash,
};
use crate::random::random;
use crate::seal::seal;
use crate::session::Session;
use crate::trusted_record::{Anchor, NV_RANGE};
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
    pub(crate) fn new(new: NewCard, base: u32) -> Result<Self, TpmError> {
        let secret = crate::crypto::secret_scalar(&mut random);
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
        })
    }

    /// What is going to be defined, for the intent record.
    #[must_use]
    pub fn intent(&self) -> Vec<IntentIndex> {
        if self.new.mode == CounterMode::Object {
            // Nothing is left in the TPM.
            return Vec::new();
        }
        let birth_name = name_of(&self.birth_public);
        self.roles()
            .map(|role| IntentIndex {
                handle: self.handle(role),
                policy: index_policy(&birth_name, role),
            })
            .collect()
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

/// The first free triple outside `taken` and outside what is defined.
pub(crate) fn free_base(core: &mut Core, taken: &[u32]) -> Result<u32, TpmError> {
    let defined = core.link()?.tpm.handles(*NV_RANGE.start())?;
    NV_RANGE
        .step_by(3)
        .take_while(|base| NV_RANGE.contains(&(base + 2)))
        .find(|base| {
            (*base..base + 3).all(|handle| !taken.contains(&handle) && !defined.contains(&handle))
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

    let mut indices = Vec::new();
    for (role, auth, limit) in prepared.values(&salt) {
        progress(Step::DefineCounter(role));
        let name = make_index(core, card, prepared, birth, role, &auth, limit)?;
        indices.push(IndexRecord {
            role,
            handle: prepared.handle(role),
            name: name.to_vec(),
            limit,
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
    for id in ApprovalId::present(prepared.new.mode, names.adm.is_some(), names.puk.is_some()) {
        let Some(digest) = id.digest(&names) else {
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

    let mut vault = None;
    let mut sealed_key = None;
    if let (Some(admin), Some(adm_name)) = (&prepared.admin, names.adm) {
        progress(Step::SealAdminKey);
        vault = Some(admin.vault.clone());
        // The birth key's slot is the one that the new object needs next to the SRK's.
        sealed_key = Some(seal(core, adm_name, &admin.masked_key)?);
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
        attestation_key: None,
        previous_sealed_key: None,
        counter_objects: None,
    };
    made_as_asked(&record)?;
    Ok(record)
}

/// Defines one index and writes it once, under a policy that only the birth key's fresh signature opens.
fn make_index(
    core: &mut Core,
    card: u64,
    prepared: &PreparedCard,
    birth: u32,
    role: IndexRole,
    auth: &AuthValue,
    limit: u32,
) -> Result<[u8; 34], TpmError> {
    let birth_name = name_of(&prepared.birth_public);
    let handle = prepared.handle(role);
    let policy = index_policy(&birth_name, role);
    let defined = nv_public(handle, nv_defined(prepared.new.mode), &policy);
    let (tpm, _, channel) = core.link()?.parts()?;
    tpm.nv_define(channel, auth, &defined).map_err(full)?;
    if tpm.nv_read_public(handle)? != defined {
        return Err(TpmError::Unfit(
            "the TPM defined another index than asked".into(),
        ));
    }
    let mut session = core.policy_session(card)?;
    let written = write_first(core, prepared, birth, &mut session, role, limit);
    if written.is_err() {
        core.flush(session.handle);
    }
    written?;
    let public = core.link()?.tpm.nv_read_public(handle)?;
    if public != nv_public(handle, nv_written(prepared.new.mode), &policy) {
        return Err(TpmError::Unfit(
            "a written index has another public area than expected".into(),
        ));
    }
    Ok(name_of(&public))
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
    let name = name_of(&nv_public(
        handle,
        nv_defined(prepared.new.mode),
        &index_policy(&birth_name, role),
    ));
    let mut data = [0; 8];
    let (_, pin_limit) = data.split_at_mut(4);
    pin_limit.copy_from_slice(&limit.to_be_bytes());
    tpm.nv_write(handle, &name, session, 0, &data)
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
    let is_ours = |public: &[u8]| {
        NV_FORMS
            .iter()
            .any(|attributes| public == nv_public(intent.handle, *attributes, &intent.policy))
    };
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
