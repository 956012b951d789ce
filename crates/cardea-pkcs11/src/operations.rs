//! The operations of a session from their Init function to their end (PKCS#11 3.1 §5.8 to §5.15, and C_WrapKey and
//! C_UnwrapKey of §5.18, which are an encryption and a decryption in one call).

use cardea_client::message::{CardRequest, Operation, Reply, Request};
use cryptoki_sys::*;
use zeroize::Zeroizing;

use crate::mechanisms::Mechanism;
use crate::module::Module;
use crate::object::{Key, KeyReference};
use crate::output::Output;
use crate::pool::LIMIT;
use crate::running::{Family, Running};
use crate::rv::{About, Result, Rv};
use crate::state::PinProof;
use crate::{decryption, encryption, signing, verification};

impl Module {
    /// C_SignInit and the other Init functions. Without a mechanism the running operation is cancelled.
    pub(crate) fn begin(
        &self,
        session: CK_SESSION_HANDLE,
        family: Family,
        mechanism: Option<Mechanism>,
        key: CK_OBJECT_HANDLE,
    ) -> Result {
        let Some(mechanism) = mechanism else {
            let cancelled = self.state().session(session)?.end(family);
            return cancelled.map(drop).ok_or(Rv(CKR_ARGUMENTS_BAD));
        };
        if self.state().session(session)?.operation(family).is_some() {
            return Err(Rv(CKR_OPERATION_ACTIVE));
        }
        let mechanism = mechanism.for_function(family.flag())?;
        let key = match family {
            Family::Decrypt | Family::Sign => Some(self.private_key(session, key)?),
            Family::Digest => None,
            Family::Encrypt | Family::Verify => Some(self.public_key(session, key)?),
        };
        let running = Running::new(family, mechanism, key)?;
        let mut state = self.state();
        state.session(session)?.begin(running);
        Ok(())
    }

    /// C_SignUpdate and the other Update functions. Results come only at the end; an error ends the operation.
    pub(crate) fn update(&self, session: CK_SESSION_HANDLE, family: Family, data: &[u8]) -> Result {
        let mut state = self.state();
        let session = state.session(session)?;
        let running = session.operation(family).as_mut();
        let result = running
            .ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?
            .update(data);
        if result.is_err() {
            drop(session.end(family));
        }
        result
    }

    /// C_DigestKey: continues with the value of a secret key.
    pub(crate) fn digest_key(&self, session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) -> Result {
        let is_running = |running: &mut Option<Running>| running.is_some();
        if !is_running(self.state().session(session)?.operation(Family::Digest)) {
            return Err(Rv(CKR_OPERATION_NOT_INITIALIZED));
        }
        let value = self.secret(session, key).map_err(|error| match error {
            Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_KEY_INDIGESTIBLE),
            other => other,
        })?;
        self.update(session, Family::Digest, &value)
    }

    /// C_SignFinal and the other Final functions, or C_Sign and the others of one part with the data.
    pub(crate) fn finish(
        &self,
        session: CK_SESSION_HANDLE,
        family: Family,
        data: Option<&[u8]>,
        mut output: Output<'_>,
    ) -> Result {
        let mut state = self.state();
        let place = state.session(session)?.operation(family);
        let running = place.as_ref().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if !running.is_result_wanted(&mut output)? {
            return Ok(());
        }
        let mut running = place.take().ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        drop(state);
        let result = match running.result.take() {
            Some(result) => Ok(result),
            None => data
                .map_or(Ok(()), |data| running.update(data))
                .and_then(|()| self.result(session, &mut running)),
        };
        // It was for this operation, which has ended; with the card, the session may have gone too.
        if let Ok(session) = self.state().session(session) {
            session.forget_context_login(family);
        }
        let result = result?;
        match output.room(result.len()) {
            Ok(_) => output.put(&result),
            Err(error) => {
                running.result = Some(result);
                *self.state().session(session)?.operation(family) = Some(running);
                Err(error)
            }
        }
    }

    fn result(
        &self,
        session: CK_SESSION_HANDLE,
        running: &mut Running,
    ) -> Result<Zeroizing<Vec<u8>>> {
        match running.family {
            Family::Decrypt => self.decrypt(session, running, Some(Family::Decrypt)),
            Family::Digest => Ok(running.take_message().1),
            Family::Encrypt => encryption::encrypt(running),
            Family::Sign => {
                let operation = signing::operation(running)?;
                self.use_key(session, running.key()?, operation, Some(Family::Sign))
            }
            // Its result is a return value: see `verify_end`.
            Family::Verify => Err(Rv(CKR_FUNCTION_FAILED)),
        }
    }

    /// C_VerifyFinal, or C_Verify with the data.
    pub(crate) fn verify_end(
        &self,
        session: CK_SESSION_HANDLE,
        data: Option<&[u8]>,
        signature: &[u8],
    ) -> Result {
        let running = self
            .state()
            .session(session)?
            .operation(Family::Verify)
            .take();
        let mut running = running.ok_or(Rv(CKR_OPERATION_NOT_INITIALIZED))?;
        if let Some(data) = data {
            running.update(data)?;
        }
        verification::verify(running, signature)
    }

    /// C_WrapKey: encrypts the value of a secret key of the session.
    pub(crate) fn wrap(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        wrapping: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        mut output: Output<'_>,
    ) -> Result {
        self.slot_of(session)?;
        let mechanism = mechanism.for_function(CKF_WRAP)?;
        let wrapping = self
            .public_key(session, wrapping)
            .map_err(|error| match error {
                Rv(CKR_KEY_HANDLE_INVALID) => Rv(CKR_WRAPPING_KEY_HANDLE_INVALID),
                Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_WRAPPING_KEY_TYPE_INCONSISTENT),
                other => other,
            })?;
        // A card's private keys never leave it, not even encrypted.
        let value = self.secret(session, key).map_err(|error| match error {
            Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_KEY_UNEXTRACTABLE),
            other => other,
        })?;
        let mut running = Running::new(Family::Encrypt, mechanism, Some(wrapping))?;
        if !output.room(running.length)? {
            return Ok(());
        }
        running.update(&value).map_err(|_| Rv(CKR_KEY_SIZE_RANGE))?;
        output.put(&encryption::encrypt(&mut running)?)
    }

    /// The plain text of a wrapped key, for C_UnwrapKey.
    pub(crate) fn unwrapped(
        &self,
        session: CK_SESSION_HANDLE,
        mechanism: Mechanism,
        unwrapping: CK_OBJECT_HANDLE,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let plain = || {
            self.slot_of(session)?;
            let mechanism = mechanism.for_function(CKF_UNWRAP)?;
            let key = self.private_key(session, unwrapping)?;
            let mut running = Running::new(Family::Decrypt, mechanism, Some(key))?;
            running.update(wrapped)?;
            self.decrypt(session, &mut running, None)
        };
        plain().map_err(|error| match error {
            Rv(CKR_ENCRYPTED_DATA_INVALID) => Rv(CKR_WRAPPED_KEY_INVALID),
            Rv(CKR_ENCRYPTED_DATA_LEN_RANGE) => Rv(CKR_WRAPPED_KEY_LEN_RANGE),
            Rv(CKR_KEY_HANDLE_INVALID) => Rv(CKR_UNWRAPPING_KEY_HANDLE_INVALID),
            Rv(CKR_KEY_TYPE_INCONSISTENT) => Rv(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT),
            other => other,
        })
    }

    fn decrypt(
        &self,
        session: CK_SESSION_HANDLE,
        running: &mut Running,
        initialised: Option<Family>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let (_, cryptogram) = running.take_message();
        if cryptogram.len() != running.length {
            return Err(Rv(CKR_ENCRYPTED_DATA_LEN_RANGE));
        }
        let operation = decryption::operation(&running.scheme, cryptogram.to_vec())?;
        let answer = self
            .use_key(session, running.key()?, operation, initialised)
            .map_err(|error| match error {
                Rv(CKR_DATA_INVALID) => Rv(CKR_ENCRYPTED_DATA_INVALID),
                other => other,
            })?;
        decryption::plain_text(&running.scheme, answer)
    }

    /// One private operation, one round trip. `initialised` is the operation that the program has begun, if it is part
    /// of one: a context-specific login is for that one alone.
    pub(crate) fn use_key(
        &self,
        session: CK_SESSION_HANDLE,
        key: &Key,
        operation: Operation,
        initialised: Option<Family>,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let slot = self.slot_of(session)?;
        let request = Request::card(
            self.card(slot)?,
            match key.reference.ok_or(Rv(CKR_KEY_HANDLE_INVALID))? {
                KeyReference::Card(reference) => CardRequest::UseKey {
                    pin: None,
                    reference,
                    operation,
                },
                KeyReference::Session(key) => CardRequest::UseSessionKey { key, operation },
            },
        );
        let proof = self.state().session(session)?.take_pin_proof(initialised);
        let answer = match proof {
            _ if !key.always => self.ask_verified(slot, &request, About::Data, LIMIT),
            PinProof::ContextLogin(mut client) => match client.call(&request, LIMIT) {
                Ok(Reply::Failed(failure)) => Err(Rv::of(&failure, About::Data)),
                Ok(reply) => Ok(reply),
                Err(_) => Err(Rv(CKR_DEVICE_REMOVED)),
            },
            // The card allows a single operation after each verification.
            PinProof::UserLogin => self.ask_primary(&request, About::Data),
            PinProof::None => Err(Rv(CKR_USER_NOT_LOGGED_IN)),
        };
        match answer {
            Ok(Reply::Result(result)) => Ok(Zeroizing::new(result.expose().to_vec())),
            Ok(_) => Err(Rv(CKR_DEVICE_ERROR)),
            Err(Rv(CKR_KEY_HANDLE_INVALID)) => {
                // The key was deleted through another door, or ended with the program's logins, or the card is gone.
                if let Some(KeyReference::Session(name)) = key.reference {
                    self.state().slot(slot)?.forget_session_key(name);
                }
                // A list that cannot be read says nothing of the card.
                Err(match self.require_token(slot) {
                    Ok(()) => Rv(CKR_KEY_HANDLE_INVALID),
                    Err(Rv(CKR_TOKEN_NOT_PRESENT)) => Rv(CKR_DEVICE_REMOVED),
                    Err(other) => other,
                })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use cardea_client::message::{ConnectionRequest, Failure, FailureKind, Page};

    use super::*;
    use crate::fake_daemon::FakeDaemon;

    fn failed(kind: FailureKind) -> Option<Reply> {
        Some(Reply::Failed(Failure {
            kind,
            message: String::new(),
            tries_left: None,
        }))
    }

    #[test]
    fn key_is_missing_or_the_card_or_the_list_cannot_be_read() {
        let key = Key::for_test(KeyReference::Card(0x81), 1);
        for (list, expected) in [
            (failed(FailureKind::Failed), CKR_DEVICE_ERROR),
            (
                Some(Reply::Overview(Page::cut(1, None, |_| std::iter::empty()))),
                CKR_DEVICE_REMOVED,
            ),
        ] {
            let daemon = FakeDaemon::new();
            let list = std::sync::Mutex::new(list);
            daemon.serve(move |request| match request {
                Request::Card { .. } => failed(FailureKind::NotFound),
                Request::Connection(ConnectionRequest::ShareLogins) => failed(FailureKind::Failed),
                _ => crate::module::lock(&list).take(),
            });
            let (module, _, session) = daemon.logged_in();
            let operation = Operation::Ecdh {
                x: vec![1; 32],
                y: vec![2; 32],
            };
            let used = module.use_key(session, &key, operation, None);
            assert_eq!(used.unwrap_err(), Rv(expected));
        }
    }
}
