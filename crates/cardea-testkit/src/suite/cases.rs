//! Cases that need more than APDUs and their answers.

use std::collections::BTreeSet;

use cardea_card::record::CardRecord;
use cardea_card::secret::Pin;
use cardea_card::token::{
    KeyAlgorithm, KeyClass, KeyOrigin, PinError, PinReference, PublicKey, TokenErrorKind,
};
use cardea_card::{Card, CardError, Connection};

use super::{MakeCard, Outcome};
use crate::transcript::{CardKind, PIN, PUK, hex};

/// One case.
pub(super) type Case = fn(MakeCard<'_>) -> Outcome;

/// Name and body of every case.
pub(super) const CASES: &[(&str, Case)] = &[
    ("certificates are counted", certificates_are_counted),
    ("chains are bounded", chains_are_bounded),
    ("doors share one state", doors_share_one_state),
    ("errors of the other door", errors_of_the_other_door),
    ("impossible pins cost no try", impossible_pins_cost_no_try),
    ("keys are listed as they are", keys_are_listed_as_they_are),
    ("large objects and many of them", large_objects_and_many),
    ("no puk, no reference", no_puk_no_reference),
    (
        "refused commands change nothing",
        refused_commands_change_nothing,
    ),
    ("thirty keys sign in turn", thirty_keys_sign_in_turn),
];

/// `Err` with what was expected, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(format!($($what)+));
        }
    };
}

pub(super) use ensure;

/// PUT DATA of certificates into `A010` is counted, other data and other files are not; the counter
/// never goes down.
fn certificates_are_counted(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let certificate = [0x01, 0x00, 0x10, 0x00, 0x78, 0x9C, 0xAA, 0xBB];
    for (file, value, count) in [
        (0xA010, &certificate[..], 1),
        (0xA010, &certificate, 2),
        (0xA010, &[0xAA], 2),
        (0xA010, &[], 2),
        (0xA000, &certificate, 2),
        (0xA010, &certificate, 3),
    ] {
        put(&mut card, &mut connection, file, 0xDF24, value)?;
        let counted = card.record().certificates_written;
        ensure!(
            counted == count,
            "{counted} certificates counted, not {count}"
        );
    }
    Ok(())
}

/// 17 KiB of parts are enough for the largest object; more is refused and forgotten.
fn chains_are_bounded(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let mut part = vec![0x10, 0xDB, 0xA0, 0x10, 0xFF];
    part.extend([0xDF; 255]);
    let mut accepted = 0;
    while send(&mut card, &mut connection, &part) == [0x90, 0x00] {
        accepted += 255;
        ensure!(accepted <= 64 * 1024, "chains are not bounded");
    }
    ensure!(accepted >= 16 * 1024 + 8, "only {accepted} bytes accepted");
    ensure!(
        accepted <= 17 * 1024,
        "{accepted} bytes accepted, more than the bound"
    );
    expect(&mut card, &mut connection, &part, [0x90, 0x00])?;
    expect(&mut card, &mut connection, &GET_CARD_ID, [0x90, 0x00])
}

/// A PIN verified through one door counts on that connection alone; a change ends all others.
fn doors_share_one_state(make_card: MakeCard<'_>) -> Outcome {
    let mut card = make_card(CardKind::Created);
    let mut reader = card.connect();
    let mut socket = card.connect();
    let query = [0x00, 0x20, 0x00, 0x80];
    card.verify_pin(&mut socket, PinReference::Pin, &pin(PIN)?)
        .map_err(|error| error.to_string())?;
    ensure!(card.is_verified(&socket), "not verified");
    ensure!(!card.is_verified(&reader), "verified on another connection");
    expect(&mut card, &mut reader, &query, [0x63, 0xC5])?;
    expect(&mut card, &mut socket, &query, [0x90, 0x00])?;
    verify(&mut card, &mut reader)?;

    let new = pin(b"7654321")?;
    card.change_pin(&mut socket, PinReference::Pin, &pin(PIN)?, &new)
        .map_err(|error| error.to_string())?;
    ensure!(card.is_verified(&socket), "the change does not verify");
    expect(&mut card, &mut reader, &query, [0x63, 0xC5])?;
    ensure!(
        card.record().lengths.pin == [7],
        "the recorded length is not the new one"
    );
    card.disconnect(socket);
    card.verify_pin(&mut reader, PinReference::Pin, &new)
        .map_err(|error| error.to_string())?;
    card.reset(&mut reader);
    ensure!(!card.is_verified(&reader), "verified after a reset");
    Ok(())
}

/// What is wrong with a PIN reaches the caller as a value.
fn errors_of_the_other_door(make_card: MakeCard<'_>) -> Outcome {
    let mut card = make_card(CardKind::Created);
    let mut connection = card.connect();
    let wrong = pin(b"000000")?;
    let refused = card.verify_pin(&mut connection, PinReference::Pin, &wrong);
    ensure!(
        matches!(
            refused,
            Err(CardError::Pin(PinError::Wrong { left: Some(4) }))
        ),
        "{refused:?}"
    );
    let refused = card.change_pin(&mut connection, PinReference::Pin, &wrong, &pin(b"999")?);
    ensure!(
        matches!(
            refused,
            Err(CardError::Pin(PinError::Wrong { left: Some(3) }))
        ),
        "{refused:?}"
    );
    let refused = card.change_pin(
        &mut connection,
        PinReference::Pin,
        &pin(PIN)?,
        &pin(b"999")?,
    );
    ensure!(matches!(refused, Err(CardError::Rule(_))), "{refused:?}");
    let status = card
        .pin_status(PinReference::Pin)
        .map_err(|error| error.to_string())?;
    ensure!((status.left, status.limit) == (5, 5), "{status:?}");
    for left in (0..5).rev() {
        let refused = card.verify_pin(&mut connection, PinReference::Pin, &wrong);
        ensure!(
            matches!(refused, Err(CardError::Pin(PinError::Wrong { left: l })) if l == Some(left)),
            "{refused:?}"
        );
    }
    let refused = card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN)?);
    ensure!(
        matches!(refused, Err(CardError::Pin(PinError::Blocked))),
        "{refused:?}"
    );
    Ok(())
}

/// A PIN or PUK that is shorter than the card's can be is refused with the tries left, and none is spent.
fn impossible_pins_cost_no_try(make_card: MakeCard<'_>) -> Outcome {
    let mut card = make_card(CardKind::WithPuk);
    let mut connection = card.connect();
    let (short_pin, short_puk) = (pin(b"123")?, pin(b"1234567")?);
    for left in [5, 4] {
        for (reference, value, expected) in [
            (PinReference::Pin, &short_pin, left),
            (PinReference::Puk, &short_puk, 10),
        ] {
            let refused = card.verify_pin(&mut connection, reference, value);
            ensure!(
                matches!(refused, Err(CardError::PinForm { left, .. }) if left == Some(expected)),
                "{reference:?}: {refused:?}"
            );
            let changed = card.change_pin(&mut connection, reference, value, &pin(b"87654321")?);
            ensure!(
                matches!(changed, Err(CardError::PinForm { left, .. }) if left == Some(expected)),
                "{reference:?}: {changed:?}"
            );
        }
        let unblocked = card.unblock_by_puk(&mut connection, &short_puk, &pin(b"87654321")?);
        ensure!(
            matches!(unblocked, Err(CardError::PinForm { left: Some(10), .. })),
            "{unblocked:?}"
        );
        let status = [0x63, 0xC0 | u8::try_from(left).unwrap_or(0)];
        let verify = [0x00, 0x20, 0x00, 0x80, 0x03, 0x31, 0x32, 0x33];
        expect(&mut card, &mut connection, &verify, status)?;
        let wrong = card.verify_pin(&mut connection, PinReference::Pin, &pin(b"000000")?);
        ensure!(
            matches!(wrong, Err(CardError::Pin(PinError::Wrong { left: l })) if l == Some(left - 1)),
            "{wrong:?}"
        );
    }
    verify(&mut card, &mut connection)?;
    let refused = card.verify_pin(&mut connection, PinReference::Pin, &short_pin);
    ensure!(
        matches!(refused, Err(CardError::PinForm { left: Some(5), .. })),
        "{refused:?}"
    );
    ensure!(
        !card.is_verified(&connection),
        "verified after an incorrect PIN"
    );
    for _ in 0..5 {
        drop(card.verify_pin(&mut connection, PinReference::Pin, &pin(b"000000")?));
    }
    let refused = card.verify_pin(&mut connection, PinReference::Pin, &short_pin);
    ensure!(
        matches!(refused, Err(CardError::Pin(PinError::Blocked))),
        "{refused:?}"
    );
    Ok(())
}

/// `keys` tells what GET PUBLIC KEY tells, and what no APDU does.
fn keys_are_listed_as_they_are(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let wanted = [
        (0x81, 0x07, KeyAlgorithm::Rsa2048),
        (0x82, 0x0C, KeyAlgorithm::P256),
        (0x83, 0x0D, KeyAlgorithm::P384),
    ];
    // A TPM may not have the larger curve.
    let has = card.algorithms();
    let wanted = wanted
        .into_iter()
        .filter(|(.., algorithm)| has.contains(algorithm));
    let wanted: Vec<_> = wanted.collect();
    for (reference, size, _) in wanted.clone() {
        make_key(&mut card, &mut connection, reference, size)?;
    }
    let keys = card.keys().map_err(|error| error.to_string())?;
    ensure!(keys.len() == wanted.len(), "{} keys", keys.len());
    for ((number, info), (wanted, _, algorithm)) in keys.iter().zip(wanted) {
        ensure!(
            number.get() == wanted && info.algorithm == algorithm,
            "{number}: {info:?}"
        );
        ensure!(
            (info.class, info.origin) == (KeyClass::Session, KeyOrigin::Generated),
            "{number}: {info:?}"
        );
        let needle = match &info.public {
            PublicKey::Ec { x, y } => [x.as_slice(), y].concat(),
            PublicKey::Rsa { modulus, .. } => modulus.clone(),
        };
        let request = [
            0x00, 0xCB, 0x3F, 0xFF, 0x0A, 0x70, 0x08, 0x84, 0x01, wanted, 0xA5, 0x03, 0x7F, 0x49,
            0x80, 0x00,
        ];
        let answer = collect(&mut card, &mut connection, &request)?;
        ensure!(
            answer.windows(needle.len()).any(|part| part == needle),
            "{number}: another public key over APDU"
        );
    }
    Ok(())
}

/// 16 KiB in one object, 100 objects in one file, and what is beyond.
fn large_objects_and_many(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let large: Vec<u8> = (0..=u8::MAX).cycle().take(16 * 1024).collect();
    put(&mut card, &mut connection, 0xA010, 0xDF24, &large)?;
    let read = get(&mut card, &mut connection, 0xA010, 0xDF24)?;
    ensure!(read.ends_with(&large), "the large object was not read back");
    let mut too_large = large;
    too_large.push(0);
    let status = try_put(&mut card, &mut connection, 0xA010, 0xDF24, &too_large);
    ensure!(status == [0x6A, 0x84], "{}", hex(&status));

    for number in 0..100 {
        put(&mut card, &mut connection, 0xA000, 0xDF_8100 + number, b"x")?;
    }
    let mut more = 0;
    while try_put(&mut card, &mut connection, 0xA000, 0xDF_8200 + more, b"x") == [0x90, 0x00] {
        more += 1;
        ensure!(more < 128, "files are not bounded");
        if more == 127 {
            break;
        }
    }
    let read = get(&mut card, &mut connection, 0xA000, 0xDF_8100)?;
    ensure!(read.ends_with(b"x"), "an object was lost");
    Ok(())
}

/// Without a PUK its reference does not exist, through any door.
fn no_puk_no_reference(make_card: MakeCard<'_>) -> Outcome {
    let mut card = make_card(CardKind::Created);
    let mut connection = card.connect();
    ensure!(!card.has_puk(), "a PUK");
    let absent = |result: Result<(), CardError>| match result {
        Err(CardError::Token(error)) => error.kind() == TokenErrorKind::NotConfigured,
        _ => false,
    };
    ensure!(
        absent(card.pin_status(PinReference::Puk).map(|_| ())),
        "PUK status"
    );
    ensure!(
        absent(card.verify_pin(&mut connection, PinReference::Puk, &pin(PUK)?)),
        "PUK verified"
    );
    let mut card = make_card(CardKind::WithPuk);
    let mut connection = card.connect();
    ensure!(card.has_puk(), "no PUK");
    card.verify_pin(&mut connection, PinReference::Puk, &pin(PUK)?)
        .map_err(|error| error.to_string())?;
    ensure!(!card.is_verified(&connection), "the PUK counts as PIN");
    Ok(())
}

/// The record but for the wrong PINs that are counted in it.
fn without_counts(card: &Card) -> CardRecord {
    let mut record = card.record().clone();
    for counter in record.tpm.counter_objects.iter_mut().flatten() {
        counter.count = 0;
    }
    record
}

/// Whatever is refused leaves the record as it was.
fn refused_commands_change_nothing(make_card: MakeCard<'_>) -> Outcome {
    let mut card = make_card(CardKind::Created);
    let mut connection = card.connect();
    let before = without_counts(&card);
    let commands: [&[u8]; 6] = [
        &[0x00, 0xDB, 0xA0, 0x10, 0x05, 0xDF, 0x24, 0x02, 0xAB, 0xCD],
        &[
            0x00, 0xE0, 0x00, 0x00, 0x0E, 0x62, 0x0C, 0x82, 0x01, 0x39, 0x83, 0x02, 0xA0, 0x20,
            0x8C, 0x03, 0x03, 0x30, 0x00,
        ],
        &[
            0x00, 0x47, 0x00, 0x00, 0x08, 0xAC, 0x06, 0x80, 0x01, 0x07, 0x83, 0x01, 0x81,
        ],
        &[0x00, 0x20, 0x00, 0x80, 0x04, 0x30, 0x30, 0x30, 0x30],
        &[
            0x00, 0x24, 0x00, 0x80, 0x0C, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x31, 0x31, 0x31,
            0x31, 0x31, 0x31,
        ],
        &[
            0x00, 0xDB, 0x3F, 0xFF, 0x09, 0xDF, 0x22, 0x06, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00,
        ],
    ];
    for command in commands {
        let answer = send(&mut card, &mut connection, command);
        ensure!(answer != [0x90, 0x00], "{} accepted", hex(command));
        ensure!(
            without_counts(&card) == before,
            "{} changed the card",
            hex(command)
        );
    }
    Ok(())
}

/// Thirty keys are the most, each of them works, and every one is another.
fn thirty_keys_sign_in_turn(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    for reference in 0x81..=0x9E {
        make_key(&mut card, &mut connection, reference, 0x0C)?;
    }
    let status = try_create(&mut card, &mut connection, 0x9F, 0x0C);
    ensure!(status == [0x6A, 0x84], "{}", hex(&status));
    let keys = card.keys().map_err(|error| error.to_string())?;
    let different: BTreeSet<String> = keys.iter().map(|k| format!("{:?}", k.1.public)).collect();
    ensure!(different.len() == 30, "only {} keys", different.len());
    for round in 0..2 {
        for reference in 0x81..=0x9E {
            let choose = [
                0x00, 0x22, 0x41, 0xB6, 0x06, 0x80, 0x01, 0x1C, 0x84, 0x01, reference,
            ];
            expect(&mut card, &mut connection, &choose, [0x90, 0x00])?;
            let mut sign = vec![0x00, 0x2A, 0x9E, 0x9A, 0x20];
            sign.extend([round; 32]);
            sign.push(0x00);
            let signature = collect(&mut card, &mut connection, &sign)?;
            ensure!(signature.first() == Some(&0x30), "{}", hex(&signature));
        }
    }
    Ok(())
}

const GET_CARD_ID: [u8; 10] = [0x00, 0xCB, 0xA0, 0x12, 0x04, 0x5C, 0x02, 0xDF, 0x20, 0x00];

fn pin(text: &[u8]) -> Result<Pin, String> {
    Pin::new(text).map_err(|error| error.to_string())
}

fn verified(make_card: MakeCard<'_>) -> Result<(Card, Connection), String> {
    let mut card = make_card(CardKind::Created);
    let mut connection = card.connect();
    verify(&mut card, &mut connection)?;
    Ok((card, connection))
}

fn verify(card: &mut Card, connection: &mut Connection) -> Outcome {
    let mut command = vec![0x00, 0x20, 0x00, 0x80, 0x06];
    command.extend(PIN);
    expect(card, connection, &command, [0x90, 0x00])
}

/// Data without status word, whatever that is.
fn send(card: &mut Card, connection: &mut Connection, command: &[u8]) -> Vec<u8> {
    card.transmit(connection, command).to_vec()
}

/// The status word must be this.
fn expect(
    card: &mut Card,
    connection: &mut Connection,
    command: &[u8],
    status: [u8; 2],
) -> Outcome {
    let answer = send(card, connection, command);
    ensure!(
        answer.ends_with(&status),
        "{} answered {}, not {}",
        hex(command),
        hex(&answer),
        hex(&status)
    );
    Ok(())
}

/// The whole answer, fetched with GET RESPONSE.
fn collect(
    card: &mut Card,
    connection: &mut Connection,
    command: &[u8],
) -> Result<Vec<u8>, String> {
    let mut whole = Vec::new();
    let mut answer = send(card, connection, command);
    loop {
        let (data, status) = answer
            .split_last_chunk::<2>()
            .ok_or("an answer without status word")?;
        whole.extend_from_slice(data);
        match status {
            [0x90, 0x00] => return Ok(whole),
            [0x61, _] => answer = send(card, connection, &[0x00, 0xC0, 0x00, 0x00, 0x00]),
            _ => return Err(format!("{} answered {}", hex(command), hex(status))),
        }
    }
}

/// PUT DATA in as many parts as it takes; the last status word.
fn try_put(
    card: &mut Card,
    connection: &mut Connection,
    file: u16,
    tag: u32,
    value: &[u8],
) -> Vec<u8> {
    let mut object = Vec::new();
    cardea_iso7816::tlv::write(&mut object, tag, value);
    let [high, low] = file.to_be_bytes();
    let mut parts = object.chunks(240).peekable();
    while let Some(part) = parts.next() {
        let class = if parts.peek().is_some() { 0x10 } else { 0x00 };
        let length = u8::try_from(part.len()).unwrap_or(0);
        let mut command = vec![class, 0xDB, high, low, length];
        command.extend_from_slice(part);
        let status = send(card, connection, &command);
        if class == 0x00 || status != [0x90, 0x00] {
            return status;
        }
    }
    Vec::new()
}

fn put(card: &mut Card, connection: &mut Connection, file: u16, tag: u32, value: &[u8]) -> Outcome {
    let status = try_put(card, connection, file, tag, value);
    ensure!(
        status == [0x90, 0x00],
        "PUT DATA of {tag:X}: {}",
        hex(&status)
    );
    Ok(())
}

fn get(
    card: &mut Card,
    connection: &mut Connection,
    file: u16,
    tag: u32,
) -> Result<Vec<u8>, String> {
    let mut name = Vec::new();
    cardea_iso7816::tlv::write_tag(&mut name, tag);
    let mut list = Vec::new();
    cardea_iso7816::tlv::write(&mut list, 0x5C, &name);
    let [high, low] = file.to_be_bytes();
    let length = u8::try_from(list.len()).unwrap_or(0);
    let mut command = vec![0x00, 0xCB, high, low, length];
    command.extend(list);
    command.push(0x00);
    collect(card, connection, &command)
}

/// CREATE FILE of a signature key's file; the status word.
fn try_create(card: &mut Card, connection: &mut Connection, reference: u8, size: u8) -> Vec<u8> {
    let create = [
        0x00,
        0xE0,
        0x00,
        0x00,
        0x1D,
        0x62,
        0x1B,
        0x82,
        0x01,
        0x18,
        0x83,
        0x02,
        0xB0,
        reference,
        0x8C,
        0x05,
        0x8F,
        0x10,
        0x10,
        0x10,
        0x00,
        0xA5,
        0x0B,
        0xB6,
        0x09,
        0x80,
        0x01,
        0x10 | size,
        0x83,
        0x01,
        reference,
        0x95,
        0x01,
        0x40,
    ];
    send(card, connection, &create)
}

fn make_key(card: &mut Card, connection: &mut Connection, reference: u8, size: u8) -> Outcome {
    let status = try_create(card, connection, reference, size);
    ensure!(status == [0x90, 0x00], "CREATE FILE: {}", hex(&status));
    expect(card, connection, &[0x00, 0x44, 0x00, 0x00], [0x90, 0x00])?;
    let generate = [
        0x00, 0x47, 0x00, 0x00, 0x08, 0xAC, 0x06, 0x80, 0x01, size, 0x83, 0x01, reference,
    ];
    expect(card, connection, &generate, [0x90, 0x00])
}
