//! Storage root keys: found, judged, made, and made again.
//!
//! A card belongs to the storage root key whose Name it recorded. Salting to a key with that Name keeps
//! values from whoever sits between us and the TPM, because the Name is computed from the public area here.

use cardea_card::record::SrkRecord;
#[cfg(feature = "weakened")]
use cardea_card::weakened::{self, Weakness};

use crate::crypto::StorageKey;
use crate::error::{ResponseCode, TpmError};
use crate::policy::{SrkForm, name_of, srk_head, srk_template};
use crate::rsa_key;
use crate::tpm::Tpm;
use crate::wire::Reader;

/// The usual persistent handle of the storage root key; recorded for one that has no persistent slot, too.
const SRK: u32 = 0x8100_0001;
/// Last handle that a storage root key may move to.
const LAST_SRK: u32 = 0x8100_FFFF;

/// A storage key that sessions are salted to and objects hang from.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    pub(crate) handle: u32,
    pub(crate) name: [u8; 34],
    pub(crate) key: StorageKey,
    /// Whether it lives as long as the connection: there was no persistent slot for it.
    pub(crate) is_transient: bool,
    /// What makes it again; not asked yet where it was found.
    template: Option<Vec<u8>>,
}

/// A storage root key that cards have recorded.
#[derive(Clone, Debug)]
pub(crate) struct RecordedRoot {
    pub(crate) name: [u8; 34],
    /// TPMT_PUBLIC of the template that makes it again.
    pub(crate) template: Vec<u8>,
}

impl SrkForm {
    fn of(public: &[u8]) -> Option<(Self, &[u8])> {
        Self::ALL
            .into_iter()
            .find_map(|form| Some((form, public.strip_prefix(&srk_head(form)[..])?)))
    }

    /// Templates in use: with an empty unique field, and with one of zeros.
    fn templates(self) -> [Vec<u8>; 2] {
        let mut zeros = srk_head(self);
        let field: &[u16] = match self {
            Self::Ecc => &[32, 32],
            Self::Rsa => &[256],
        };
        for length in field {
            zeros.extend_from_slice(&length.to_be_bytes());
            zeros.resize(zeros.len() + usize::from(*length), 0);
        }
        [srk_template(self), zeros]
    }
}

impl Parent {
    /// None: the key has another form than cards need.
    pub(crate) fn from_public(handle: u32, public: &[u8]) -> Option<Self> {
        let (form, unique) = SrkForm::of(public)?;
        let mut reader = Reader::new("ReadPublic", unique);
        let key = match form {
            SrkForm::Ecc => StorageKey::Ecc {
                x: padded(reader.sized().ok()?)?,
                y: padded(reader.sized().ok()?)?,
            },
            SrkForm::Rsa => StorageKey::Rsa(Box::new(padded(reader.sized().ok()?)?)),
        };
        reader.finish().ok()?;
        Some(Self {
            handle,
            name: name_of(public),
            key,
            is_transient: false,
            template: None,
        })
    }

    /// One that new cards may have, as far as the public area tells.
    fn usable(handle: u32, public: &[u8]) -> Option<Self> {
        Self::from_public(handle, public).filter(|parent| !parent.is_weak())
    }

    /// Whether anybody can compute its private part, and so what is wrapped or salted to it.
    fn is_weak(&self) -> bool {
        match &self.key {
            StorageKey::Ecc { .. } => false,
            StorageKey::Rsa(modulus) => rsa_key::is_suspect(&**modulus),
        }
    }

    fn form(&self) -> SrkForm {
        match self.key {
            StorageKey::Ecc { .. } => SrkForm::Ecc,
            StorageKey::Rsa(_) => SrkForm::Rsa,
        }
    }

    /// Handle, Name and the template that makes it again; empty where it was made from an unknown one.
    pub(crate) fn record(&mut self, tpm: &mut Tpm) -> Result<SrkRecord, TpmError> {
        self.can_be_made_again(tpm)?;
        Ok(SrkRecord {
            handle: if self.is_transient { SRK } else { self.handle },
            name: self.name.to_vec(),
            template: self.template.clone().unwrap_or_default(),
        })
    }

    /// Whether a known template makes it. A key below another one, which its maker knows the private half of, is
    /// not so made.
    fn can_be_made_again(&mut self, tpm: &mut Tpm) -> Result<bool, TpmError> {
        if self.template.is_none() {
            let mut found = Vec::new();
            for template in self.form().templates() {
                let (transient, public) = tpm.create_primary(&template)?;
                tpm.flush(transient)?;
                if name_of(&public) == self.name {
                    found = template;
                    break;
                }
            }
            self.template = Some(found);
        }
        Ok(self.template.as_ref().is_some_and(|made| !made.is_empty()))
    }
}

/// A number at its full length: parts may strip leading zeros.
fn padded<const N: usize>(short: &[u8]) -> Option<[u8; N]> {
    let mut full = [0; N];
    full.get_mut(N.checked_sub(short.len())?..)?
        .copy_from_slice(short);
    Some(full)
}

fn persistent(tpm: &mut Tpm) -> Result<Vec<u32>, TpmError> {
    let mut handles = tpm.handles(0x8100_0000)?;
    handles.retain(|handle| (0x8100_0000..=LAST_SRK).contains(handle));
    Ok(handles)
}

/// The storage root key of new cards: one that cards have recorded already, whose Name nobody can have put in
/// place since; else the first suitable one from 0x81000001 on that a known template makes again; else one made
/// now. On a TPM without cards, what it answers now is believed: there is nothing yet to compare it with.
pub(crate) fn for_new_cards(tpm: &mut Tpm, recorded: &[RecordedRoot]) -> Result<Parent, TpmError> {
    #[cfg(feature = "weakened")]
    if weakened::has(Weakness::PlantedRoot) {
        return for_others(tpm);
    }
    for root in recorded {
        match of_card(tpm, &root.name, &root.template, true) {
            Ok(mut parent) => {
                if !parent.is_weak() && parent.can_be_made_again(tpm)? {
                    return Ok(parent);
                }
            }
            Err(TpmError::Foreign) => {}
            Err(error) => return Err(error),
        }
    }
    for mut parent in suitable(tpm)? {
        if parent.can_be_made_again(tpm)? {
            return Ok(parent);
        }
    }
    make(tpm, &srk_template(SrkForm::Ecc))
}

/// A storage root key for what belongs to no card: the first suitable one, which need not be made again and so
/// takes no authorisation of the owner's; else one made now.
pub(crate) fn for_others(tpm: &mut Tpm) -> Result<Parent, TpmError> {
    match suitable(tpm)?.into_iter().next() {
        Some(parent) => Ok(parent),
        None => make(tpm, &srk_template(SrkForm::Ecc)),
    }
}

/// Persistent keys from 0x81000001 on that have a form which cards accept and an empty authorisation, and are not
/// weak.
fn suitable(tpm: &mut Tpm) -> Result<Vec<Parent>, TpmError> {
    let mut found = Vec::new();
    for handle in persistent(tpm)? {
        if handle < SRK {
            continue;
        }
        let public = tpm.read_public(handle)?;
        if let Some(parent) = Parent::usable(handle, &public)
            && tpm.authorises_empty(handle, &parent.name)?
        {
            found.push(parent);
        }
    }
    Ok(found)
}

/// The storage root key with this Name, wherever it is; made again from its template where it is not.
/// [`TpmError::Foreign`] when the template makes another key (the TPM was cleared or is another one), or when that
/// is known and it need not be tried.
pub(crate) fn of_card(
    tpm: &mut Tpm,
    name: &[u8; 34],
    template: &[u8],
    may_be_made: bool,
) -> Result<Parent, TpmError> {
    for handle in persistent(tpm)? {
        let public = tpm.read_public(handle)?;
        if name_of(&public) == *name {
            return Parent::from_public(handle, &public).ok_or(TpmError::Foreign);
        }
    }
    if !may_be_made {
        return Err(TpmError::Foreign);
    }
    // A file does not make the TPM create what no card has.
    if !is_known(template) {
        return Err(TpmError::Foreign);
    }
    let (transient, public) = tpm.create_primary(template)?;
    if name_of(&public) != *name {
        tpm.flush(transient)?;
        return Err(TpmError::Foreign);
    }
    keep(tpm, template, transient, &public)
}

fn make(tpm: &mut Tpm, template: &[u8]) -> Result<Parent, TpmError> {
    let (transient, public) = tpm.create_primary(template)?;
    keep(tpm, template, transient, &public)
}

/// Whether this template makes the storage root key with this Name. Nothing is kept.
pub(crate) fn makes(tpm: &mut Tpm, name: &[u8], template: &[u8]) -> Result<bool, TpmError> {
    if !is_known(template) {
        return Ok(false);
    }
    let (transient, public) = match tpm.create_primary(template) {
        // It is not known, and cannot be without the authorisation.
        Err(error) if error.refuses_owner() => return Ok(false),
        other => other?,
    };
    tpm.flush(transient)?;
    Ok(name_of(&public)[..] == *name)
}

fn is_known(template: &[u8]) -> bool {
    let mut forms = SrkForm::ALL.into_iter();
    forms.any(|form| form.templates().iter().any(|known| known == template))
}

/// Makes a primary key persistent at the first free handle. Where the TPM has no slot for it, which laptops come with
/// few of, the key stays loaded for as long as the connection lasts, and is made again for the next.
fn keep(tpm: &mut Tpm, template: &[u8], transient: u32, public: &[u8]) -> Result<Parent, TpmError> {
    let kept = persist(tpm, template, transient, public);
    if !matches!(&kept, Ok(parent) if parent.is_transient) {
        tpm.flush(transient)?;
    }
    kept
}

fn persist(
    tpm: &mut Tpm,
    template: &[u8],
    transient: u32,
    public: &[u8],
) -> Result<Parent, TpmError> {
    let taken = persistent(tpm)?;
    let free = (SRK..=LAST_SRK).find(|handle| !taken.contains(handle));
    let mut made = Parent::from_public(transient, public).ok_or(TpmError::Protocol {
        command: "CreatePrimary",
        what: "not the template's key",
    })?;
    made.template = Some(template.to_vec());
    match free.map(|free| (free, tpm.persist(transient, &made.name, free))) {
        Some((free, Ok(()))) => {
            tracing::info!(handle = format!("0x{free:08X}"), "made a storage root key");
            made.handle = free;
        }
        Some((_, Err(error))) if error.code() != Some(ResponseCode::NV_SPACE) => {
            return Err(error);
        }
        _ => {
            tracing::warn!(
                "the TPM has no persistent slot for the storage root key, which is made again at each start"
            );
            made.is_transient = true;
        }
    }
    Ok(made)
}

impl Tpm {
    /// Whether an empty value authorises a storage key. Spends nothing: the key has noDA, and the
    /// authorisation is looked at before the empty parameters are refused.
    fn authorises_empty(&mut self, handle: u32, name: &[u8; 34]) -> Result<bool, TpmError> {
        match self.load_nothing(handle, name) {
            Err(error) => match error.code() {
                Some(ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL) => Ok(false),
                Some(_) => Ok(true),
                None => Err(error),
            },
            Ok(()) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::code;
    use crate::promise::Wake;
    use crate::tpm::{CommandCount, ProgressMark};
    use crate::transport::Transport;

    /// A TPM with one persistent key, which it makes again from each RSA template. It makes no other.
    struct OneKey {
        public: Vec<u8>,
        /// Templates that it was asked to make something from.
        asked: Arc<Mutex<Vec<SrkForm>>>,
    }

    impl Transport for OneKey {
        fn transact(
            &mut self,
            command: &[u8],
            response: &mut Vec<u8>,
            _: Duration,
            _: &dyn Fn(),
        ) -> io::Result<()> {
            const TRANSIENT: u32 = 0x8000_0000;
            let sized = |bytes: &[u8]| {
                let length = u16::try_from(bytes.len()).unwrap();
                [&length.to_be_bytes()[..], bytes].concat()
            };
            let number = |at: usize| u32::from_be_bytes(command[at..at + 4].try_into().unwrap());
            let answer = match number(6) {
                code::GET_CAPABILITY => {
                    [&[0][..], &[0, 0, 0, 1, 0, 0, 0, 1], &SRK.to_be_bytes()].concat()
                }
                code::READ_PUBLIC => sized(&self.public),
                code::FLUSH_CONTEXT => Vec::new(),
                code::CREATE_PRIMARY => {
                    let has = |form| {
                        let head = srk_head(form);
                        command.windows(head.len()).any(|part| part == head)
                    };
                    let form = SrkForm::ALL.into_iter().find(|form| has(*form)).unwrap();
                    self.asked.lock().unwrap().push(form);
                    match form {
                        SrkForm::Ecc => Vec::new(),
                        SrkForm::Rsa => {
                            let parameters = sized(&self.public);
                            let length = u32::try_from(parameters.len()).unwrap();
                            let session = [0, 0, 1, 0, 0];
                            [
                                &TRANSIENT.to_be_bytes()[..],
                                &length.to_be_bytes(),
                                &parameters,
                                &session,
                            ]
                            .concat()
                        }
                    }
                }
                // Load, with which is asked whether a key has an empty authorisation: bad size.
                _ => Vec::new(),
            };
            let is_refused = answer.is_empty() && number(6) != code::FLUSH_CONTEXT;
            let tag = if command[1] == 2 && !is_refused { 2 } else { 1 };
            let code: u32 = if is_refused { 0x95 } else { 0 };
            let length = u32::try_from(10 + answer.len()).unwrap();
            *response = [
                &[0x80, tag][..],
                &length.to_be_bytes(),
                &code.to_be_bytes(),
                &answer,
            ]
            .concat();
            Ok(())
        }

        fn alive(&self) -> bool {
            true
        }

        fn is_managed(&self) -> bool {
            false
        }
    }

    #[test]
    fn new_card_does_not_hang_from_a_weak_key_that_other_cards_have_recorded() {
        let choose = |modulus: &[u8]| {
            let public = [&srk_head(SrkForm::Rsa)[..], &[1, 0], modulus].concat();
            let recorded = RecordedRoot {
                name: name_of(&public),
                template: srk_template(SrkForm::Rsa),
            };
            let asked = Arc::default();
            let key = OneKey {
                public,
                asked: Arc::clone(&asked),
            };
            let mut tpm = Tpm::new(
                Box::new(key),
                CommandCount::default(),
                ProgressMark::default(),
                Wake::default(),
            );
            // A card that has it keeps it.
            let own = of_card(&mut tpm, &recorded.name, &recorded.template, false);
            assert_eq!(own.unwrap().name, recorded.name);
            let chosen = for_new_cards(&mut tpm, std::slice::from_ref(&recorded));
            let is_recorded = chosen.map(|chosen| chosen.name == recorded.name).ok();
            let asked = asked.lock().unwrap().clone();
            (is_recorded, asked)
        };
        let weak = rsa_key::tests::weak_modulus();
        let mut other = weak.clone();
        other[255] ^= 2;
        assert_eq!(choose(&other), (Some(true), vec![SrkForm::Rsa]));
        // Another one is made, which this TPM cannot.
        assert_eq!(choose(&weak), (None, vec![SrkForm::Ecc]));
    }

    #[test]
    fn weak_storage_root_key_is_recognised() {
        let public = |modulus: &[u8]| [&srk_head(SrkForm::Rsa)[..], &[1, 0], modulus].concat();
        let parent = |modulus: &[u8]| Parent::from_public(SRK, &public(modulus)).unwrap();
        let is_usable = |modulus: &[u8]| Parent::usable(SRK, &public(modulus)).is_some();
        let weak = rsa_key::tests::weak_modulus();
        assert!(parent(&weak).is_weak() && !is_usable(&weak));
        let mut other = weak.clone();
        other[255] ^= 2;
        assert!(!parent(&other).is_weak() && is_usable(&other));
    }

    #[test]
    fn only_the_two_standard_forms_are_taken() {
        for form in SrkForm::ALL {
            let [_, zeros] = form.templates();
            let parent = Parent::from_public(SRK, &zeros).unwrap();
            assert_eq!(parent.form(), form);
            assert_eq!(parent.name, name_of(&zeros));
            for at in [1, 3, 5, 7] {
                let mut other = zeros.clone();
                other[at] ^= 0x04;
                assert!(Parent::from_public(SRK, &other).is_none(), "byte {at}");
            }
            assert!(Parent::from_public(SRK, &zeros[..zeros.len() - 1]).is_none());
            assert!(Parent::from_public(SRK, &[&zeros[..], &[0]].concat()).is_none());
        }
    }
}
