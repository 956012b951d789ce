//! What the targets of authentications have in common: an account, a service's keys, a moment, DER.

use std::sync::Arc;

use cardea_rpc::auth::{
    Acceptor, ClientFresh, Credentials, Directory, Fresh, KerberosAcceptor, KerberosFresh,
    KerberosService, Keytab, NtHash, NtlmInitiator, Principal, ServerNames, Step,
};

use crate::seeds::Input;

/// The account that is let in, by NTLM.
const USER: &str = "ann";
const PASSWORD: &str = "correct horse";

/// FILETIME, as in the kept transcript.
const TIME: u64 = 133_000_000_000_000_000;

/// One account.
struct One;

impl Directory for One {
    fn nt_hash(&self, user: &str) -> Option<NtHash> {
        (user == USER).then(|| NtHash::of_password(PASSWORD))
    }

    fn admits(&self, principal: &Principal) -> bool {
        principal.to_string() == "ann@FIRM"
    }
}

/// Hands messages to an acceptor until it refuses one: nobody is let in but those who are known.
pub(crate) fn drive(acceptor: &mut dyn Acceptor, input: &[u8]) {
    let mut input = Input::new(input);
    while let Some(token) = input.part() {
        match acceptor.step(token, &One) {
            Ok(Step::Continue(answer)) => assert!(!answer.is_empty()),
            Ok(Step::Done {
                identity,
                mut session,
                ..
            }) => {
                assert!([USER, "ann@FIRM"].contains(&&*identity.user));
                session.agree(true, true);
                let mut packet = b"header stub trailer".to_vec();
                let signature = session.seal(&mut packet, 7..11);
                assert_eq!(signature.len(), session.signature_length());
                // What came from here does not come back.
                assert!(session.unseal(&mut packet, 7..11, &signature).is_err());
                return;
            }
            Err(_) => return,
        }
    }
}

pub(crate) fn names() -> ServerNames {
    ServerNames::new("target.example.org")
}

pub(crate) fn fresh() -> Fresh {
    Fresh {
        nonce: *b"12345678",
        decoy: [9; 16],
        time: TIME,
    }
}

/// Somebody who knows the password, or does not.
pub(crate) fn initiator(password: &str) -> NtlmInitiator {
    let credentials = Credentials {
        user: USER.to_owned(),
        domain: "Firm".to_owned(),
        hash: NtHash::of_password(password),
    };
    let fresh = ClientFresh {
        nonce: *b"abcdefgh",
        session_key: [0x55; 16],
        time: TIME,
    };
    NtlmInitiator::new(credentials, "rpcss/target".to_owned(), fresh)
}

/// A conversation of NTLM whose last message is right: offer, challenge, proof.
pub(crate) fn right_messages() -> [Vec<u8>; 3] {
    let initiator = initiator(PASSWORD);
    let mut acceptor = cardea_rpc::auth::NtlmAcceptor::new(names(), fresh());
    let negotiate = initiator.negotiate().to_vec();
    let Ok(Step::Continue(challenge)) = acceptor.step(&negotiate, &One) else {
        panic!("an offer is answered with a challenge")
    };
    let (authenticate, _) = initiator
        .authenticate(&challenge)
        .expect("our own challenge");
    [negotiate, challenge, authenticate]
}

/// The file of a service's keys: one of each length.
pub(crate) fn keytab() -> Vec<u8> {
    let entry = |kvno: u8, etype: u8, key: &[u8]| {
        let mut entry = vec![0, 2];
        for text in ["FIRM", "host", "target"] {
            entry.extend([0, u8::try_from(text.len()).expect("a short word")]);
            entry.extend(text.bytes());
        }
        entry.extend([0, 0, 0, 1, 0x60, 0, 0, 0, kvno, 0, etype]);
        entry.extend([0, u8::try_from(key.len()).expect("a short key")]);
        entry.extend(key);
        entry.extend([0, 0, 0, kvno]);
        let length = u32::try_from(entry.len()).expect("it is short");
        [&length.to_be_bytes()[..], &entry].concat()
    };
    let hole = [&(-7_i32).to_be_bytes()[..], &[0xFF; 7]].concat();
    [
        &[5, 2][..],
        &entry(3, 18, &[7; 32]),
        &hole,
        &entry(2, 17, &[8; 16]),
    ]
    .concat()
}

/// An acceptor with these keys.
pub(crate) fn kerberos() -> KerberosAcceptor {
    let keytab = Keytab::parse(&keytab()).expect("a keytab");
    let fresh = KerberosFresh {
        key: [0x55; 32],
        confounders: [0x66; 32],
        sequence: 0xC000_0123,
        time: 1_796_082_949,
    };
    KerberosAcceptor::new(Arc::new(KerberosService::new(keytab)), fresh)
}

/// An element of DER.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match content.len() {
        short @ ..0x80 => element.push(u8::try_from(short).expect("it is short")),
        long => {
            let long = u16::try_from(long).expect("a message is short");
            element.push(0x82);
            element.extend(long.to_be_bytes());
        }
    }
    element.extend(content);
    element
}

/// A field of a sequence.
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    der(0xA0 | number, content)
}
