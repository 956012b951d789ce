//! The card over the software token: faults, records, random commands.
//! What does not need a fault is in `cardea_testkit::suite`, which runs over TPMs as well.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, outside the functions that clippy knows to be tests"
)]

mod faults;
mod full_disk;
mod limits;
mod records;
mod sequences;
mod session_keys;
mod trial;
mod uses;

use cardea_card::{Card, Connection};
use cardea_testkit::suite::{self, SoftwareCard};
use cardea_testkit::transcript::CardKind;

#[test]
fn suite_succeeds_over_the_software_token() {
    suite::run_all(&mut |kind| SoftwareCard::new(kind).0);
}

#[test]
fn cards_and_connections_can_move_between_threads() {
    fn movable<T: Send>() {}
    movable::<Card>();
    movable::<Connection>();
}

/// A card with its file system, a connection with the PIN verified, and the parts behind the card.
fn verified() -> (Card, Connection, SoftwareCard) {
    let (mut card, parts) = SoftwareCard::new(CardKind::Created);
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    (card, connection, parts)
}

/// Sends hexadecimal, gives hexadecimal.
fn send(card: &mut Card, connection: &mut Connection, command: &str) -> String {
    let digits: String = command.split_whitespace().collect();
    let bytes = base16ct::mixed::decode_vec(&digits).unwrap();
    card.transmit(connection, &bytes)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect()
}

const VERIFY: &str = "00 20 00 80 06 31 32 33 34 35 36";
const WRONG: &str = "00 20 00 80 06 30 30 30 30 30 30";
const QUERY: &str = "00 20 00 80";
const PUT: &str = "00 DB A0 10 05 DF 24 02 AB CD";
const GET: &str = "00 CB A0 10 04 5C 02 DF 24 00";
/// Signature key file `81` for P-256.
const CREATE: &str = "00 E0 00 00 1D 62 1B 82 01 18 83 02 B0 81 8C 05 8F 10 10 10 00 A5 0B \
    B6 09 80 01 1C 83 01 81 95 01 40";
const ACTIVATE: &str = "00 44 00 00";
const GENERATE: &str = "00 47 00 00 08 AC 06 80 01 0C 83 01 81";
const PUBLIC_KEY: &str = "00 CB 3F FF 0A 70 08 84 01 81 A5 03 7F 49 80 00";
const CHOOSE: &str = "00 22 41 B6 06 80 01 1C 84 01 81";
const SIGN: &str = "00 2A 9E 9A 14 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F 10 11 12 13 00";
/// PIN 123456 to 1234567.
const CHANGE: &str = "00 24 00 80 0D 31 32 33 34 35 36 31 32 33 34 35 36 37";
const VERIFY_NEW: &str = "00 20 00 80 07 31 32 33 34 35 36 37";

/// With a P-256 key `81` chosen for signatures.
fn with_key() -> (Card, Connection, SoftwareCard) {
    let (mut card, mut connection, parts) = verified();
    for command in [CREATE, ACTIVATE, GENERATE, CHOOSE] {
        assert_eq!(send(&mut card, &mut connection, command), "9000");
    }
    (card, connection, parts)
}
