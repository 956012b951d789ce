//! Messages of NTLM, at both ends.

use cardea_rpc::auth::NtlmAcceptor;

use crate::Target;
use crate::authentication::{drive, fresh, initiator, names, right_messages};
use crate::seeds::push_part;

/// A byte that says which end, then messages, each an input part.
pub const TARGET: Target = Target {
    name: "ntlm",
    run,
    seeds,
    words: &[
        b"NTLMSSP\x00\x01\x00\x00\x00",
        b"NTLMSSP\x00\x02\x00\x00\x00",
        b"NTLMSSP\x00\x03\x00\x00\x00",
        b"a\x00n\x00n\x00",
        b"G\x00u\x00e\x00s\x00t\x00",
        b"\x35\x82\x8a\x62",
        b"\x06\x00\x04\x00\x02\x00\x00\x00",
        b"\x01\x01\x00\x00\x00\x00\x00\x00",
    ],
};

fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, messages)) => drive(&mut NtlmAcceptor::new(names(), fresh()), messages),
        Some((1, challenge)) => {
            // Whatever is answered, it is an answer of the third kind.
            if let Ok((answer, _)) = initiator("any").authenticate(challenge) {
                assert!(answer.starts_with(b"NTLMSSP\0\x03\0\0\0"));
            }
        }
        _ => {}
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let [negotiate, challenge, authenticate] = right_messages();
    let conversation = |messages: &[&[u8]]| {
        let mut seed = vec![0];
        messages
            .iter()
            .for_each(|message| push_part(&mut seed, message));
        seed
    };
    vec![
        conversation(&[&negotiate]),
        conversation(&[&negotiate, &authenticate]),
        conversation(&[&authenticate]),
        [&[1], &*challenge].concat(),
    ]
}
