//! Callers that lie about one thing each.

use super::*;
use crate::auth::der::{OCTET_STRING, context, element, only};
use crate::auth::kerberos_crypto::{BLOCK, Etype, Sealing};
use crate::auth::kerberos_messages::tests::{
    bits, encrypted, name, octet_string, sequence, string, time,
};
use crate::auth::kerberos_messages::{field, message, number};
use crate::auth::keytab::tests::{entry, keytab};
use crate::auth::spnego::tests::init;
use crate::auth::spnego::{NTLM, NegState, NegTokenResp};
use crate::auth::{Directory, Fresh, NtHash, Principal, ServerNames, Session, SpnegoAcceptor};

/// 2026-11-30 23:55:49.
const NOW: i64 = 1_796_082_949;
const NOW_TEXT: &str = "20261130235549Z";

/// What a caller sends; all true at first.
#[derive(Clone)]
struct Caller {
    options: u32,
    service: [&'static str; 2],
    kvno: u32,
    service_key: [u8; 32],
    ticket_etype: u32,
    ticket_flags: u32,
    ticket_name: &'static str,
    transited: &'static [u8],
    start: &'static str,
    end: &'static str,
    session_etype: u32,
    name: &'static str,
    realm: &'static str,
    time: &'static str,
    authenticator_key: [u8; 32],
    checksum_type: u32,
    checksum: Vec<u8>,
}

const TICKET_KEY: [u8; 32] = [3; 32];

fn checksum(flags: u32) -> Vec<u8> {
    [&[16, 0, 0, 0][..], &[0; 16], &flags.to_le_bytes()].concat()
}

fn honest() -> Caller {
    Caller {
        options: MUTUAL_REQUIRED,
        service: ["host", "target"],
        kvno: 3,
        service_key: [7; 32],
        ticket_etype: 18,
        ticket_flags: 0,
        ticket_name: "ann",
        transited: b"",
        start: "20261130200000Z",
        end: "20261201200000Z",
        session_etype: 18,
        name: "ann",
        realm: "FIRM",
        time: NOW_TEXT,
        authenticator_key: TICKET_KEY,
        checksum_type: 0x8003,
        checksum: checksum(MUTUAL | DCE_STYLE | 0x3C),
    }
}

fn sealing(key: &[u8; 32], usage: Usage) -> Sealing {
    Key::from_random(Etype::Aes256, key).sealing(usage)
}

impl Caller {
    fn ticket(&self) -> Vec<u8> {
        let key = sequence(&[
            field(0, &number(self.session_etype)),
            field(1, &octet_string(&TICKET_KEY)),
        ]);
        let transited = sequence(&[
            field(0, &number(1)),
            field(1, &octet_string(self.transited)),
        ]);
        let part = message(
            0x63,
            &[
                field(0, &bits(self.ticket_flags)),
                field(1, &key),
                field(2, &string(self.realm)),
                field(3, &name(&[self.ticket_name])),
                field(4, &transited),
                field(5, &time("20261130190000Z")),
                field(6, &time(self.start)),
                field(7, &time(self.end)),
            ],
        );
        let sealed = sealing(&self.service_key, Usage::Ticket).encrypt([1; BLOCK], &part);
        message(
            0x61,
            &[
                field(0, &number(5)),
                field(1, &string("FIRM")),
                field(2, &name(&self.service)),
                field(3, &encrypted(self.ticket_etype, Some(self.kvno), &sealed)),
            ],
        )
    }

    fn request(&self) -> Vec<u8> {
        let cksum = sequence(&[
            field(0, &number(self.checksum_type)),
            field(1, &octet_string(&self.checksum)),
        ]);
        let part = message(
            0x62,
            &[
                field(0, &number(5)),
                field(1, &string(self.realm)),
                field(2, &name(&[self.name])),
                field(3, &cksum),
                field(4, &number(77)),
                field(5, &time(self.time)),
                field(7, &number(500)),
            ],
        );
        let sealing = sealing(&self.authenticator_key, Usage::Authenticator);
        let sealed = sealing.encrypt([2; BLOCK], &part);
        message(
            0x6E,
            &[
                field(0, &number(5)),
                field(1, &number(14)),
                field(2, &bits(self.options)),
                field(3, &self.ticket()),
                field(4, &encrypted(18, None, &sealed)),
            ],
        )
    }
}

/// What the acceptor answers, opened: its key and number.
fn opened(answer: &[u8]) -> (Key, u32, Vec<u8>) {
    let part = ApRep::parse(answer).unwrap().0.cipher;
    let plain = sealing(&TICKET_KEY, Usage::Reply).decrypt(part).unwrap();
    let fields = only(only(&plain, 0x7B).unwrap(), 0x30).unwrap();
    let mut fields = Elements::new(fields);
    // The moment is repeated.
    assert_eq!(fields.expect(context(0)).unwrap(), time(NOW_TEXT));
    assert_eq!(fields.expect(context(1)).unwrap(), number(77));
    let key = only(fields.expect(context(2)).unwrap(), 0x30).unwrap();
    let mut key = Elements::new(key);
    assert_eq!(key.expect(context(0)).unwrap(), number(18));
    let key = only(key.expect(context(1)).unwrap(), OCTET_STRING).unwrap();
    let sequence = parse_reply_part(&plain).unwrap().unwrap();
    let key = Key::new(Etype::Aes256, key).unwrap();
    (key, sequence, part.to_vec())
}

/// A caller's last message.
fn last(sequence: u32, key: &[u8; 32]) -> Vec<u8> {
    let part = message(
        0x7B,
        &[
            field(0, &time(NOW_TEXT)),
            field(1, &number(78)),
            field(3, &number(sequence)),
        ],
    );
    let sealed = sealing(key, Usage::Reply).encrypt([4; BLOCK], &part);
    ApRep::encode(Etype::Aes256, &sealed)
}

fn service() -> Arc<KerberosService> {
    let bytes = keytab(&[entry(3, 18, &[7; 32]), entry(3, 17, &[8; 16])]);
    Arc::new(KerberosService::new(Keytab::parse(&bytes).unwrap()))
}

fn acceptor(service: &Arc<KerberosService>) -> KerberosAcceptor {
    let fresh = KerberosFresh {
        key: [0x55; 32],
        confounders: [0x66; 32],
        sequence: 0xC000_0123,
        time: NOW,
    };
    KerberosAcceptor::new(Arc::clone(service), fresh)
}

/// One principal alone is let in, or nobody.
struct Accounts(&'static str);

impl Directory for Accounts {
    fn nt_hash(&self, _: &str) -> Option<NtHash> {
        None
    }

    fn admits(&self, principal: &Principal) -> bool {
        principal.to_string() == self.0
    }
}

fn accounts() -> Accounts {
    Accounts("ann@FIRM")
}

fn answer(caller: &Caller) -> Result<Vec<u8>, AuthError> {
    acceptor(&service()).answer(&caller.request(), &accounts())
}

/// Both ends of a context.
fn pair() -> (KerberosSession, KerberosSession) {
    let mut acceptor = acceptor(&service());
    let reply = acceptor.answer(&honest().request(), &accounts()).unwrap();
    let (key, sequence, _) = opened(&reply);
    let (identity, server) = acceptor.finish(&last(sequence, &TICKET_KEY)).unwrap();
    assert_eq!(identity.user, "ann@FIRM");
    assert_eq!(identity.domain, "FIRM");
    let confounders = Confounders::new([5; 32]);
    let client = KerberosSession::new(&key, End::Initiator, (500, sequence), confounders);
    (client, server)
}

fn framed(mechanism: &[u8], mark: [u8; 2], request: &[u8]) -> Vec<u8> {
    let mechanism = element(OBJECT_IDENTIFIER, &[mechanism]);
    element(0x60, &[&mechanism, &mark, request])
}

#[test]
fn honest_caller_is_let_in_with_and_without_the_frame() {
    let request = honest().request();
    for token in [
        request.clone(),
        framed(KERBEROS, [1, 0], &request),
        framed(MICROSOFT_KERBEROS, [1, 0], &request),
    ] {
        let mut acceptor = acceptor(&service());
        let (_, sequence, _) = opened(&acceptor.answer(&token, &accounts()).unwrap());
        assert_eq!(sequence, 0x123);
        assert!(acceptor.finish(&last(sequence, &TICKET_KEY)).is_ok());
        assert!(acceptor.finish(&last(sequence, &TICKET_KEY)).is_err());
    }
    for token in [
        framed(NTLM, [1, 0], &request),
        framed(KERBEROS, [2, 0], &request),
        [framed(KERBEROS, [1, 0], &request), vec![0]].concat(),
    ] {
        assert!(acceptor(&service()).answer(&token, &accounts()).is_err());
    }
}

#[test]
fn every_lie_is_found() {
    type Change = fn(&mut Caller);
    let lies: [(&str, &str, Change); 25] = [
        ("name", "not the one of the ticket", |c| c.name = "bob"),
        ("whose ticket", "not the one of the ticket", |c| {
            c.ticket_name = "bob"
        }),
        ("unknown", "unknown account", |c| {
            (c.name, c.ticket_name) = ("bob", "bob")
        }),
        ("realm", "unknown account", |c| c.realm = "OTHER"),
        ("service", "no key", |c| c.service = ["host", "other"]),
        ("class", "no key", |c| c.service = ["cifs", "target"]),
        ("number of the key", "no key", |c| c.kvno = 4),
        ("key of the service", "cannot be decrypted", |c| {
            c.service_key = [9; 32]
        }),
        ("encryption", "cannot be decrypted", |c| c.ticket_etype = 17),
        ("RC4", "no key", |c| c.ticket_etype = 23),
        ("RC4 in the session", "another encryption than AES", |c| {
            c.session_etype = 23
        }),
        ("length of the key", "another length", |c| {
            c.session_etype = 17
        }),
        ("key of the session", "does not know", |c| {
            c.authenticator_key = [9; 32]
        }),
        ("invalid", "not valid yet", |c| c.ticket_flags = INVALID),
        ("other realms", "other realms", |c| {
            c.transited = b"EDU,MIT."
        }),
        ("not yet", "future", |c| c.start = "20261201000050Z"),
        ("expired", "expired", |c| c.end = "20261130235048Z"),
        ("late", "five minutes", |c| c.time = "20261130235048Z"),
        ("early", "five minutes", |c| c.time = "20261201000050Z"),
        ("no mutual option", "mutual", |c| c.options = 0),
        ("user to user", "not the service's", |c| {
            c.options |= USE_SESSION_KEY
        }),
        ("no mutual flag", "mutual", |c| {
            c.checksum = checksum(DCE_STYLE)
        }),
        ("not DCE", "style of DCE", |c| c.checksum = checksum(MUTUAL)),
        ("another checksum", "GSS-API", |c| c.checksum_type = 16),
        ("flags cut short", "flags", |c| {
            c.checksum.pop();
        }),
    ];
    assert!(answer(&honest()).is_ok());
    for (what, reason, change) in lies {
        let mut caller = honest();
        change(&mut caller);
        let error = answer(&caller).unwrap_err().to_string();
        assert!(error.contains(reason), "{what}: {error}");
    }
    let edges: [Change; 6] = [
        |c| c.start = "20261201000049Z",
        |c| c.end = "20261130235049Z",
        |c| c.time = "20261130235049Z",
        |c| c.service = ["HOST", "Target"],
        |c| {
            c.transited = b"EDU,MIT.";
            c.ticket_flags = TRANSITED_POLICY_CHECKED;
        },
        // Bindings of a channel, and a ticket that is delegated.
        |c| {
            c.checksum[4..20].fill(9);
            c.checksum.extend([1, 0, 0, 0]);
        },
    ];
    for (number, change) in edges.into_iter().enumerate() {
        let mut caller = honest();
        change(&mut caller);
        assert!(answer(&caller).is_ok(), "{number}");
    }
}

#[test]
fn messages_cut_or_changed_are_refused() {
    let request = honest().request();
    let service = service();
    for at in 0..request.len() {
        let cut = acceptor(&service).answer(&request[..at], &accounts());
        assert!(cut.is_err(), "{at}");
    }
    let mut acceptor = acceptor(&service);
    let reply = acceptor.answer(&request, &accounts()).unwrap();
    let (_, sequence, _) = opened(&reply);
    let last = last(sequence, &TICKET_KEY);
    for at in 0..last.len() {
        for token in [&last[..at], &changed(&last, at)] {
            let mut other = self::acceptor(&self::service());
            other.answer(&request, &accounts()).unwrap();
            assert!(other.finish(token).is_err(), "{at}");
        }
    }
}

fn changed(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[at] ^= 1;
    changed
}

#[test]
fn authenticator_is_accepted_once_and_only_an_administrators_is_kept() {
    let service = service();
    let request = honest().request();
    assert!(acceptor(&service).answer(&request, &accounts()).is_ok());
    let again = acceptor(&service).answer(&request, &accounts());
    assert!(matches!(again, Err(AuthError::Kerberos(reason)) if reason.contains("before")));
    let nobody = Accounts("");
    let other = Caller {
        time: "20261130235550Z",
        ..honest()
    };
    let other = other.request();
    let unknown = acceptor(&service).answer(&other, &nobody);
    assert_eq!(unknown, Err(AuthError::Refused));
    assert!(acceptor(&service).answer(&other, &accounts()).is_ok());
}

#[test]
fn last_message_must_be_the_callers_and_of_this_context() {
    let begun = || {
        let mut acceptor = acceptor(&service());
        let reply = acceptor.answer(&honest().request(), &accounts()).unwrap();
        (acceptor, reply)
    };
    let (mut acceptor, reply) = begun();
    assert!(acceptor.finish(&reply).is_err(), "sent back");
    let (_, sequence, cipher) = opened(&reply);
    let disguised = message(
        0x6F,
        &[
            field(0, &number(5)),
            field(1, &number(15)),
            field(2, &encrypted(18, Some(1), &cipher)),
        ],
    );
    for token in [
        disguised,
        last(sequence + 1, &TICKET_KEY),
        last(sequence, &[0x55; 32]),
        honest().request(),
        Vec::new(),
    ] {
        let (mut acceptor, _) = begun();
        assert!(acceptor.finish(&token).is_err());
        // Over.
        assert!(acceptor.finish(&last(sequence, &TICKET_KEY)).is_err());
    }
    let (mut early, _) = (self::acceptor(&service()), ());
    assert!(early.finish(&last(sequence, &TICKET_KEY)).is_err());
}

const PACKET: &[u8] = b"header, a stub of some length, trailer!!";
const BODY: std::ops::Range<usize> = 8..30;

#[test]
fn packets_are_sealed_in_place_both_ways() {
    let (mut client, mut server) = pair();
    for session in [&mut client, &mut server] {
        session.agree(true, true);
        assert_eq!(session.signature_length(), 76);
    }
    for _ in 0..3 {
        let mut packet = PACKET.to_vec();
        let signature = client.seal(&mut packet, BODY);
        assert_eq!(signature.len(), 76);
        assert_eq!(packet[..8], PACKET[..8]);
        assert_ne!(packet[BODY], PACKET[BODY]);
        server.unseal(&mut packet, BODY, &signature).unwrap();
        assert_eq!(packet, PACKET);
        let signature = server.seal(&mut packet, BODY);
        client.unseal(&mut packet, BODY, &signature).unwrap();
        assert_eq!(packet, PACKET);
        let signature = client.sign(PACKET);
        assert_eq!(signature.len(), 28);
        server.verify(PACKET, &signature).unwrap();
    }
    server.agree(false, false);
    assert_eq!(server.signature_length(), 28);
    assert!(!server.covers_headers());
}

#[test]
fn changed_repeated_skipped_and_reflected_packets_are_refused() {
    let (mut client, _) = pair();
    let mut sealed = PACKET.to_vec();
    let signature = client.seal(&mut sealed, BODY);
    let (mut client, _) = pair();
    let signed = client.sign(PACKET);
    let whole = [&*sealed, &signature].concat();
    let mut server = pair().1;
    for at in 0..whole.len() {
        let mut changed = changed(&whole, at);
        let (packet, signature) = changed.split_at_mut(PACKET.len());
        assert!(server.unseal(packet, BODY, signature).is_err(), "{at}");
    }
    for length in 0..signature.len() {
        let cut = server.unseal(&mut sealed.clone(), BODY, &signature[..length]);
        assert!(cut.is_err());
    }
    let mic = [PACKET, &signed].concat();
    for at in 0..mic.len() {
        let changed = changed(&mic, at);
        let (packet, signature) = changed.split_at(PACKET.len());
        assert!(server.verify(packet, signature).is_err(), "{at}");
        assert!(server.verify(PACKET, &signed[..at.min(27)]).is_err());
    }
    // None of these has moved the counter.
    server
        .unseal(&mut sealed.clone(), BODY, &signature)
        .unwrap();
    assert!(
        server
            .unseal(&mut sealed.clone(), BODY, &signature)
            .is_err()
    );
    assert!(
        client
            .unseal(&mut sealed.clone(), BODY, &signature)
            .is_err()
    );
    assert!(client.verify(PACKET, &signed).is_err());
    let (mut client, mut server) = pair();
    client.sign(PACKET);
    let skipped = client.sign(PACKET);
    assert!(server.verify(PACKET, &skipped).is_err());
    assert!(server.unseal(&mut [0; 8], 4..9, &[0; 76]).is_err());
}

fn spnego(service: &Arc<KerberosService>) -> SpnegoAcceptor {
    let fresh = Fresh {
        nonce: [1; 8],
        decoy: [2; 16],
        time: 0,
    };
    SpnegoAcceptor::new(ServerNames::new("target"), fresh).with_kerberos(Some(acceptor(service)))
}

/// The mechanism and the token of an answer.
fn continued(step: Result<Step, AuthError>) -> (NegState, Vec<u8>, Vec<u8>) {
    let Ok(Step::Continue(answer)) = step else {
        panic!("no answer");
    };
    let answer = NegTokenResp::parse(&answer).unwrap();
    let token = answer.token.unwrap_or_default().to_vec();
    (
        answer.state.unwrap(),
        answer.mechanism.unwrap().to_vec(),
        token,
    )
}

#[test]
fn spnego_takes_the_first_mechanism_that_is_spoken() {
    let other: &[u8] = &[0x2A, 3];
    let request = honest().request();
    for list in [
        &[KERBEROS, NTLM][..],
        &[MICROSOFT_KERBEROS, KERBEROS, NTLM],
        &[KERBEROS],
    ] {
        let mut acceptor = spnego(&service());
        let step = acceptor.step(&init(list, Some(&request)), &accounts());
        let (state, mechanism, token) = continued(step);
        assert_eq!((state, &*mechanism), (NegState::AcceptIncomplete, list[0]));
        opened(&token);
    }
    let mut acceptor = spnego(&service());
    let step = acceptor.step(&init(&[NTLM, KERBEROS], None), &accounts());
    assert_eq!(continued(step).1, NTLM);
    let mut acceptor = spnego(&service());
    let step = acceptor.step(&init(&[other], None), &accounts());
    assert_eq!(step.err(), Some(AuthError::NoMechanism));
    let mut acceptor = spnego(&service());
    let step = acceptor.step(&init(&[other, KERBEROS], Some(b"other")), &accounts());
    let (state, mechanism, _) = continued(step);
    assert_eq!((state, &*mechanism), (NegState::RequestMic, KERBEROS));
}

#[test]
fn spnego_requires_a_signature_where_the_first_choice_was_another() {
    let other: &[u8] = &[0x2A, 3];
    // Whether the caller's first choice is Kerberos, what its signature is over, and whether that is enough.
    let list = [
        element(OBJECT_IDENTIFIER, &[other]),
        element(OBJECT_IDENTIFIER, &[KERBEROS]),
    ];
    let both = element(0x30, &[&list[0], &list[1]]);
    let one = element(0x30, &[&list[1]]);
    for (is_first, signed, is_enough) in [
        (true, None, true),
        (true, Some(&one), true),
        (true, Some(&both), false),
        (false, None, false),
        (false, Some(&both), true),
        (false, Some(&one), false),
    ] {
        let request = honest().request();
        let mut acceptor = spnego(&service());
        let reply = if is_first {
            continued(acceptor.step(&init(&[KERBEROS], Some(&request)), &accounts())).2
        } else {
            continued(acceptor.step(&init(&[other, KERBEROS], None), &accounts()));
            let next = NegTokenResp {
                token: Some(&request),
                ..NegTokenResp::default()
            };
            continued(acceptor.step(&next.encode(), &accounts())).2
        };
        let (key, sequence, _) = opened(&reply);
        let confounders = Confounders::new([5; 32]);
        let mut client = KerberosSession::new(&key, End::Initiator, (500, sequence), confounders);
        let mic = signed.map(|list| client.sign(list));
        let third = NegTokenResp {
            token: Some(&last(sequence, &TICKET_KEY)),
            mic: mic.as_deref(),
            ..NegTokenResp::default()
        };
        let step = acceptor.step(&third.encode(), &accounts());
        assert_eq!(step.is_ok(), is_enough, "{is_first} {signed:?}");
        let Ok(Step::Done {
            token: Some(token),
            mut session,
            ..
        }) = step
        else {
            continue;
        };
        let done = NegTokenResp::parse(&token).unwrap();
        assert_eq!(done.state, Some(NegState::AcceptCompleted));
        if let Some(list) = signed {
            client.verify(list, done.mic.unwrap()).unwrap();
        }
        // The counters go on from there.
        session.verify(PACKET, &client.sign(PACKET)).unwrap();
    }
}
