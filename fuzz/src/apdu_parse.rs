//! APDUs, chaining, GET RESPONSE and the ATR, without a card.

use cardea_iso7816::{
    Atr, ChainBuffer, Class, CommandApdu, ResponseApdu, ResponseBuffer, StatusWord,
};

use crate::Target;
use crate::seeds::{Input, push_part};

/// A sequence of commands, each an input part.
pub const TARGET: Target = Target {
    name: "apdu_parse",
    run,
    seeds,
    words: &[
        b"\x00\xA4\x04\x00",
        b"\x10\xDB\x3F\xFF",
        b"\x00\xDB\x3F\xFF",
        b"\x00\xC0\x00\x00",
        b"\x00\x00\x00",
        b"\x3B\x8D\x01\x80",
    ],
};

/// Small, so that the limit is reached.
const LIMIT: usize = 600;

fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut chain = ChainBuffer::new(LIMIT);
    let mut pending = ResponseBuffer::new();
    while let Some(part) = input.part() {
        answer_to_reset(part);
        if let Some(response) = ResponseApdu::parse(part) {
            assert_eq!(
                response.to_bytes().as_slice(),
                part,
                "bytes in are bytes out"
            );
        }
        let Ok(command) = CommandApdu::parse(part) else {
            continue;
        };
        let written = command.to_bytes().expect("what was read can be written");
        assert_eq!(written.as_slice(), part, "bytes in are bytes out");
        exchange(&command, &mut chain, &mut pending);
    }
}

fn exchange(command: &CommandApdu<'_>, chain: &mut ChainBuffer, pending: &mut ResponseBuffer) {
    let ne = command.ne.unwrap_or(0);
    let waiting = pending.pending();
    if command.ins == 0xC0 {
        match pending.next_part(ne) {
            Ok(part) => {
                assert_eq!(part.data.len(), waiting.min(ne));
                let left = waiting - part.data.len();
                let expected = match left {
                    0 => StatusWord::SUCCESS,
                    1..=255 => StatusWord::more_data(left as u8),
                    _ => StatusWord::more_data(0),
                };
                assert_eq!(part.status, expected);
            }
            Err(_) => assert_eq!(waiting, 0),
        }
        return;
    }
    pending.clear();
    let Class::Interindustry(class) = Class::from_byte(command.cla) else {
        return;
    };
    assert!(class.channel < 20);
    match chain.add(command, class.chaining) {
        Ok(Some(data)) => {
            assert_eq!(chain.collected(), None);
            assert!(data.ends_with(command.data));
            assert!(data.len() <= LIMIT.max(command.data.len()));
            let first = pending.begin(data.to_vec().into(), ne);
            assert!(first.data.len() <= ne);
        }
        Ok(None) => assert!(chain.collected().is_some_and(|held| held <= LIMIT)),
        Err(_) => assert_eq!(chain.collected(), None),
    }
}

fn answer_to_reset(bytes: &[u8]) {
    if let Ok(atr) = Atr::parse(bytes) {
        let written = atr.to_bytes().expect("what was read can be written");
        assert_eq!(written, bytes, "bytes in are bytes out");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let sequence = |parts: &[&[u8]]| {
        let mut out = Vec::new();
        for part in parts {
            push_part(&mut out, part);
        }
        out
    };
    let block = [&[0x10, 0xDB, 0x3F, 0xFF, 0xFF], [7; 255].as_slice()].concat();
    let long = [
        &[0, 0xDB, 0x3F, 0xFF, 0, 1, 4],
        [7; 260].as_slice(),
        &[0, 0],
    ]
    .concat();
    vec![
        sequence(&[b"\x00\xA4\x04\x00\x09\xA0\x00\x00\x03\x97\x42\x54\x46\x59\x00"]),
        sequence(&[
            &block,
            b"\x00\xDB\x3F\xFF\x02\x01\x02\x10",
            b"\x00\xC0\x00\x00\x00",
        ]),
        sequence(&[&block, &block, &block]),
        sequence(&[&block, b"\x00\x20\x00\x80"]),
        sequence(&[&long, b"\x00\xC0\x00\x00\x01", b"\x00\xC0\x00\x00\x00"]),
        sequence(&[cardea_card::gids::ATR]),
        sequence(&[b"\x3B\xF9\x13\x00\x00\x81\x31\xFE\x45JCOP242R3\xA2"]),
    ]
}
