//! Rows that are not tried, with the reason: commands that other TPMs have, and attempts that would show nothing here.

use super::row::Object::{
    Armed, ArmedOnce, Channel, Imported, Nothing, Once, PinIndex, Rsa, Srk, Vault,
};
use super::row::{INDICES, Knowledge, Row, SESSIONS, absent, not_tried};
use crate::raw::cc;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = absent_commands();
    rows.extend(active());
    rows.extend(others());
    rows
}

/// Those that the tests' TPM does not have, with what the standard says of them.
fn absent_commands() -> Vec<Row> {
    let policy = "extends the policy digest, like PolicyCpHash";
    [
        (
            cc::FIELD_UPGRADE_START,
            "firmware update, authorised by the platform",
        ),
        (
            cc::FIELD_UPGRADE_DATA,
            "firmware update, authorised by the platform",
        ),
        (cc::FIRMWARE_READ, "reads firmware; no object of a card"),
        (
            cc::AC_GET_CAPABILITY,
            "attached components; no object of a card",
        ),
        (
            cc::AC_SEND,
            "needs an authorisation for duplication, like Duplicate",
        ),
        (cc::POLICY_AC_SEND_SELECT, policy),
        (cc::ACT_SET_TIMEOUT, "a timer; no object of a card"),
        (cc::ECC_ENCRYPT, "public operation, like RSA_Encrypt"),
        (
            cc::ECC_DECRYPT,
            "use of the key, like RSA_Decrypt: needs its policy",
        ),
        (cc::POLICY_CAPABILITY, policy),
        (cc::POLICY_PARAMETERS, policy),
        (cc::NV_DEFINE_SPACE_2, "like NV_DefineSpace"),
        (cc::NV_READ_PUBLIC_2, "like NV_ReadPublic"),
        (cc::SET_CAPABILITY, "vendor settings; no object of a card"),
    ]
    .map(|(command, known)| absent(command, known))
    .into()
}

/// Changed answers are no matter of one command: the operations of the card are walked through for them.
fn active() -> Vec<Row> {
    let reason = "changed answers are tried per operation, not per command";
    [
        (cc::START_AUTH_SESSION, SESSIONS),
        (cc::NV_READ, INDICES),
        (cc::GET_CAPABILITY, &[Nothing]),
        (cc::READ_PUBLIC, &[Srk]),
        (cc::POLICY_SECRET, &[Armed, ArmedOnce]),
    ]
    .map(|(command, objects)| not_tried(command, Knowledge::Active, objects, reason))
    .into()
}

fn others() -> Vec<Row> {
    let captured = "see \"A captured PIN\"";
    vec![
        not_tried(
            cc::POLICY_TICKET,
            Knowledge::Pin,
            &[Armed, ArmedOnce, PinIndex],
            captured,
        ),
        not_tried(
            cc::CONTEXT_LOAD,
            Knowledge::Pin,
            &[Armed, ArmedOnce],
            captured,
        ),
        not_tried(
            cc::CONTEXT_SAVE,
            Knowledge::Device,
            &[Channel],
            "65,535 further sessions make a saved one unloadable (CONTEXT_GAP): too slow for a test",
        ),
        not_tried(
            cc::FLUSH_CONTEXT,
            Knowledge::Device,
            &[Rsa, Imported, Vault],
            "like the other keys",
        ),
        not_tried(
            cc::FLUSH_CONTEXT,
            Knowledge::Device,
            &[Srk],
            "a persistent object cannot be flushed",
        ),
        not_tried(
            cc::SIGN,
            Knowledge::Bus,
            &[Once],
            "tickets of a recorded PIN entry have tests of their own: they never serve this key",
        ),
    ]
}
