//! The GIDS application (Generic Identity Device Specification 2.0, Microsoft's generic profile).
//!
//! Current after a reset; data objects in elementary files; keys behind key files;
//! one PIN, perhaps a PUK, an administrator's key. Where clients differ from the specification, the
//! client decides; the module that obeys says which.
//!
//! Begin with [`Gids`] for what the engine asks, with `State::execute` for the commands, with [`created_card`] for
//! what a new card holds.

mod access;
mod authenticate;
mod catalogue;
mod check;
mod content;
mod digest_info;
mod environment;
mod file_management;
mod files;
mod filesystem;
mod generate;
mod get_data;
mod guest;
mod key_file;
mod life_cycle;
mod mechanism;
mod operation;
mod pin;
mod public_key;
mod put_data;
mod put_key;
mod reference;
mod select;
mod templates;

use cardea_iso7816::Chaining;

use crate::engine::{
    Application, Card, CardError, Command, Connection, Failure, Reply, SelectedApplication, Verdict,
};
use crate::record::CardRecord;

pub use self::content::{Freshness, blank_card, bump_freshness, created_card, uninitialised_card};

use self::life_cycle::is_operational;

/// Answer to reset: T=1, historical bytes with the application identifier in a compact-TLV object
/// (ISO 7816-3 §8, ISO 7816-4 §12.1.1). The structure is that of Microsoft's virtual card.
pub const ATR: &[u8] = &[
    0x3B, 0x8D, 0x01, 0x80, 0xFB, 0xA0, 0x00, 0x00, 0x03, 0x97, 0x42, 0x54, 0x46, 0x59, 0x02, 0x01,
    0xC9,
];

/// Application identifier: Microsoft GIDS, second revision, first application.
pub const AID: &[u8; 11] = &[
    0xA0, 0x00, 0x00, 0x03, 0x97, 0x42, 0x54, 0x46, 0x59, 0x02, 0x01,
];

/// The application.
#[derive(Clone, Copy, Debug)]
pub struct Gids;

impl Application for Gids {
    fn aid(&self) -> &'static [u8] {
        AID
    }

    fn answer_to_reset(&self) -> &'static [u8] {
        ATR
    }

    fn check(&self, record: &CardRecord) -> Result<(), CardError> {
        check::record(record)
    }

    fn may_chain(&self, instruction: u8) -> Result<(), Failure> {
        may_chain(instruction)
    }

    fn judge_guest(&self, command: &Command<'_>, chaining: Chaining) -> Verdict {
        guest::judge(command, chaining)
    }

    fn select(&self) -> Box<dyn SelectedApplication> {
        Box::new(State::default())
    }
}

/// State of the application on one connection.
#[derive(Debug, Default)]
struct State {
    selection: Selection,
    environment: environment::Environment,
    /// The challenge that the next command may answer.
    challenge: Option<authenticate::Challenge>,
}

/// What is current besides the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Selection {
    /// After SELECT `3FFF`: ACTIVATE FILE means the DF.
    Df,
    /// An elementary file.
    File(u16),
    /// No elementary file.
    #[default]
    None,
}

impl SelectedApplication for State {
    /// Gate and dispatcher.
    fn execute(
        &mut self,
        card: &mut Card,
        connection: &mut Connection,
        command: &Command<'_>,
    ) -> Result<Reply, Failure> {
        // Any other command between the two steps destroys the challenge.
        let challenge = self.challenge.take();
        let instruction = Instruction::parse(command.ins);
        let keeps_armed = matches!(
            instruction,
            Ok(Instruction::ManageSecurityEnvironment | Instruction::PerformSecurityOperation)
        );
        if !keeps_armed {
            card.disarm(connection);
        }
        let instruction = instruction?;
        if !is_operational(card) && instruction.is_for_operational_cards() {
            return Err(Failure::NotAllowed);
        }
        let reply = match instruction {
            Instruction::ActivateFile => file_management::activate(card, connection, self, command),
            Instruction::ChangeReferenceData => pin::change(card, connection, command),
            Instruction::CreateFile => file_management::create(card, connection, self, command),
            Instruction::DeleteFile => file_management::delete(card, connection, self, command),
            Instruction::GeneralAuthenticate => {
                authenticate::authenticate(card, connection, self, challenge, command)
            }
            Instruction::Generate => generate::generate(card, connection, command),
            Instruction::GetData => get_data::get_data(card, connection, self, command),
            Instruction::ManageSecurityEnvironment => {
                environment::manage(card, connection, &mut self.environment, command)
            }
            Instruction::PerformSecurityOperation => {
                operation::perform(card, connection, &self.environment, command)
            }
            Instruction::PutData => put_data::put_data(card, connection, self, command),
            Instruction::ResetRetryCounter => pin::reset_retry_counter(card, connection, command),
            Instruction::Select => select::select(card, self, command),
            Instruction::TerminateDf => file_management::terminate(card, connection, command),
            Instruction::Verify => pin::verify(card, connection, command),
        };
        if matches!(instruction, Instruction::PerformSecurityOperation) {
            card.disarm(connection);
        }
        reply
    }
}

/// Whether a command may come in parts (command chaining, ISO 7816-4 §5.3.3).
fn may_chain(ins: u8) -> Result<(), Failure> {
    match Instruction::parse(ins)? {
        Instruction::ChangeReferenceData
        | Instruction::CreateFile
        | Instruction::GeneralAuthenticate
        | Instruction::ManageSecurityEnvironment
        | Instruction::PerformSecurityOperation
        | Instruction::PutData
        | Instruction::ResetRetryCounter
        | Instruction::Verify => Ok(()),
        Instruction::ActivateFile
        | Instruction::DeleteFile
        | Instruction::Generate
        | Instruction::GetData
        | Instruction::Select
        | Instruction::TerminateDf => Err(Failure::Chaining),
    }
}

/// The commands of the application. GET RESPONSE belongs to the transport.
#[derive(Clone, Copy)]
enum Instruction {
    ActivateFile,
    ChangeReferenceData,
    CreateFile,
    DeleteFile,
    GeneralAuthenticate,
    Generate,
    GetData,
    ManageSecurityEnvironment,
    PerformSecurityOperation,
    PutData,
    ResetRetryCounter,
    Select,
    TerminateDf,
    Verify,
}

impl Instruction {
    /// INTERNAL AUTHENTICATE (`88`) and the BER-TLV variants `21`, `25`, `2D` are in the specification's
    /// list, but no client sends them.
    fn parse(ins: u8) -> Result<Self, Failure> {
        match ins {
            0x20 => Ok(Self::Verify),
            0x22 => Ok(Self::ManageSecurityEnvironment),
            0x24 => Ok(Self::ChangeReferenceData),
            0x2A => Ok(Self::PerformSecurityOperation),
            0x2C => Ok(Self::ResetRetryCounter),
            0x44 => Ok(Self::ActivateFile),
            0x47 => Ok(Self::Generate),
            0x87 => Ok(Self::GeneralAuthenticate),
            0xA4 => Ok(Self::Select),
            0xCB => Ok(Self::GetData),
            0xDB => Ok(Self::PutData),
            0xE0 => Ok(Self::CreateFile),
            0xE4 => Ok(Self::DeleteFile),
            0xE6 => Ok(Self::TerminateDf),
            _ => Err(Failure::Instruction),
        }
    }

    /// In initialisation state there are no rights and no cryptography (GIDS 2.0, life cycle).
    fn is_for_operational_cards(self) -> bool {
        match self {
            Self::GeneralAuthenticate
            | Self::ManageSecurityEnvironment
            | Self::PerformSecurityOperation
            | Self::ResetRetryCounter
            | Self::TerminateDf => true,
            Self::ActivateFile
            | Self::ChangeReferenceData
            | Self::CreateFile
            | Self::DeleteFile
            | Self::Generate
            | Self::GetData
            | Self::PutData
            | Self::Select
            | Self::Verify => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atr_is_well_formed_and_names_the_application() {
        // T0 says TD1 and 13 historical bytes, TD1 says T=1; TCK makes the XOR zero.
        assert_eq!(ATR[1], 0x80 | 13);
        assert_eq!(ATR.len(), 3 + 13 + 1);
        assert_eq!(ATR[1..].iter().fold(0, |sum, byte| sum ^ byte), 0);
        assert_eq!(ATR[3..5], [0x80, 0xFB]);
        assert_eq!(&ATR[5..16], AID);
    }
}
