//! Whole authentications: between our two ends, with a program of others, and with everything that is refused.

mod strangers;

use base16ct::lower::encode_string as hex;

use super::crypt::hmac_md5;
use super::message::{self, flag};
use super::session::SIGNATURE;
use super::spnego::tests::init;
use super::spnego::{NTLM, NegState, NegTokenResp};
use super::*;

pub(super) const TIME: u64 = 133_000_000_000_000_000;

/// One account.
struct One(&'static str, NtHash);

impl Directory for One {
    fn nt_hash(&self, user: &str) -> Option<NtHash> {
        (user == self.0).then(|| self.1.clone())
    }
}

pub(super) fn accounts() -> impl Directory {
    One("ann", NtHash::of_password("correct horse"))
}

pub(super) fn names() -> ServerNames {
    ServerNames::new("target.example.org")
}

pub(super) fn fresh() -> Fresh {
    Fresh {
        nonce: *b"12345678",
        decoy: [9; 16],
        time: TIME,
    }
}

fn initiator(user: &str, password: &str) -> NtlmInitiator {
    let credentials = Credentials {
        user: user.to_owned(),
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

pub(super) fn go_on(step: Step) -> Vec<u8> {
    match step {
        Step::Continue(token) => token,
        Step::Done { .. } => panic!("it is over already"),
    }
}

pub(super) fn done(step: Step) -> (Option<Vec<u8>>, Identity, Box<dyn Session>) {
    match step {
        Step::Continue(_) => panic!("it is not over"),
        Step::Done {
            token,
            identity,
            session,
        } => (token, identity, session),
    }
}

/// A challenge for an initiator's NEGOTIATE, and the acceptor that it is of.
fn challenged(initiator: &NtlmInitiator) -> (NtlmAcceptor, Vec<u8>) {
    let mut acceptor = NtlmAcceptor::new(names(), fresh());
    let step = acceptor.step(initiator.negotiate(), &accounts()).unwrap();
    (acceptor, go_on(step))
}

/// The verdict on an AUTHENTICATE that was changed on the way.
fn verdict(user: &str, password: &str, change: impl FnOnce(&mut Vec<u8>)) -> AuthError {
    let initiator = initiator(user, password);
    let (mut acceptor, challenge) = challenged(&initiator);
    let (mut token, _) = initiator.authenticate(&challenge).unwrap();
    change(&mut token);
    acceptor
        .step(&token, &accounts())
        .err()
        .expect("it was let in")
}

fn talk(client: &mut dyn Session, server: &mut dyn Session) {
    for _ in 0..3 {
        let plain = b"header stub trailer".to_vec();
        let mut packet = plain.clone();
        let signature = client.seal(&mut packet, 7..11);
        assert_eq!(signature.len(), SIGNATURE);
        assert_ne!(packet, plain);
        server.unseal(&mut packet, 7..11, &signature).unwrap();
        assert_eq!(packet, plain);
        let signature = server.sign(&plain);
        client.verify(&plain, &signature).unwrap();
    }
}

#[test]
fn examples_of_the_standard_come_out() {
    // MS-NLMP 4.2.4.1 and 4.2.4.2: user "User", password "Password", domain "Domain".
    let hash = NtHash::of_password("Password");
    assert_eq!(*hash.to_hex(), "a4f49c406510bdcab6824ee7c30fd852");
    let key = hash.response_key("User", "Domain");
    assert_eq!(hex(&*key), "0c868a403bfd7a93a3001ef22ef02e3f");
    let mut information = Vec::new();
    for (kind, value) in [(2_u16, "Domain"), (1, "Server")] {
        let value: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
        information.extend(kind.to_le_bytes());
        information.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        information.extend(value);
    }
    information.extend([0; 4]);
    let blob = message::client_challenge(0, [0xAA; 8], &information);
    let nonce = [0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF];
    let proof = hmac_md5(&*key, &[&nonce, &blob]);
    assert_eq!(hex(&*proof), "68cd0ab851e51c96aabc927bebef6a1c");
    let base = hmac_md5(&*key, &[&*proof]);
    assert_eq!(hex(&*base), "8de40ccadbc14a82f15cb0ad0de95ca3");
    let wrapped = super::crypt::wrap(&base, &[0x55; 16]);
    assert_eq!(hex(&*wrapped), "c5dad2544fc9799094ce1ce90bc9d03e");
}

#[test]
fn caller_with_the_password_is_let_in_and_both_ends_have_the_keys() {
    let initiator = initiator("ann", "correct horse");
    let (mut acceptor, challenge) = challenged(&initiator);
    let (token, mut client) = initiator.authenticate(&challenge).unwrap();
    let (last, identity, mut server) = done(acceptor.step(&token, &accounts()).unwrap());
    assert_eq!(last, None);
    assert_eq!((&*identity.user, &*identity.domain), ("ann", "Firm"));
    talk(&mut client, &mut *server);
    // Once only.
    let again = acceptor.step(&token, &accounts());
    assert_eq!(again.err(), Some(AuthError::Unexpected));
}

#[test]
fn unknown_account_and_wrong_password_are_the_same() {
    let same = |_: &mut Vec<u8>| {};
    assert_eq!(verdict("ann", "wrong", same), AuthError::Refused);
    assert_eq!(verdict("bob", "correct horse", same), AuthError::Refused);
    // The decoy is random where it matters; here it is known, and opens nothing.
    let decoy = initiator("bob", "");
    let credentials = Credentials {
        user: "bob".to_owned(),
        domain: String::new(),
        hash: NtHash::from_bytes([9; 16]),
    };
    let fresh = ClientFresh {
        nonce: [1; 8],
        session_key: [2; 16],
        time: TIME,
    };
    let knowing = NtlmInitiator::new(credentials, "rpcss/target".to_owned(), fresh);
    let (mut acceptor, challenge) = challenged(&decoy);
    let (token, _) = knowing.authenticate(&challenge).unwrap();
    let refused = acceptor.step(&token, &accounts()).err();
    assert_eq!(refused, Some(AuthError::Refused));
}

#[test]
fn anonymous_and_guest_are_refused() {
    let same = |_: &mut Vec<u8>| {};
    assert_eq!(verdict("Guest", "correct horse", same), AuthError::Guest);
    assert_eq!(verdict("", "correct horse", same), AuthError::Anonymous);
    let anonymous = |token: &mut Vec<u8>| token[61] |= 0x08;
    assert_eq!(
        verdict("ann", "correct horse", anonymous),
        AuthError::Anonymous
    );
    // No response at all.
    let empty = |token: &mut Vec<u8>| token[20..24].fill(0);
    assert_eq!(verdict("ann", "correct horse", empty), AuthError::Anonymous);
}

#[test]
fn response_of_the_first_version_is_refused() {
    let short = |token: &mut Vec<u8>| {
        token[20..24].copy_from_slice(&[24, 0, 24, 0]);
    };
    assert_eq!(verdict("ann", "correct horse", short), AuthError::Version1);
}

#[test]
fn offer_without_any_of_what_security_rests_on_is_refused() {
    let offer = initiator("ann", "correct horse");
    let offered = message::parse_negotiate(offer.negotiate()).unwrap();
    for (bit, what) in message::REQUIRED {
        let mut acceptor = NtlmAcceptor::new(names(), fresh());
        let refused = acceptor.step(&message::negotiate(offered & !bit), &accounts());
        assert_eq!(refused.err(), Some(AuthError::NotOffered(what)));
        // Taken out of the last message alone.
        let without = |token: &mut Vec<u8>| {
            let flags = u32::from_le_bytes(token[60..64].try_into().unwrap());
            token[60..64].copy_from_slice(&(flags & !bit).to_le_bytes());
        };
        assert_eq!(
            verdict("ann", "correct horse", without),
            AuthError::NotOffered(what)
        );
    }
    let mut acceptor = NtlmAcceptor::new(names(), fresh());
    let anonymous = message::negotiate(offered | flag::ANONYMOUS);
    let refused = acceptor.step(&anonymous, &accounts()).err();
    assert_eq!(refused, Some(AuthError::Anonymous));
}

#[test]
fn every_changed_byte_of_the_last_message_is_noticed() {
    let initiator = initiator("ann", "correct horse");
    let (_, challenge) = challenged(&initiator);
    let (token, _) = initiator.authenticate(&challenge).unwrap();
    for at in 0..token.len() {
        let change = |token: &mut Vec<u8>| token[at] ^= 1;
        // It has an integrity code: nothing may be different.
        verdict("ann", "correct horse", change);
    }
    for length in 0..token.len() {
        verdict("ann", "correct horse", |token| token.truncate(length));
    }
}

#[test]
fn changed_offer_is_noticed_by_the_integrity_code() {
    let initiator = initiator("ann", "correct horse");
    let mut offer = initiator.negotiate().to_vec();
    // Somebody on the way takes the version out.
    offer[15] &= !0x02;
    let mut acceptor = NtlmAcceptor::new(names(), fresh());
    let challenge = go_on(acceptor.step(&offer, &accounts()).unwrap());
    let (token, _) = initiator.authenticate(&challenge).unwrap();
    let refused = acceptor.step(&token, &accounts()).err();
    assert_eq!(refused, Some(AuthError::Mic));
}

#[test]
fn initiator_refuses_a_challenge_with_weak_or_broken_content() {
    let weak = initiator("ann", "correct horse");
    let (_, challenge) = challenged(&weak);
    let mut without = challenge.clone();
    without[23] &= !0x40;
    let refused = weak.authenticate(&without).err();
    assert_eq!(refused, Some(AuthError::NotOffered("a key exchange")));
    for length in 0..challenge.len() {
        let initiator = initiator("ann", "correct horse");
        assert!(initiator.authenticate(&challenge[..length]).is_err());
    }
}

/// SPNEGO with these mechanisms; whether the caller signs their list, and with what.
fn negotiated(mechanisms: &[&[u8]], list_to_sign: Option<&[&[u8]]>) -> Result<(), AuthError> {
    let initiator = initiator("ann", "correct horse");
    let accounts = accounts();
    let mut acceptor = SpnegoAcceptor::new(names(), fresh());
    let first_is_ntlm = mechanisms[0] == NTLM;
    let first = match first_is_ntlm {
        true => init(mechanisms, Some(initiator.negotiate())),
        false => init(mechanisms, Some(b"a token of Kerberos")),
    };
    let mut answer = go_on(acceptor.step(&first, &accounts)?);
    if !first_is_ntlm {
        let said = NegTokenResp::parse(&answer).unwrap();
        assert_eq!(said.state, Some(NegState::RequestMic));
        assert_eq!((said.mechanism, said.token), (Some(NTLM), None));
        let next = NegTokenResp {
            token: Some(initiator.negotiate()),
            ..NegTokenResp::default()
        };
        answer = go_on(acceptor.step(&next.encode(), &accounts)?);
    }
    let said = NegTokenResp::parse(&answer).unwrap();
    let (token, mut client) = initiator.authenticate(said.token.unwrap())?;
    let list = list_to_sign.map(|list| {
        let token = init(list, None);
        super::spnego::NegTokenInit::parse(&token)
            .unwrap()
            .mechanisms
            .to_vec()
    });
    let mic = list.as_ref().map(|list| client.sign_mechanisms(list));
    let last = NegTokenResp {
        token: Some(&token),
        mic: mic.as_deref(),
        ..NegTokenResp::default()
    };
    let (token, identity, mut server) = done(acceptor.step(&last.encode(), &accounts)?);
    let token = token.unwrap();
    let said = NegTokenResp::parse(&token).unwrap();
    assert_eq!(said.state, Some(NegState::AcceptCompleted));
    assert_eq!(said.mic.is_some(), list.is_some());
    if let (Some(list), Some(mic)) = (list, said.mic) {
        client.verify_mechanisms(&list, mic)?;
    }
    assert_eq!(identity.user, "ann");
    talk(&mut client, &mut *server);
    Ok(())
}

const KERBEROS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];

#[test]
fn mechanisms_are_negotiated_with_and_without_a_signature_of_their_list() {
    negotiated(&[NTLM], None).unwrap();
    negotiated(&[NTLM], Some(&[NTLM])).unwrap();
    negotiated(&[NTLM, KERBEROS], Some(&[NTLM, KERBEROS])).unwrap();
    negotiated(&[KERBEROS, NTLM], Some(&[KERBEROS, NTLM])).unwrap();
}

#[test]
fn list_of_mechanisms_that_was_changed_on_the_way_is_noticed() {
    let without = negotiated(&[KERBEROS, NTLM], None);
    assert_eq!(without, Err(AuthError::Mic));
    let changed = negotiated(&[NTLM], Some(&[KERBEROS, NTLM]));
    assert_eq!(changed, Err(AuthError::Signature));
    let none = negotiated(&[KERBEROS], None);
    assert_eq!(none, Err(AuthError::NoMechanism));
}
