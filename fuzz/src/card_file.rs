//! Card files: the format, and the engine over whatever record comes out of one.

use cardea_card::record::{CardRecord, IndexRecord, IndexRole, RecoveryTarget};
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyStore};
use cardea_iso7816::{CommandApdu, ResponseApdu};
use cardea_store::format::{self, HostKey};
use cardea_testkit::suite::SoftwareCard;
use cardea_testkit::transcript::{CardKind, PIN};

use crate::Target;

/// A file; or, behind `body:`, what a file has between header and HMAC.
pub const TARGET: Target = Target {
    name: "card_file",
    run,
    seeds,
    words: &[
        b"Cardea\r\n\x00\x01",
        b"Cardea\r\n\x00\x02",
        b"Cardea\r\n\xFF\xFF",
        b"\x42\xDF\x1F",
        b"\x19\xDF\x1F",
        b"\x19\xB0\x81",
        b"\x58\x22\x00\x0B",
        b"\x1A\x01\xC2\x00\x00",
        b"\x1A\x81\x00\x00\x01",
        b"\x5B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x9B\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
    ],
};

/// Begins an input around which the target puts the header and the length of the HMAC.
const BODY: &[u8] = b"body:";

fn run(input: &[u8]) {
    let key = host_key();
    if let Some(body) = input.strip_prefix(BODY) {
        for version in 1..=format::VERSION {
            file(&key, &untrusted(version, body));
        }
    } else {
        file(&key, input);
    }
}

fn file(key: &HostKey, file: &[u8]) {
    let Ok(decoded) = format::decode(key, file) else {
        return;
    };
    let written = format::encode(key, &decoded.record).expect("what was read can be written");
    let again = format::decode(key, &written).expect("what was written can be read");
    assert!(again.trusted, "our own file is trusted");
    assert!(again.record == decoded.record, "decode(encode(x)) = x");
    engine(decoded.record);
}

/// The engine refuses the record, or serves every command without a panic.
fn engine(record: CardRecord) {
    let (_, parts) = SoftwareCard::new(CardKind::WithPuk);
    let files: Vec<u16> = record
        .gids
        .files
        .iter()
        .map(|file| file.id)
        .take(8)
        .collect();
    let Ok(mut card) = parts.open(record) else {
        return;
    };
    let mut connection = card.connect();
    let mut send = |command: CommandApdu<'_>| {
        let command = command.to_bytes().expect("a short command");
        let response = card.transmit(&mut connection, &command);
        assert!(ResponseApdu::parse(&response).is_some());
    };
    let get_data = CommandApdu::new(0, 0xCB, 0, 0).with_ne(256);
    for verified in [false, true] {
        if verified {
            send(CommandApdu::new(0, 0x20, 0, 0x80).with_data(PIN));
        }
        send(
            CommandApdu::new(0, 0xA4, 0, 0)
                .with_data(&[0x3F, 0xFF])
                .with_ne(256),
        );
        for id in &files {
            let [p1, p2] = id.to_be_bytes();
            send(CommandApdu {
                p1,
                p2,
                ..get_data.with_data(b"\x5C\x00")
            });
            send(CommandApdu {
                p1,
                p2,
                ..get_data.with_data(b"\x5C\x01\x5C")
            });
            send(CommandApdu::new(0, 0xC0, 0, 0).with_ne(256));
            send(
                CommandApdu::new(0, 0xA4, 0, 0)
                    .with_data(&[p1, p2])
                    .with_ne(256),
            );
            send(CommandApdu {
                p1,
                p2,
                ins: 0xDB,
                ..get_data.with_data(b"\xDF\x7F\x01\x00")
            });
            send(CommandApdu::new(0, 0x44, 0, 0));
            if *id >> 8 == 0xB0 {
                send(
                    CommandApdu::new(0, 0x22, 0x41, 0xB6).with_data(&[0x80, 1, 0x57, 0x84, 1, p2]),
                );
                send(
                    CommandApdu::new(0, 0x2A, 0x9E, 0x9A)
                        .with_data(&[0x30; 32])
                        .with_ne(256),
                );
                send(
                    CommandApdu::new(0, 0x47, 0, 0).with_data(&[0xAC, 6, 0x80, 1, 7, 0x83, 1, p2]),
                );
                send(CommandApdu::new(0, 0xE4, 0, 0));
            }
        }
    }
    if let Some(saved) = parts.store.record() {
        assert!(
            parts.open(saved).is_ok(),
            "what the card saves can be opened"
        );
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let key = host_key();
    let mut seeds = Vec::new();
    for kind in [
        CardKind::Admin,
        CardKind::Blank,
        CardKind::Created,
        CardKind::UninitialisedWithPuk,
        CardKind::WithPuk,
    ] {
        let record = record(kind);
        let body = minicbor::to_vec(&record).expect("a record can be written");
        seeds.push([BODY, &body].concat());
        seeds.push(format::encode(&key, &record).expect("a record can be written"));
    }
    seeds
}

/// A record that the format accepts, with a recoverable key where it has one.
fn record(kind: CardKind) -> CardRecord {
    let (card, mut parts) = SoftwareCard::new(kind);
    let mut record = card.record().clone();
    let name = |number: u8| [&[0, 0x0B], [number; 32].as_slice()].concat();
    record.tpm.srk.name = name(0);
    let index = |role, number: u8| IndexRecord {
        role,
        handle: 0x01C2_0000 + u32::from(number),
        name: name(number),
        limit: 5,
    };
    record.tpm.indices = vec![index(IndexRole::Pin, 1)];
    record.tpm.indices.push(index(IndexRole::Adm, 2));
    if kind != CardKind::Blank {
        let key = parts
            .token
            .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
            .expect("the token makes keys");
        record.keys.push(key);
    }
    if kind == CardKind::WithPuk {
        for key in &mut record.keys {
            key.creation_data = Some(vec![0x53; 75]);
            key.recovery = Some(vec![RecoveryTarget {
                public: vec![0x61; 90],
                private: vec![0x62; 108],
                seed: vec![0x63; 68],
                certificate: Some(vec![0x30; 40]),
            }]);
        }
    }
    record
}

/// A file with this body and a wrong HMAC: it is decoded all the same, and not trusted.
fn untrusted(version: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [
        b"Cardea\r\n".as_slice(),
        &version.to_be_bytes(),
        &length.to_be_bytes(),
        body,
        &[0; 32],
    ]
    .concat()
}

fn host_key() -> HostKey {
    HostKey::new([7; 32])
}
