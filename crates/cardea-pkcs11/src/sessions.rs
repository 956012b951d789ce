//! Sessions and logins (PKCS#11 3.1 §5.6).

use cardea_client::message::{Authority, CardRequest, Reference, Reply, Request, SecretBytes};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::module::Module;
use crate::pin_form::without_impossible_newline;
use crate::pool::{LIMIT, PERSON_LIMIT};
use crate::running::Family;
use crate::rv::{About, Result, Rv};
use crate::state::{LoginState, Officer, Session};

impl Module {
    /// C_OpenSession.
    pub(crate) fn open_session(
        &self,
        slot: CK_SLOT_ID,
        flags: CK_FLAGS,
    ) -> Result<CK_SESSION_HANDLE> {
        if flags & CKF_SERIAL_SESSION == 0 {
            return Err(Rv(CKR_SESSION_PARALLEL_NOT_SUPPORTED));
        }
        self.require_token(slot)?;
        let read_write = flags & CKF_RW_SESSION != 0;
        let officer = matches!(self.login_state(slot)?, LoginState::SecurityOfficer(_));
        if officer && !read_write {
            return Err(Rv(CKR_SESSION_READ_WRITE_SO_EXISTS));
        }
        Ok(self.state().add_session(Session::new(slot, read_write)))
    }

    /// C_CloseSession. Closing the last session of a slot logs out.
    pub(crate) fn close_session(&self, session: CK_SESSION_HANDLE) -> Result {
        let mut state = self.state();
        let slot = state.session(session)?.slot;
        let closed = state.sessions.remove(&session);
        let slot_state = state.slot(slot)?;
        let keys = slot_state.end_session_objects(|of, _| of == session);
        let last = !state.sessions.values().any(|other| other.slot == slot);
        drop(state);
        drop(closed);
        if last {
            self.end_all(slot, keys);
        } else {
            self.delete_session_keys(slot, keys);
        }
        Ok(())
    }

    /// C_CloseAllSessions.
    pub(crate) fn close_all_sessions(&self, slot: CK_SLOT_ID) -> Result {
        let mut state = self.state();
        let keys = state.slot(slot)?.end_session_objects(|_, _| true);
        state.sessions.retain(|_, session| session.slot != slot);
        drop(state);
        self.end_all(slot, keys);
        Ok(())
    }

    /// Ends the login of a slot without sessions, and their keys: with the login, the daemon ends all of them.
    fn end_all(&self, slot: CK_SLOT_ID, keys: Vec<u64>) {
        if !self.end_login(slot) {
            self.delete_session_keys(slot, keys);
        }
    }

    /// Ends the login. Returns whether the daemon has ended a user's.
    fn end_login(&self, slot: CK_SLOT_ID) -> bool {
        let before = self.login_state(slot).unwrap_or_default();
        self.forget_login(slot);
        let (LoginState::User(_), Ok(card)) = (before, self.card(slot)) else {
            return false;
        };
        // If the daemon is gone, so is the login.
        let logout = Request::card(card, CardRequest::Logout);
        self.ask_primary(&logout, About::Object).is_ok()
    }

    /// C_GetSessionInfo.
    pub(crate) fn session_info(&self, handle: CK_SESSION_HANDLE) -> Result<CK_SESSION_INFO> {
        let slot = self.slot_of(handle)?;
        self.look_at_login(slot)?;
        let login = self.login_state(slot)?;
        let read_write = self.state().session(handle)?.read_write;
        let state: CK_STATE = match (login, read_write) {
            (LoginState::Nobody, false) => CKS_RO_PUBLIC_SESSION,
            (LoginState::Nobody, true) => CKS_RW_PUBLIC_SESSION,
            (LoginState::SecurityOfficer(_), _) => CKS_RW_SO_FUNCTIONS,
            (LoginState::User(_), false) => CKS_RO_USER_FUNCTIONS,
            (LoginState::User(_), true) => CKS_RW_USER_FUNCTIONS,
        };
        let rw = if read_write { CKF_RW_SESSION } else { 0 };
        Ok(CK_SESSION_INFO {
            slotID: slot,
            state,
            flags: CKF_SERIAL_SESSION | rw,
            ulDeviceError: 0,
        })
    }

    /// C_SessionCancel: ends the operations whose flags are set.
    pub(crate) fn cancel(&self, session: CK_SESSION_HANDLE, flags: CK_FLAGS) -> Result {
        let mut state = self.state();
        let session = state.session(session)?;
        if flags & CKF_FIND_OBJECTS != 0 {
            session.search = None;
        }
        for family in Family::ALL {
            if flags & family.flag() != 0 {
                drop(session.end(family));
            }
        }
        Ok(())
    }

    /// C_Login.
    pub(crate) fn login(
        &self,
        session: CK_SESSION_HANDLE,
        user: CK_USER_TYPE,
        pin: &[u8],
    ) -> Result {
        let slot = self.slot_of(session)?;
        let card = self.card(slot)?;
        if user == CKU_USER {
            self.check_login(slot)?;
        }
        let login = self.login_state(slot)?;
        match (user, login) {
            (CKU_USER, LoginState::User(_)) | (CKU_SO, LoginState::SecurityOfficer(_)) => {
                Err(Rv(CKR_USER_ALREADY_LOGGED_IN))
            }
            (CKU_USER, LoginState::SecurityOfficer(_)) | (CKU_SO, LoginState::User(_)) => {
                Err(Rv(CKR_USER_ANOTHER_ALREADY_LOGGED_IN))
            }
            (CKU_USER, LoginState::Nobody) => {
                if self.asks_person(slot, pin)? {
                    self.ask_person(&Request::card(card, CardRequest::LoginByAgent))?;
                } else {
                    let pin = self.user_pin(slot, pin)?;
                    self.ask_primary(&Request::card(card, CardRequest::Login { pin }), About::Pin)?;
                }
                let since = self.pool.losses();
                let mut state = self.state();
                state.slot(slot)?.login = LoginState::User(since);
                state.session(session)?.just_logged_in = true;
                drop(state);
                // If this fails, all threads use the primary connection, which is only slower.
                let _ = self.pool.share(LIMIT);
                Ok(())
            }
            (CKU_SO, LoginState::Nobody) => {
                if self.has_read_only_session(slot) {
                    return Err(Rv(CKR_SESSION_READ_ONLY_EXISTS));
                }
                let officer = self.officer_login(slot, card, pin)?;
                self.state().slot(slot)?.login = LoginState::SecurityOfficer(officer);
                Ok(())
            }
            (CKU_CONTEXT_SPECIFIC, LoginState::User(_)) => self.context_login(session, card, pin),
            (CKU_CONTEXT_SPECIFIC, _) => Err(Rv(CKR_USER_NOT_LOGGED_IN)),
            _ => Err(Rv(CKR_USER_TYPE_INVALID)),
        }
    }

    /// A PIN that a program has typed or read. The card is only asked for its policy if there is a line end behind it.
    fn user_pin(&self, slot: CK_SLOT_ID, pin: &[u8]) -> Result<SecretBytes> {
        if !pin.ends_with(b"\n") {
            return secret(pin);
        }
        let policy = self.status(slot)?.pin_policy;
        secret(without_impossible_newline(pin, policy.as_ref()))
    }

    /// Whether the PIN is empty because the token asks the person itself.
    fn asks_person(&self, slot: CK_SLOT_ID, pin: &[u8]) -> Result<bool> {
        Ok(pin.is_empty() && self.status(slot)?.pin_pad)
    }

    fn has_read_only_session(&self, slot: CK_SLOT_ID) -> bool {
        let state = self.state();
        let mut sessions = state.sessions.values();
        sessions.any(|session| session.slot == slot && !session.read_write)
    }

    /// Login of the security officer: with the PUK if the card has one, else with the admin key as 48 hexadecimal digits.
    fn officer_login(&self, slot: CK_SLOT_ID, card: String, pin: &[u8]) -> Result<Officer> {
        let status = self.status(slot)?;
        if status.puk.is_some() {
            let value = secret(pin)?;
            let request = Request::card(
                card,
                CardRequest::VerifyPin {
                    value: value.clone(),
                    reference: Reference::Puk,
                },
            );
            self.ask(&request, About::Pin)?;
            return Ok(Officer::Puk(value));
        }
        if !status.administrator {
            return Err(Rv(CKR_USER_PIN_NOT_INITIALIZED));
        }
        // The TPM counts every try and allows few: a value that cannot be a key is not tried.
        let key = admin_key(pin).ok_or(Rv(CKR_PIN_INCORRECT))?;
        let request = Request::card(card, CardRequest::VerifyAdminKey { key: key.clone() });
        self.ask(&request, About::Pin)?;
        Ok(Officer::AdminKey(key))
    }

    /// Verifies the PIN for the running operation (`CKA_ALWAYS_AUTHENTICATE`), on a separate connection.
    fn context_login(&self, session: CK_SESSION_HANDLE, card: String, pin: &[u8]) -> Result {
        let mut state = self.state();
        let running = state.session(session)?;
        let family = running
            .private_operation()
            .ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        running.forget_context_login(family);
        let slot = running.slot;
        drop(state);
        let (request, limit) = if self.asks_person(slot, pin)? {
            (Request::card(card, CardRequest::LoginByAgent), PERSON_LIMIT)
        } else {
            let pin = self.user_pin(slot, pin)?;
            (Request::card(card, CardRequest::Login { pin }), LIMIT)
        };
        let mut client = self.pool.separate();
        match client.call(&request, limit) {
            Ok(Reply::Done) => {}
            Ok(Reply::Failed(failure)) => return Err(Rv::of(&failure, About::Pin)),
            Ok(_) => return Err(Rv(CKR_DEVICE_ERROR)),
            Err(_) => return Err(Rv(CKR_DEVICE_REMOVED)),
        }
        self.state()
            .session(session)?
            .set_context_login(family, client);
        Ok(())
    }

    /// C_Logout.
    pub(crate) fn logout(&self, session: CK_SESSION_HANDLE) -> Result {
        let slot = self.slot_of(session)?;
        if let LoginState::Nobody = self.login_state(slot)? {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        }
        // With the login, the daemon ends the session keys.
        self.end_login(slot);
        let mut state = self.state();
        state
            .slot(slot)?
            .end_session_objects(|_, object| object.is_private());
        for session in state.sessions.values_mut() {
            if session.slot == slot {
                session.end_private();
            }
        }
        Ok(())
    }

    /// C_InitPIN: the security officer sets a new PIN.
    pub(crate) fn init_pin(&self, session: CK_SESSION_HANDLE, new: &[u8]) -> Result {
        let slot = self.slot_of(session)?;
        let LoginState::SecurityOfficer(officer) = self.login_state(slot)? else {
            return Err(Rv(CKR_USER_NOT_LOGGED_IN));
        };
        let request = Request::card(
            self.card(slot)?,
            CardRequest::UnblockPin {
                by: match officer {
                    Officer::AdminKey(key) => Authority::AdminKey(key),
                    Officer::Puk(puk) => Authority::Puk(puk),
                },
                new: secret(new)?,
            },
        );
        self.ask(&request, About::NewPin).map(drop)
    }

    /// C_SetPIN: changes the PIN, or the PUK if the security officer is logged in.
    pub(crate) fn set_pin(&self, session: CK_SESSION_HANDLE, old: &[u8], new: &[u8]) -> Result {
        let slot = self.slot_of(session)?;
        if !self.state().session(session)?.read_write {
            return Err(Rv(CKR_SESSION_READ_ONLY));
        }
        let card = self.card(slot)?;
        let login = self.login_state(slot)?;
        let reference = match &login {
            LoginState::SecurityOfficer(Officer::Puk(_)) => Reference::Puk,
            // Admin keys are changed by the administrator, who must also store or escrow the new one.
            LoginState::SecurityOfficer(Officer::AdminKey(_)) => {
                return Err(Rv(CKR_FUNCTION_NOT_SUPPORTED));
            }
            LoginState::Nobody | LoginState::User(_) => Reference::Pin,
        };
        if old.is_empty() && self.asks_person(slot, new)? {
            if reference == Reference::Puk {
                // C_InitPIN needs the new PUK, which only the agent would know.
                return Err(Rv(CKR_FUNCTION_NOT_SUPPORTED));
            }
            self.ask_person(&Request::card(
                card,
                CardRequest::ChangePinByAgent { reference },
            ))?;
            // The login has ended, and only the person knows the new PIN.
            self.forget_login(slot);
            return Ok(());
        }
        let (old, new) = (secret(old)?, secret(new)?);
        let request = Request::card(
            card.clone(),
            CardRequest::ChangePin {
                old,
                new: new.clone(),
                reference,
            },
        );
        self.ask(&request, About::NewPin)?;
        // The change has ended every login of the card, this one too; a program that was logged in must remain so.
        match login {
            LoginState::SecurityOfficer(_) => {
                self.state().slot(slot)?.login = LoginState::SecurityOfficer(Officer::Puk(new));
            }
            LoginState::User(_) => {
                self.forget_login(slot);
                self.ask_primary(
                    &Request::card(card, CardRequest::Login { pin: new }),
                    About::Pin,
                )?;
                let since = self.pool.losses();
                self.state().slot(slot)?.login = LoginState::User(since);
                let _ = self.pool.share(LIMIT);
            }
            LoginState::Nobody => {}
        }
        Ok(())
    }

    /// C_InitToken would destroy keys, which only an administrator of the machine is allowed to do.
    pub(crate) fn init_token(&self, slot: CK_SLOT_ID) -> Result {
        self.require_token(slot)?;
        let state = self.state();
        if state.sessions.values().any(|session| session.slot == slot) {
            return Err(Rv(CKR_SESSION_EXISTS));
        }
        Err(Rv(CKR_FUNCTION_NOT_SUPPORTED))
    }
}

fn secret(pin: &[u8]) -> Result<SecretBytes> {
    if pin.is_empty() || pin.len() > 127 {
        return Err(Rv(CKR_PIN_LEN_RANGE));
    }
    Ok(SecretBytes::new(pin.to_vec()))
}

fn admin_key(digits: &[u8]) -> Option<SecretBytes> {
    if digits.len() != 48 {
        return None;
    }
    let mut key = Zeroizing::new([0; 24]);
    let read = base16ct::mixed::decode(digits, &mut *key).ok()?;
    Some(SecretBytes::new(read.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::thread;

    use cardea_client::message::{CardOverview, CardState, CardStatus, ConnectionRequest};

    use super::*;
    use crate::fake_daemon::FakeDaemon;
    use crate::object::{Body, Given, Key, KeyReference};

    /// A card of digits alone, or of any characters.
    fn status(digits_alone: bool) -> CardStatus {
        let other = if digits_alone { 2 } else { 0 };
        let mut policy = [0; 32];
        for (at, word) in [1, 4, 127, 0, 0, 0, 0, other].into_iter().enumerate() {
            policy[at * 4..at * 4 + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
        CardStatus {
            overview: CardOverview {
                card_id: "11".repeat(16),
                name: "work".to_owned(),
                state: CardState::Ready,
                reason: String::new(),
                uninitialised: false,
            },
            pin: None,
            puk: None,
            administrator: false,
            pin_policy: Some(policy),
            pin_pad: false,
            logged_in: None,
            counter_mode: None,
            algorithms: None,
        }
    }

    #[test]
    fn line_end_behind_a_pin_is_left_out_where_no_pin_has_one() {
        for (digits_alone, sent) in [(true, &b"271828"[..]), (false, b"271828\n")] {
            let daemon = FakeDaemon::new();
            let (sender, pins) = mpsc::channel();
            daemon.serve(move |request| {
                Some(match request {
                    Request::Card {
                        request: CardRequest::Login { pin },
                        ..
                    } => {
                        sender.send(pin.expose().to_vec()).unwrap();
                        Reply::Done
                    }
                    Request::Card {
                        request: CardRequest::Status,
                        ..
                    } => Reply::Status(Box::new(status(digits_alone))),
                    _ => Reply::Done,
                })
            });
            let (module, slot, session) = daemon.logged_in();
            module.forget_login(slot);
            module.login(session, CKU_USER, b"271828\n").unwrap();
            assert_eq!(pins.recv().unwrap(), sent);
        }
    }

    #[test]
    fn last_session_ends_its_keys_with_the_login() {
        let daemon = FakeDaemon::new();
        daemon.serve(|_| Some(Reply::Done));
        for all in [false, true] {
            let (module, slot, session) = daemon.logged_in();
            let other = module.state().add_session(Session::new(slot, true));
            for session in [session, other] {
                let key = Key::for_test(KeyReference::Session(session), 1);
                let body = Body::PrivateKey(Arc::new(key));
                let (label, id) = (String::new(), Vec::new());
                let mut state = module.state();
                state
                    .add_object(session, label, id, Given::new(), body)
                    .unwrap();
            }
            if all {
                module.close_all_sessions(slot).unwrap();
            } else {
                module.close_session(other).unwrap();
                let delete = format!("DeleteSessionKey {{ key: {other} }}");
                assert_eq!(daemon.card_requests(), [delete]);
                module.close_session(session).unwrap();
            }
            assert_eq!(daemon.card_requests(), ["Logout"], "{all}");
        }
    }

    /// Programs call it while they draw a window.
    #[test]
    fn state_of_a_session_is_shown_though_the_daemon_does_not_answer() {
        let daemon = FakeDaemon::new();
        daemon.serve(|request| match request {
            Request::Connection(ConnectionRequest::ShareLogins) => {
                Some(Reply::Result(SecretBytes::new(vec![1; 16])))
            }
            Request::Connection(_) => Some(Reply::Done),
            _ => None,
        });
        let (module, _, session) = daemon.logged_in();
        module.pool.share(LIMIT).unwrap();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || send.send(module.session_info(session)));
        // Half of the limit of other requests.
        let shown = receive.recv_timeout(LIMIT / 2).unwrap();
        assert_eq!(shown.unwrap().state, CKS_RW_USER_FUNCTIONS);
        assert_eq!(daemon.card_requests(), ["Status"]);
    }

    #[test]
    fn admin_key_is_48_hexadecimal_digits() {
        let key = admin_key(b"0102030405060708090A0b0C0D0E0F101112131415161718").unwrap();
        assert_eq!(key.expose(), (1..=24).collect::<Vec<u8>>());
        assert!(admin_key(b"57721566").is_none());
        assert!(admin_key(&[b'g'; 48]).is_none());
        assert!(admin_key(&[b'0'; 50]).is_none());
    }
}
