//! From bytes to commands and back: class byte, command chaining, GET RESPONSE
//! (ISO 7816-4 §5.3.3, §5.3.4).

use cardea_iso7816::{
    ChainBuffer, Chaining, Class, CommandApdu, Interindustry, MAX_NE_SHORT, ResponseApdu,
    ResponseBuffer, SecureMessaging, StatusWord,
};
use zeroize::Zeroizing;

use super::application::Application;
use super::command::{Command, Reply};
use super::failure::Failure;

/// Most bytes of a command in all its parts: a data object of 16 KiB and its header fit.
const MAX_CHAIN: usize = 17 * 1024;

/// SELECT.
pub(crate) const SELECT: u8 = 0xA4;

/// GET RESPONSE.
pub(super) const GET_RESPONSE: u8 = 0xC0;

/// A connection's chain of commands in parts and the part of an answer not yet fetched.
#[derive(Debug)]
pub(crate) struct Transport {
    chain: ChainBuffer,
    pending: ResponseBuffer,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            chain: ChainBuffer::new(MAX_CHAIN),
            pending: ResponseBuffer::new(),
        }
    }
}

impl Transport {
    /// One APDU in, one out, for the application that is selected. `execute` is called for complete commands.
    pub(crate) fn exchange(
        &mut self,
        apdu: &[u8],
        application: &dyn Application,
        execute: impl FnOnce(&Command<'_>) -> Result<Reply, Failure>,
    ) -> Zeroizing<Vec<u8>> {
        let Ok(apdu) = CommandApdu::parse(apdu) else {
            return self.refuse(&Failure::Length);
        };
        match self.answer(&apdu, application, execute) {
            Ok(response) => response,
            Err(failure) => self.refuse(&failure),
        }
    }

    /// A refused command ends the chain and drops the rest of an answer like any other.
    fn refuse(&mut self, failure: &Failure) -> Zeroizing<Vec<u8>> {
        self.chain.clear();
        self.pending.clear();
        ResponseApdu::status(failure.status()).to_bytes()
    }

    fn answer(
        &mut self,
        apdu: &CommandApdu<'_>,
        application: &dyn Application,
        execute: impl FnOnce(&Command<'_>) -> Result<Reply, Failure>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let chaining = chaining(apdu.cla)?;
        if apdu.ins == GET_RESPONSE {
            return self.get_response(apdu, chaining);
        }
        self.pending.clear();
        if chaining == Chaining::More {
            // SELECT may change the application that is asked.
            if apdu.ins == SELECT {
                return Err(Failure::Chaining);
            }
            application.may_chain(apdu.ins)?;
        }
        // A command that does not continue the chain cancels it and is executed.
        let collected = self
            .chain
            .add(apdu, chaining)
            .map_err(|_| Failure::Memory)?;
        let Some(data) = collected else {
            return Ok(ResponseApdu::status(StatusWord::SUCCESS).to_bytes());
        };
        let reply = execute(&Command {
            ins: apdu.ins,
            p1: apdu.p1,
            p2: apdu.p2,
            data: &data,
        })?;
        let (data, ne) = match (reply, apdu.ne) {
            (Reply::Done, _) | (Reply::OnRequest(_), None) => {
                return Ok(ResponseApdu::status(StatusWord::SUCCESS).to_bytes());
            }
            (Reply::Data(data) | Reply::Held(data) | Reply::OnRequest(data), Some(ne)) => {
                (data, ne)
            }
            (Reply::Data(data), None) => (data, MAX_NE_SHORT),
            (Reply::Held(data), None) => (data, 0),
        };
        let response = self.pending.begin(data, ne).to_bytes();
        self.erase_what_was_sent();
        Ok(response)
    }

    /// The next part of what is pending. Does not touch the security state.
    fn get_response(
        &mut self,
        apdu: &CommandApdu<'_>,
        chaining: Chaining,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.chain.clear();
        if chaining == Chaining::More {
            return Err(Failure::Chaining);
        }
        if self.pending.pending() == 0 {
            return Err(Failure::Conditions);
        }
        if (apdu.p1, apdu.p2) != (0, 0) {
            return Err(Failure::Parameters);
        }
        if !apdu.data.is_empty() {
            return Err(Failure::Length);
        }
        let response = self
            .pending
            .next_part(apdu.ne.unwrap_or(MAX_NE_SHORT))
            .map_err(|_| Failure::Conditions)?
            .to_bytes();
        self.erase_what_was_sent();
        Ok(response)
    }

    /// Plain text that was deciphered stays in memory no longer than it takes to send it.
    fn erase_what_was_sent(&mut self) {
        if self.pending.pending() == 0 {
            self.pending.clear();
        }
    }
}

/// The class byte: is another part to come? Channels from 4 up have class bytes of their own, which are
/// as unknown here as proprietary ones.
pub(super) fn chaining(cla: u8) -> Result<Chaining, Failure> {
    match Class::from_byte(cla) {
        Class::Interindustry(Interindustry { channel: 4.., .. })
        | Class::Proprietary(_)
        | Class::Reserved(_) => Err(Failure::Class),
        Class::Interindustry(Interindustry {
            secure_messaging:
                SecureMessaging::Proprietary
                | SecureMessaging::Standard
                | SecureMessaging::HeaderAuthenticated,
            ..
        }) => Err(Failure::SecureMessaging),
        Class::Interindustry(Interindustry {
            channel: 0,
            chaining,
            ..
        }) => Ok(chaining),
        Class::Interindustry(_) => Err(Failure::Channel),
    }
}
