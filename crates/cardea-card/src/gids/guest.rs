//! What GIDS lets a machine do that the card is redirected to: its holder uses the keys there, nothing is changed,
//! and no try is spent from there.

use cardea_iso7816::Chaining;

use super::Instruction;
use crate::engine::{Command, Failure, Verdict};

/// Judges a command, or a part of one.
pub(super) fn judge(command: &Command<'_>, chaining: Chaining) -> Verdict {
    let instruction = match Instruction::parse(command.ins) {
        Ok(instruction) => instruction,
        Err(failure) => return failure.into(),
    };
    match (instruction, chaining) {
        (
            Instruction::GetData | Instruction::ManageSecurityEnvironment | Instruction::Select,
            _,
        )
        | (Instruction::PerformSecurityOperation, Chaining::More) => Verdict::Passes,
        (Instruction::PerformSecurityOperation, Chaining::Last) => Verdict::UsesKey,
        // How many tries are left, or an end of what was verified.
        (Instruction::Verify, Chaining::Last) if command.data.is_empty() => Verdict::Passes,
        (
            Instruction::ActivateFile
            | Instruction::ChangeReferenceData
            | Instruction::CreateFile
            | Instruction::DeleteFile
            | Instruction::GeneralAuthenticate
            | Instruction::Generate
            | Instruction::PutData
            | Instruction::ResetRetryCounter
            | Instruction::TerminateDf
            | Instruction::Verify,
            _,
        ) => Failure::SecurityStatus.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gids;
    use super::*;

    fn judge(apdu: &[u8]) -> Verdict {
        crate::engine::guest::judge(&Gids, apdu)
    }

    #[test]
    fn holder_reads_and_uses_keys() {
        for passes in [
            &[0x00, 0xA4, 0x04, 0x00][..],
            &[0x00, 0xCB, 0x3F, 0xFF, 4, 0x5C, 2, 0xDF, 0x20, 0],
            &[0x00, 0xC0, 0, 0, 0],
            &[0x00, 0x22, 0x41, 0xB6, 3, 0x84, 1, 0x81],
            &[0x00, 0x20, 0, 0x80],
            &[0x00, 0x20, 0, 0x82],
            &[0x10, 0x2A, 0x9E, 0x9A, 1, 7],
        ] {
            assert_eq!(judge(passes), Verdict::Passes, "{passes:02x?}");
        }
        for uses in [
            &[0x00, 0x2A, 0x9E, 0x9A, 1, 7, 0][..],
            &[0x00, 0x2A, 0x80, 0x86, 1, 7],
            &[0x00, 0x2A, 0, 0],
        ] {
            assert_eq!(judge(uses), Verdict::UsesKey, "{uses:02x?}");
        }
    }

    #[test]
    fn pins_and_changes_do_not_reach_the_card() {
        for refused in [
            // PINs, whole and in parts.
            &[0x00, 0x20, 0, 0x80, 4, 1, 2, 3, 4][..],
            &[0x00, 0x20, 0, 0x80, 0, 0, 4, 1, 2, 3, 4],
            &[0x00, 0x20, 0, 0x81, 1, 1],
            &[0x10, 0x20, 0, 0x80, 4, 1, 2, 3, 4],
            &[0x10, 0x20, 0, 0x80],
            &[0x00, 0x24, 0, 0x80, 2, 1, 2],
            &[0x00, 0x2C, 2, 0x80, 1, 2],
            // The administrator, files, keys.
            &[0x00, 0x87, 0, 0, 4, 0x7C, 2, 0x81, 0, 0],
            &[0x00, 0x47, 0, 0, 1, 1],
            &[0x00, 0xDB, 0x3F, 0xFF, 1, 1],
            &[0x00, 0xE0, 0, 0, 1, 1],
            &[0x00, 0xE4, 0, 0],
            &[0x00, 0xE6, 0, 0],
            &[0x00, 0x44, 0, 0],
        ] {
            assert_eq!(
                judge(refused),
                Verdict::Refused([0x69, 0x82]),
                "{refused:02x?}"
            );
        }
    }

    #[test]
    fn what_no_card_knows_is_answered_as_it_would() {
        for (unknown, status) in [
            (&[0x00, 0x88, 0, 0][..], [0x6D, 0x00]),
            (&[0x80, 0x20, 0, 0x80, 1, 1], [0x6E, 0x00]),
            (&[0x01, 0x20, 0, 0x80, 1, 1], [0x6E, 0x00]),
            (&[0x0C, 0x20, 0, 0x80, 1, 1], [0x6E, 0x00]),
            (&[0x00, 0x20, 0], [0x67, 0x00]),
            (&[], [0x67, 0x00]),
        ] {
            assert_eq!(judge(unknown), Verdict::Refused(status), "{unknown:02x?}");
        }
    }

    /// Whatever a header says: nothing that carries data to VERIFY or to a command that changes the card passes.
    #[test]
    fn every_header_is_judged() {
        for cla in 0..=255 {
            for ins in 0..=255 {
                let verdict = judge(&[cla, ins, 0, 0x80, 1, 1]);
                let passes = verdict == Verdict::Passes;
                let uses = verdict == Verdict::UsesKey;
                assert!(!passes || [0xA4, 0xCB, 0xC0, 0x22, 0x2A].contains(&ins));
                assert!(!uses || ins == 0x2A);
                assert!(!(passes || uses) || [0x00, 0x10].contains(&cla));
            }
        }
    }
}
