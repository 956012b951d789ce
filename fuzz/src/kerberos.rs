//! Messages of Kerberos: as they come, and what is inside, which no fuzzer enciphers.

use cardea_rpc::auth::parse_opened_parts;

use crate::Target;
use crate::authentication::{der, drive, field, kerberos};
use crate::seeds::push_part;

/// 0 and messages, each an input part; or 1 and the content of something that was enciphered.
pub const TARGET: Target = Target {
    name: "kerberos",
    run,
    seeds,
    words: &[
        b"\x6e\x82",
        b"\x6f\x82",
        b"\x61\x82",
        b"\xa0\x03\x02\x01\x05",
        b"\xa1\x03\x02\x01\x0e",
        b"\xa0\x03\x02\x01\x12",
        b"\x1b\x04FIRM",
        b"\x18\x0f20261130235549Z",
        b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00",
        b"\x03\x05\x00\x20\x00\x00\x00",
    ],
};

fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, messages)) => drive(&mut kerberos(), messages),
        Some((1, plain)) => {
            // The tags differ: nothing is two of them.
            let read = parse_opened_parts(plain);
            assert!(read.into_iter().filter(|is_read| *is_read).count() <= 1);
        }
        _ => {}
    }
}

fn number(value: u8) -> Vec<u8> {
    der(0x02, &[value])
}

fn sequence(fields: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &fields.concat())
}

fn message(tag: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    der(tag, &sequence(fields))
}

fn name(words: &[&str]) -> Vec<u8> {
    let words: Vec<_> = words
        .iter()
        .map(|word| der(0x1B, word.as_bytes()))
        .collect();
    sequence(&[field(0, &number(1)), field(1, &sequence(&words))])
}

fn typed(kind: u8, content: &[u8]) -> Vec<u8> {
    sequence(&[field(0, &number(kind)), field(1, &der(0x04, content))])
}

fn encrypted(content: &[u8]) -> Vec<u8> {
    let (kind, key_number) = (field(0, &number(18)), field(1, &number(3)));
    sequence(&[kind, key_number, field(2, &der(0x04, content))])
}

fn seeds() -> Vec<Vec<u8>> {
    let realm = der(0x1B, b"FIRM");
    let time = der(0x18, b"20261130235549Z");
    let flags = |bits: [u8; 4]| der(0x03, &[&[0], &bits[..]].concat());
    let ticket = message(
        0x61,
        &[
            field(0, &number(5)),
            field(1, &realm),
            field(2, &name(&["host", "target"])),
            field(3, &encrypted(&[1; 60])),
        ],
    );
    let request = message(
        0x6E,
        &[
            field(0, &number(5)),
            field(1, &number(14)),
            field(2, &flags([0x20, 0, 0, 0])),
            field(3, &ticket),
            field(4, &encrypted(&[2; 60])),
        ],
    );
    let framed = [
        b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00",
        &*request,
    ];
    let answer = message(
        0x6F,
        &[
            field(0, &number(5)),
            field(1, &number(15)),
            field(2, &encrypted(&[3; 60])),
        ],
    );
    let mut seeds = Vec::new();
    for token in [&request, &der(0x60, &framed.concat()), &answer] {
        let mut seed = vec![0];
        push_part(&mut seed, token);
        push_part(&mut seed, &answer);
        seeds.push(seed);
    }
    let ticket_part = message(
        0x63,
        &[
            field(0, &flags([0, 0x08, 0, 0])),
            field(1, &typed(18, &[5; 32])),
            field(2, &realm),
            field(3, &name(&["ann"])),
            field(4, &typed(1, b"")),
            field(5, &time),
            field(6, &time),
            field(7, &time),
        ],
    );
    let authenticator = message(
        0x62,
        &[
            field(0, &number(5)),
            field(1, &realm),
            field(2, &name(&["ann"])),
            field(3, &typed(9, &[16; 24])),
            field(4, &number(77)),
            field(5, &time),
            field(7, &number(100)),
        ],
    );
    let reply_part = message(
        0x7B,
        &[
            field(0, &time),
            field(1, &number(78)),
            field(3, &number(100)),
        ],
    );
    for part in [ticket_part, authenticator, reply_part] {
        seeds.push([&[1], &*part].concat());
    }
    seeds
}
