//! Slots, sessions and handles: what the module remembers between two calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cardea_client::Client;
use cardea_client::message::{KeyAlgorithm, SecretBytes};
use cardea_client::slot_number::SlotNumbers;
use cryptoki_sys::*;

use crate::object::{Body, Location, Object};
use crate::running::{Family, Running};
use crate::rv::{Result, Rv};

/// Slots, sessions and handles.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) slots: BTreeMap<CK_SLOT_ID, TokenSlot>,
    /// Slots of cards that were listed since C_Initialize, the newest last.
    pub(crate) order: Vec<CK_SLOT_ID>,
    pub(crate) sessions: BTreeMap<CK_SESSION_HANDLE, Session>,
    last_session: CK_SESSION_HANDLE,
    last_object: CK_OBJECT_HANDLE,
    /// Slots whose change was not yet reported by C_WaitForSlotEvent.
    pub(crate) events: Vec<CK_SLOT_ID>,
    /// Generation of the cards when they were last listed.
    pub(crate) generation: u64,
    pub(crate) ended: bool,
}

/// A card's slot. It keeps its number when the card is removed.
#[derive(Debug, Default)]
pub(crate) struct TokenSlot {
    pub(crate) card: String,
    pub(crate) name: String,
    pub(crate) present: bool,
    /// Why it is not, for people.
    pub(crate) reason: String,
    pub(crate) login: LoginState,
    pub(crate) objects: BTreeMap<CK_OBJECT_HANDLE, Arc<Object>>,
    /// Revision of the objects.
    pub(crate) revision: u64,
    /// Algorithms of keys that its TPM makes and takes, once they were asked for.
    pub(crate) algorithms: Option<Vec<KeyAlgorithm>>,
    /// Handles of halves of keys that went with the half that was destroyed.
    pub(crate) gone: BTreeSet<CK_OBJECT_HANDLE>,
}

/// Who is logged in on all sessions of a slot.
#[derive(Clone, Debug, Default)]
pub(crate) enum LoginState {
    #[default]
    Nobody,
    /// With the value that C_InitPIN needs again.
    SecurityOfficer(Officer),
    /// With the pool's count of lost logins at that time.
    User(u64),
}

/// The secret of a security officer, who sets a PIN without the old one.
#[derive(Clone, Debug)]
pub(crate) enum Officer {
    AdminKey(SecretBytes),
    Puk(SecretBytes),
}

/// A session and its running operations.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) read_write: bool,
    pub(crate) search: Option<Vec<CK_OBJECT_HANDLE>>,
    decryption: Option<Running>,
    digest: Option<Running>,
    encryption: Option<Running>,
    signing: Option<Running>,
    verification: Option<Running>,
    context_login: Option<ContextLogin>,
    /// The family of the operation with a private key that was initialised last.
    last_private: Option<Family>,
    /// The user logged in on this session and has used no key since: the login counts as the PIN of the next
    /// operation. OpenSSH does not ask again for a key that requires the PIN every time right after its login.
    pub(crate) just_logged_in: bool,
}

/// The PIN verified for one running operation with a key that requires the PIN every time (`CKU_CONTEXT_SPECIFIC`).
#[derive(Debug)]
struct ContextLogin {
    /// No other operation can use the verification up.
    family: Family,
    /// The connection on which the PIN was verified.
    client: Client,
}

/// The PIN verification that an operation has in addition to the login.
pub(crate) enum PinProof {
    /// A connection on which the PIN was verified for this operation.
    ContextLogin(Box<Client>),
    None,
    /// The login itself, as no key was used since.
    UserLogin,
}

impl TokenSlot {
    /// The slot of a card that is not there.
    pub(crate) fn empty(card: String) -> Self {
        Self {
            name: card.clone(),
            card,
            reason: "removed".to_owned(),
            ..Self::default()
        }
    }

    /// Forgets what ended with the card's removal. Its own objects have the same handles when it is back: programs keep
    /// them.
    pub(crate) fn clear(&mut self) {
        self.login = LoginState::Nobody;
        self.objects
            .retain(|_, object| !matches!(object.location, Location::Session(_)));
        self.gone.clear();
        self.revision = 0;
    }
}

impl Session {
    pub(crate) fn new(slot: CK_SLOT_ID, read_write: bool) -> Self {
        Self {
            slot,
            read_write,
            ..Self::default()
        }
    }

    pub(crate) fn operation(&mut self, family: Family) -> &mut Option<Running> {
        match family {
            Family::Decrypt => &mut self.decryption,
            Family::Digest => &mut self.digest,
            Family::Encrypt => &mut self.encryption,
            Family::Sign => &mut self.signing,
            Family::Verify => &mut self.verification,
        }
    }

    /// Begins an operation that was initialised.
    pub(crate) fn begin(&mut self, running: Running) {
        let family = running.family;
        self.forget_context_login(family);
        if family.is_private() {
            self.last_private = Some(family);
        }
        *self.operation(family) = Some(running);
    }

    /// Ends an operation, and the PIN verification that was for it.
    pub(crate) fn end(&mut self, family: Family) -> Option<Running> {
        self.forget_context_login(family);
        self.operation(family).take()
    }

    /// The running operation that a context-specific login is for: the one that was initialised last.
    pub(crate) fn private_operation(&self) -> Option<Family> {
        let is_running = |family: &Family| match family {
            Family::Decrypt => self.decryption.is_some(),
            _ => self.signing.is_some(),
        };
        let candidates = [self.last_private, Some(Family::Sign), Some(Family::Decrypt)];
        candidates.into_iter().flatten().find(is_running)
    }

    /// Keeps the PIN verification for an operation that is still running.
    pub(crate) fn set_context_login(&mut self, family: Family, client: Client) {
        if self.operation(family).is_some() {
            self.context_login = Some(ContextLogin { family, client });
        }
    }

    pub(crate) fn forget_context_login(&mut self, family: Family) {
        self.context_login.take_if(|login| login.family == family);
    }

    /// Takes the PIN verification for the use of a key that is made now: of an operation, or of a function that
    /// needs no initialisation.
    pub(crate) fn take_pin_proof(&mut self, operation: Option<Family>) -> PinProof {
        let just_logged_in = std::mem::take(&mut self.just_logged_in);
        let login = self
            .context_login
            .take_if(|login| Some(login.family) == operation);
        match login {
            Some(login) => PinProof::ContextLogin(Box::new(login.client)),
            None if just_logged_in => PinProof::UserLogin,
            None => PinProof::None,
        }
    }

    /// Ends what requires a login.
    pub(crate) fn end_private(&mut self) {
        self.search = None;
        self.signing = None;
        self.decryption = None;
        self.context_login = None;
        self.just_logged_in = false;
    }
}

impl State {
    /// With the slots of all cards that this process or its parent has seen. They are empty until the cards are listed.
    pub(crate) fn with_slots_of(numbers: &SlotNumbers) -> Self {
        let slots = numbers.iter();
        let slots = slots.map(|(number, card)| (CK_SLOT_ID::from(*number), card.clone()));
        Self {
            slots: slots
                .map(|(id, card)| (id, TokenSlot::empty(card)))
                .collect(),
            ..Self::default()
        }
    }

    pub(crate) fn slot(&mut self, id: CK_SLOT_ID) -> Result<&mut TokenSlot> {
        self.slots.get_mut(&id).ok_or(Rv(CKR_SLOT_ID_INVALID))
    }

    pub(crate) fn session(&mut self, handle: CK_SESSION_HANDLE) -> Result<&mut Session> {
        self.sessions
            .get_mut(&handle)
            .ok_or(Rv(CKR_SESSION_HANDLE_INVALID))
    }

    pub(crate) fn add_session(&mut self, session: Session) -> CK_SESSION_HANDLE {
        self.last_session += 1;
        self.sessions.insert(self.last_session, session);
        self.last_session
    }

    pub(crate) fn new_object_handle(&mut self) -> CK_OBJECT_HANDLE {
        self.last_object += 1;
        self.last_object
    }

    /// The handles of both halves of a key, public first.
    pub(crate) fn key_pair(
        &mut self,
        slot: CK_SLOT_ID,
        reference: u8,
    ) -> Result<(CK_OBJECT_HANDLE, CK_OBJECT_HANDLE)> {
        let (mut public, mut private) = (None, None);
        for (handle, object) in &self.slot(slot)?.objects {
            if object.location != Location::Key(reference) {
                continue;
            }
            match &object.body {
                Body::PublicKey(_) => public = Some(*handle),
                Body::PrivateKey(_) => private = Some(*handle),
                _ => {}
            }
        }
        public.zip(private).ok_or(Rv(CKR_DEVICE_ERROR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mechanisms::{self, Scheme};

    fn session_with(family: Family) -> Session {
        let row = mechanisms::find(CKM_RSA_PKCS).unwrap();
        let mut session = Session::new(0, true);
        session.begin(Running::new(family, (row, Scheme::Pkcs1), None).unwrap());
        session
    }

    fn is_context_login(proof: &PinProof) -> bool {
        matches!(proof, PinProof::ContextLogin(_))
    }

    #[test]
    fn context_login_serves_its_operation_only() {
        let mut session = session_with(Family::Sign);
        session.set_context_login(Family::Sign, Client::new("/nowhere"));
        for other in [None, Some(Family::Decrypt)] {
            assert!(
                !is_context_login(&session.take_pin_proof(other)),
                "{other:?}"
            );
        }
        assert!(is_context_login(
            &session.take_pin_proof(Some(Family::Sign))
        ));
        assert!(!is_context_login(
            &session.take_pin_proof(Some(Family::Sign))
        ));
    }

    #[test]
    fn context_login_is_for_the_operation_that_was_initialised_last() {
        let mut session = session_with(Family::Decrypt);
        assert_eq!(session.private_operation(), Some(Family::Decrypt));
        let row = mechanisms::find(CKM_RSA_PKCS).unwrap();
        let signing = Running::new(Family::Sign, (row, Scheme::Pkcs1), None).unwrap();
        session.begin(signing);
        assert_eq!(session.private_operation(), Some(Family::Sign));
        assert!(session.end(Family::Sign).is_some());
        assert_eq!(session.private_operation(), Some(Family::Decrypt));
    }

    #[test]
    fn cancelled_operation_ends_its_context_login() {
        let mut session = session_with(Family::Sign);
        session.set_context_login(Family::Sign, Client::new("/nowhere"));
        assert!(session.end(Family::Sign).is_some());
        assert!(session.context_login.is_none());
        session.set_context_login(Family::Sign, Client::new("/nowhere"));
        assert!(session.context_login.is_none(), "nothing is running");
    }
}
