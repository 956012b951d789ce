//! What every command has to be tried against: the matrix is complete when each has a row.

use super::row::Object::{Endorsement, Lockout, Nothing, Null, Owner, Platform};
use super::row::{ARMED, INDICES, KEYS, OBJECTS, Object, Row, SESSIONS};
use crate::bench::{Bench, Outcome};
use crate::raw::{cc, command_name};

/// Commands that a TPM may have, and what of a card or of its TPM each can be told to work on.
const TAKES: &[(u32, &[&[Object]])] = &[
    (cc::NV_UNDEFINE_SPACE_SPECIAL, &[INDICES]),
    (cc::EVICT_CONTROL, &[OBJECTS, INDICES]),
    (cc::HIERARCHY_CONTROL, &[&[Owner, Endorsement, Platform]]),
    (cc::NV_UNDEFINE_SPACE, &[INDICES]),
    (cc::CHANGE_EPS, &[&[Platform]]),
    (cc::CHANGE_PPS, &[&[Platform]]),
    (cc::CLEAR, &[&[Lockout, Platform]]),
    (cc::CLEAR_CONTROL, &[&[Lockout, Platform]]),
    (cc::CLOCK_SET, &[&[Owner, Platform]]),
    (cc::HIERARCHY_CHANGE_AUTH, &[HIERARCHIES]),
    (cc::NV_DEFINE_SPACE, &[INDICES]),
    (cc::PCR_ALLOCATE, &[&[Platform]]),
    (cc::PCR_SET_AUTH_POLICY, &[&[Platform]]),
    (cc::PP_COMMANDS, &[&[Platform]]),
    (cc::SET_PRIMARY_POLICY, &[HIERARCHIES]),
    (cc::CLOCK_RATE_ADJUST, &[&[Owner, Platform]]),
    (cc::CREATE_PRIMARY, &[&[Owner, Endorsement, Platform, Null]]),
    (cc::NV_GLOBAL_WRITE_LOCK, &[&[Owner, Platform]]),
    (cc::GET_COMMAND_AUDIT_DIGEST, &[OBJECTS, &[Endorsement]]),
    (cc::NV_INCREMENT, &[INDICES]),
    (cc::NV_SET_BITS, &[INDICES]),
    (cc::NV_EXTEND, &[INDICES]),
    (cc::NV_WRITE, &[INDICES]),
    (cc::NV_WRITE_LOCK, &[INDICES]),
    (cc::LOCK_RESET, &[&[Lockout]]),
    (cc::LOCK_PARAMETERS, &[&[Lockout]]),
    (cc::NV_CHANGE_AUTH, &[INDICES]),
    (cc::PCR_EVENT, &[&[Nothing]]),
    (cc::PCR_RESET, &[&[Nothing]]),
    (cc::SEQUENCE_COMPLETE, &[&[Nothing]]),
    (cc::SET_ALGORITHM_SET, &[&[Platform]]),
    (cc::SET_COMMAND_CODE_AUDIT_STATUS, &[&[Owner, Platform]]),
    (cc::INCREMENTAL_SELF_TEST, &[&[Nothing]]),
    (cc::SELF_TEST, &[&[Nothing]]),
    (cc::STARTUP, &[&[Nothing]]),
    (cc::SHUTDOWN, &[&[Nothing]]),
    (cc::STIR_RANDOM, &[&[Nothing]]),
    (cc::ACTIVATE_CREDENTIAL, &[OBJECTS]),
    (cc::CERTIFY, &[OBJECTS]),
    (cc::POLICY_NV, &[INDICES, ARMED]),
    (cc::CERTIFY_CREATION, &[OBJECTS]),
    (cc::DUPLICATE, &[OBJECTS]),
    (cc::GET_TIME, &[OBJECTS]),
    (cc::GET_SESSION_AUDIT_DIGEST, &[OBJECTS]),
    (cc::NV_READ, &[INDICES]),
    (cc::NV_READ_LOCK, &[INDICES]),
    (cc::OBJECT_CHANGE_AUTH, &[OBJECTS]),
    (cc::POLICY_SECRET, &[OBJECTS, INDICES, ARMED]),
    (cc::REWRAP, &[OBJECTS]),
    (cc::CREATE, &[OBJECTS]),
    (cc::ECDH_ZGEN, &[OBJECTS]),
    (cc::HMAC, &[OBJECTS]),
    (cc::IMPORT, &[OBJECTS]),
    (cc::LOAD, &[OBJECTS]),
    (cc::QUOTE, &[OBJECTS]),
    (cc::RSA_DECRYPT, &[OBJECTS]),
    (cc::HMAC_START, &[OBJECTS]),
    (cc::SEQUENCE_UPDATE, &[&[Nothing]]),
    (cc::SIGN, &[OBJECTS, ARMED]),
    (cc::UNSEAL, &[OBJECTS]),
    (cc::POLICY_SIGNED, &[OBJECTS, ARMED]),
    (cc::CONTEXT_LOAD, &[OBJECTS, SESSIONS]),
    (cc::CONTEXT_SAVE, &[OBJECTS, SESSIONS]),
    (cc::ECDH_KEY_GEN, &[OBJECTS]),
    (cc::ENCRYPT_DECRYPT, &[OBJECTS]),
    (cc::FLUSH_CONTEXT, &[OBJECTS, SESSIONS]),
    (cc::LOAD_EXTERNAL, &[KEYS, &[Owner, Null]]),
    (cc::MAKE_CREDENTIAL, &[OBJECTS]),
    (cc::NV_READ_PUBLIC, &[INDICES]),
    (cc::POLICY_AUTHORIZE, &[INDICES, ARMED]),
    (cc::POLICY_AUTH_VALUE, &[ARMED]),
    (cc::POLICY_COMMAND_CODE, &[ARMED]),
    (cc::POLICY_COUNTER_TIMER, &[ARMED]),
    (cc::POLICY_CP_HASH, &[ARMED]),
    (cc::POLICY_LOCALITY, &[ARMED]),
    (cc::POLICY_NAME_HASH, &[ARMED]),
    (cc::POLICY_OR, &[ARMED]),
    (cc::POLICY_TICKET, &[INDICES, ARMED]),
    (cc::READ_PUBLIC, &[OBJECTS]),
    (cc::RSA_ENCRYPT, &[OBJECTS]),
    (cc::START_AUTH_SESSION, &[OBJECTS, INDICES]),
    (cc::VERIFY_SIGNATURE, &[OBJECTS]),
    (cc::ECC_PARAMETERS, &[&[Nothing]]),
    (cc::GET_CAPABILITY, &[&[Nothing]]),
    (cc::GET_RANDOM, &[&[Nothing]]),
    (cc::GET_TEST_RESULT, &[&[Nothing]]),
    (cc::HASH, &[&[Nothing]]),
    (cc::PCR_READ, &[&[Nothing]]),
    (cc::POLICY_PCR, &[ARMED]),
    (cc::POLICY_RESTART, &[ARMED]),
    (cc::READ_CLOCK, &[&[Nothing]]),
    (cc::PCR_EXTEND, &[&[Nothing]]),
    (cc::PCR_SET_AUTH_VALUE, &[&[Nothing]]),
    (cc::NV_CERTIFY, &[OBJECTS, INDICES]),
    (cc::EVENT_SEQUENCE_COMPLETE, &[&[Nothing]]),
    (cc::HASH_SEQUENCE_START, &[&[Nothing]]),
    (cc::POLICY_PHYSICAL_PRESENCE, &[ARMED]),
    (cc::POLICY_DUPLICATION_SELECT, &[ARMED]),
    (cc::POLICY_GET_DIGEST, &[ARMED]),
    (cc::TEST_PARMS, &[&[Nothing]]),
    (cc::COMMIT, &[OBJECTS]),
    (cc::POLICY_PASSWORD, &[ARMED]),
    (cc::ZGEN_2PHASE, &[OBJECTS]),
    (cc::EC_EPHEMERAL, &[&[Nothing]]),
    (cc::POLICY_NV_WRITTEN, &[ARMED]),
    (cc::POLICY_TEMPLATE, &[ARMED]),
    (cc::CREATE_LOADED, &[OBJECTS]),
    (cc::POLICY_AUTHORIZE_NV, &[INDICES, ARMED]),
    (cc::ENCRYPT_DECRYPT_2, &[OBJECTS]),
    (cc::CERTIFY_X509, &[OBJECTS]),
];

/// Hierarchies that have a value.
const HIERARCHIES: &[Object] = &[Owner, Endorsement, Lockout, Platform];

/// Commands that the TPM has and the matrix does not, and objects that a command has no row for.
fn missing(commands: &[(u32, u32)], rows: &[Row]) -> Vec<String> {
    let mut missing = Vec::new();
    for (command, handles) in commands {
        let name = command_name(*command);
        let mut of_command = rows.iter().filter(|row| row.command == *command).peekable();
        if of_command.peek().is_none() {
            missing.push(format!("{name} has no row"));
            continue;
        }
        let covered: Vec<Object> = of_command
            .flat_map(|row| row.cases.iter().map(|(object, _)| *object))
            .collect();
        let Some((_, takes)) = TAKES.iter().find(|(found, _)| found == command) else {
            // A row says what is known of a command that other TPMs have.
            continue;
        };
        let takes = takes.concat();
        // PCRs and sequences of the attacker's own are no objects of a card.
        let own = [
            cc::PCR_EVENT,
            cc::PCR_RESET,
            cc::PCR_EXTEND,
            cc::PCR_SET_AUTH_VALUE,
            cc::SEQUENCE_UPDATE,
            cc::SEQUENCE_COMPLETE,
            cc::EVENT_SEQUENCE_COMPLETE,
        ];
        if *handles > 0 && takes == [Nothing] && !own.contains(command) {
            missing.push(format!("{name} takes handles and no object is named"));
        }
        let objects = takes.into_iter().filter(|object| !covered.contains(object));
        missing.extend(objects.map(|object| format!("{name} has no row for the {object}")));
    }
    missing
}

/// Asks the TPM for its commands: each must have a row for whatever it can be told to work on.
pub(super) fn complete(rows: &[Row]) -> Outcome {
    let bench = Bench::new();
    // Starts the TPM.
    bench.service.status().unwrap();
    let commands = bench.commands();
    assert!(commands.len() > 100, "{} commands", commands.len());
    match missing(&commands, rows)[..] {
        [] => Ok(()),
        ref missing => Err(missing.join("\n")),
    }
}

#[cfg(not(feature = "weakened"))]
mod tests {
    use super::*;

    fn of_sign() -> Vec<Row> {
        let rows = super::super::rows();
        rows.into_iter()
            .filter(|row| row.command == cc::SIGN)
            .collect()
    }

    #[test]
    fn command_without_a_row_is_missing() {
        let commands = [(cc::SIGN, 1), (0x1F0, 0)];
        assert_eq!(missing(&commands, &of_sign()), ["command 0x1f0 has no row"]);
    }

    #[test]
    fn object_without_a_row_is_missing() {
        let mut rows = of_sign();
        for row in &mut rows {
            row.cases.retain(|(object, _)| {
                ![Object::Rsa, Object::Armed, Object::ArmedOnce].contains(object)
            });
        }
        assert_eq!(
            missing(&[(cc::SIGN, 1)], &rows),
            [
                "Sign has no row for the RSA key",
                "Sign has no row for the armed session",
                "Sign has no row for the always-class armed session",
            ]
        );
    }

    #[test]
    fn handles_of_a_command_that_takes_no_object_are_noticed() {
        let rows = super::super::rows();
        assert_eq!(
            missing(&[(cc::GET_RANDOM, 1)], &rows),
            ["GetRandom takes handles and no object is named"]
        );
        assert_eq!(missing(&[(cc::GET_RANDOM, 0)], &rows), [""; 0]);
    }

    #[test]
    fn every_row_is_of_a_known_command_and_has_a_case() {
        for row in super::super::rows() {
            assert!(!row.cases.is_empty(), "{}", row.title(Nothing));
            let name = command_name(row.command);
            assert!(!name.starts_with("command"), "{name}");
        }
    }
}
