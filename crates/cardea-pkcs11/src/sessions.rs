//! Sessions and logins (PKCS#11 2.40 §5.6).

use cardea_client::message::{Authority, Reference, Request, SecretBytes};
use cryptoki_sys::{
    CK_OBJECT_HANDLE, CK_SESSION_HANDLE, CK_SESSION_INFO, CK_SLOT_ID, CK_STATE, CK_USER_TYPE,
    CKF_RW_SESSION, CKF_SERIAL_SESSION, CKR_OPERATION_NOT_INITIALIZED, CKR_PIN_LEN_RANGE,
    CKR_SESSION_EXISTS, CKR_SESSION_PARALLEL_NOT_SUPPORTED, CKR_SESSION_READ_ONLY,
    CKR_SESSION_READ_ONLY_EXISTS, CKR_USER_ALREADY_LOGGED_IN, CKR_USER_ANOTHER_ALREADY_LOGGED_IN,
    CKR_USER_NOT_LOGGED_IN, CKR_USER_PIN_NOT_INITIALIZED, CKR_USER_TYPE_INVALID,
    CKS_RO_PUBLIC_SESSION, CKS_RO_USER_FUNCTIONS, CKS_RW_PUBLIC_SESSION, CKS_RW_SO_FUNCTIONS,
    CKS_RW_USER_FUNCTIONS, CKU_CONTEXT_SPECIFIC, CKU_SO, CKU_USER,
};

use crate::decryption::Decryption;
use crate::digests::Hasher;
use crate::module::{LoginState, Module};
use crate::objects::Object;
use crate::rv::{About, Result, Rv};
use crate::signing::Signing;

/// A session and what is going on in it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) read_write: bool,
    pub(crate) search: Option<Vec<CK_OBJECT_HANDLE>>,
    pub(crate) signing: Option<Signing>,
    pub(crate) decryption: Option<Decryption>,
    pub(crate) digest: Option<Hasher>,
}

impl Module {
    /// C_OpenSession.
    pub(crate) fn open_session(
        &mut self,
        slot: CK_SLOT_ID,
        flags: u64,
    ) -> Result<CK_SESSION_HANDLE> {
        if flags & CKF_SERIAL_SESSION == 0 {
            return Err(Rv(CKR_SESSION_PARALLEL_NOT_SUPPORTED));
        }
        self.refresh_slots();
        self.details(slot)?;
        let read_write = flags & CKF_RW_SESSION != 0;
        if !read_write && matches!(self.slot(slot)?.login, LoginState::SecurityOfficer(_)) {
            return Err(Rv(cryptoki_sys::CKR_SESSION_READ_WRITE_SO_EXISTS));
        }
        Ok(self.add_session(Session {
            slot,
            read_write,
            search: None,
            signing: None,
            decryption: None,
            digest: None,
        }))
    }

    /// C_CloseSession. The last one of a slot logs out.
    pub(crate) fn close_session(&mut self, session: CK_SESSION_HANDLE) -> Result {
        let slot = self.session(session)?.slot;
        self.sessions.remove(&session);
        self.slot(slot)?.objects.retain(
            |_, object| !matches!(object, Object::Secret { session: of, .. } if *of == session),
        );
        if !self.sessions.values().any(|other| other.slot == slot) {
            self.end_login(slot);
        }
        Ok(())
    }

    /// C_CloseAllSessions.
    pub(crate) fn close_all_sessions(&mut self, slot: CK_SLOT_ID) -> Result {
        self.slot(slot)?
            .objects
            .retain(|_, object| !matches!(object, Object::Secret { .. }));
        self.sessions.retain(|_, session| session.slot != slot);
        self.end_login(slot);
        Ok(())
    }

    fn end_login(&mut self, slot: CK_SLOT_ID) {
        let Ok(slot) = self.slot(slot) else { return };
        let before = std::mem::take(&mut slot.login);
        let card = slot.card.clone();
        if let LoginState::User = before {
            // A daemon that is gone has forgotten it too.
            let _ = self.ask(&Request::Logout { card }, About::Object);
        }
    }

    /// C_GetSessionInfo.
    pub(crate) fn session_info(&mut self, handle: CK_SESSION_HANDLE) -> Result<CK_SESSION_INFO> {
        let session = self.session(handle)?;
        let (slot, read_write) = (session.slot, session.read_write);
        let state: CK_STATE = match (&self.slot(slot)?.login, read_write) {
            (LoginState::Nobody, false) => CKS_RO_PUBLIC_SESSION,
            (LoginState::Nobody, true) => CKS_RW_PUBLIC_SESSION,
            (LoginState::SecurityOfficer(_), _) => CKS_RW_SO_FUNCTIONS,
            (LoginState::User, false) => CKS_RO_USER_FUNCTIONS,
            (LoginState::User, true) => CKS_RW_USER_FUNCTIONS,
        };
        let rw = if read_write { CKF_RW_SESSION } else { 0 };
        Ok(CK_SESSION_INFO {
            slotID: slot,
            state,
            flags: CKF_SERIAL_SESSION | rw,
            ulDeviceError: 0,
        })
    }

    /// C_Login.
    pub(crate) fn login(
        &mut self,
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: &[u8],
    ) -> Result {
        let id = self.session(session)?.slot;
        let secret = || SecretBytes::new(pin.to_vec());
        if pin.is_empty() || pin.len() > 127 {
            return Err(Rv(CKR_PIN_LEN_RANGE));
        }
        let slot = self.slot(id)?;
        let card = slot.card.clone();
        match (user, &slot.login) {
            (CKU_USER, LoginState::User) | (CKU_SO, LoginState::SecurityOfficer(_)) => {
                Err(Rv(CKR_USER_ALREADY_LOGGED_IN))
            }
            (CKU_USER, LoginState::SecurityOfficer(_)) | (CKU_SO, LoginState::User) => {
                Err(Rv(CKR_USER_ANOTHER_ALREADY_LOGGED_IN))
            }
            (CKU_USER, LoginState::Nobody) => {
                let pin = secret();
                self.ask(&Request::Login { card, pin }, About::Object)?;
                self.slot(id)?.login = LoginState::User;
                Ok(())
            }
            (CKU_SO, LoginState::Nobody) => {
                if self
                    .sessions
                    .values()
                    .any(|session| session.slot == id && !session.read_write)
                {
                    return Err(Rv(CKR_SESSION_READ_ONLY_EXISTS));
                }
                if self.details(id)?.puk.is_none() {
                    return Err(Rv(CKR_USER_PIN_NOT_INITIALIZED));
                }
                let value = secret();
                let request = Request::VerifyPin {
                    card,
                    value,
                    reference: Reference::Puk,
                };
                self.ask(&request, About::Object)?;
                self.slot(id)?.login = LoginState::SecurityOfficer(secret());
                Ok(())
            }
            (CKU_CONTEXT_SPECIFIC, LoginState::User) => {
                let running = self.session(session)?;
                if running.signing.is_none() && running.decryption.is_none() {
                    return Err(Rv(CKR_OPERATION_NOT_INITIALIZED));
                }
                let pin = secret();
                self.ask(&Request::Login { card, pin }, About::Object)
                    .map(drop)
            }
            (CKU_CONTEXT_SPECIFIC, _) => Err(Rv(CKR_USER_NOT_LOGGED_IN)),
            _ => Err(Rv(CKR_USER_TYPE_INVALID)),
        }
    }

    /// C_Logout.
    pub(crate) fn logout(&mut self, session: CK_SESSION_HANDLE) -> Result {
        let slot = self.session(session)?.slot;
        if let LoginState::Nobody = self.slot(slot)?.login {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        self.end_login(slot);
        for session in self.sessions.values_mut() {
            if session.slot == slot {
                session.signing = None;
                session.decryption = None;
                session.search = None;
            }
        }
        Ok(())
    }

    /// C_InitPIN: the security officer's PUK sets a new PIN.
    pub(crate) fn init_pin(&mut self, session: CK_SESSION_HANDLE, new: &[u8]) -> Result {
        let slot = self.slot_of(session)?;
        let LoginState::SecurityOfficer(puk) = &slot.login else {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        };
        let request = Request::UnblockPin {
            card: slot.card.clone(),
            by: Authority::Puk(puk.clone()),
            new: SecretBytes::new(new.to_vec()),
        };
        self.ask(&request, About::NewPin).map(drop)
    }

    /// C_SetPIN: the PIN, or the security officer's own PUK.
    pub(crate) fn set_pin(&mut self, session: CK_SESSION_HANDLE, old: &[u8], new: &[u8]) -> Result {
        if !self.session(session)?.read_write {
            return Err(Rv(CKR_SESSION_READ_ONLY));
        }
        let id = self.session(session)?.slot;
        let slot = self.slot(id)?;
        let officer = matches!(slot.login, LoginState::SecurityOfficer(_));
        let user = matches!(slot.login, LoginState::User);
        let card = slot.card.clone();
        let request = Request::ChangePin {
            card: card.clone(),
            old: SecretBytes::new(old.to_vec()),
            new: SecretBytes::new(new.to_vec()),
            reference: if officer {
                Reference::Puk
            } else {
                Reference::Pin
            },
        };
        self.ask(&request, About::NewPin)?;
        // A change ends every verification, ours too; who was logged in still is.
        if officer {
            self.slot(id)?.login = LoginState::SecurityOfficer(SecretBytes::new(new.to_vec()));
        } else if user {
            let pin = SecretBytes::new(new.to_vec());
            self.slot(id)?.login = LoginState::Nobody;
            self.ask(&Request::Login { card, pin }, About::Object)?;
            self.slot(id)?.login = LoginState::User;
        }
        Ok(())
    }

    /// C_InitToken would destroy keys that only an administrator of the machine may destroy.
    pub(crate) fn has_sessions(&self, slot: CK_SLOT_ID) -> Result {
        if self.sessions.values().any(|session| session.slot == slot) {
            return Err(Rv(CKR_SESSION_EXISTS));
        }
        Ok(())
    }
}
