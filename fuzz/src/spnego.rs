//! Tokens of SPNEGO, with NTLM and Kerberos behind it.

use cardea_rpc::auth::SpnegoAcceptor;

use crate::Target;
use crate::authentication::{der, drive, field, fresh, kerberos, names, right_messages};
use crate::seeds::push_part;

/// A byte that says whether there is a keytab, then tokens, each an input part.
pub const TARGET: Target = Target {
    name: "spnego",
    run,
    seeds,
    words: &[
        NTLM,
        KERBEROS,
        b"\x06\x06\x2b\x06\x01\x05\x05\x02",
        b"\xa0\x03\x0a\x01\x00",
        b"\xa0\x03\x0a\x01\x03",
        b"NTLMSSP\x00\x01\x00\x00\x00",
        b"\xa3\x12\x04\x10\x01\x00\x00\x00",
        b"\x82\x00",
    ],
};

const NTLM: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
const KERBEROS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

/// What another implementation sent, with the nonce, the time and the account of this target.
const TRANSCRIPT: &str = include_str!("../../crates/cardea-rpc/tests/transcripts/pyspnego.txt");

fn run(input: &[u8]) {
    let Some((kind, tokens)) = input.split_first() else {
        return;
    };
    let keys = (kind % 2 == 1).then(kerberos);
    let mut acceptor = SpnegoAcceptor::new(names(), fresh()).with_kerberos(keys);
    drive(&mut acceptor, tokens);
}

fn init(mechanisms: &[&[u8]], token: Option<&[u8]>) -> Vec<u8> {
    let mut fields = field(0, &der(0x30, &mechanisms.concat()));
    if let Some(token) = token {
        fields.extend(field(2, &der(0x04, token)));
    }
    let inner = field(0, &der(0x30, &fields));
    der(
        0x60,
        &[b"\x06\x06\x2b\x06\x01\x05\x05\x02", &*inner].concat(),
    )
}

fn response(token: &[u8]) -> Vec<u8> {
    field(1, &der(0x30, &field(2, &der(0x04, token))))
}

fn seeds() -> Vec<Vec<u8>> {
    let [negotiate, _, authenticate] = right_messages();
    let recorded = TRANSCRIPT
        .lines()
        .filter(|line| !line.starts_with('#'))
        .take(2)
        .map(hexadecimal);
    let conversations = [
        recorded.collect(),
        vec![init(&[NTLM], Some(&negotiate)), response(&authenticate)],
        vec![
            init(&[KERBEROS, NTLM], Some(b"a ticket")),
            response(&negotiate),
            response(&authenticate),
        ],
        vec![init(&[KERBEROS], None), response(b"a ticket")],
    ];
    let mut seeds = Vec::new();
    for conversation in &conversations {
        for kind in 0..2 {
            let mut seed = vec![kind];
            conversation
                .iter()
                .for_each(|token| push_part(&mut seed, token));
            seeds.push(seed);
        }
    }
    seeds
}

fn hexadecimal(line: &str) -> Vec<u8> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).expect("hexadecimal");
    let pairs = line.as_bytes().chunks(2);
    pairs
        .map(|pair| pair.iter().fold(0, |byte, one| byte << 4 | digit(one)))
        .map(|byte| u8::try_from(byte).expect("two digits"))
        .collect()
}
