//! The TPM's command audit and its limits, each on a TPM of its own.

use cardea_card::record::IndexRole;
use cardea_card::token::{PinReference, PrivateOperation};
use cardea_testkit::multiplexer::Exchange;
use cardea_tpm::policy::hash;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::hierarchies::by;
use super::live::Live;
use super::row::Object::{Ec, Nothing, Owner};
use super::row::{Knowledge, Object, Row, Seen, row};
use crate::bench::{PIN, SECOND_PIN, pin, value};
use crate::raw::{EMPTY, Entity, NULL, Reader, SessionKind, cc, sized, sized_point};

pub(super) fn rows() -> Vec<Row> {
    let audited = "audit a PIN change and a key agreement: guesses are compared with the digest";
    vec![
        row(cc::SET_COMMAND_CODE_AUDIT_STATUS, Knowledge::Owner, audited)
            .on(
                &[Owner],
                Seen::from([("", 0)])
                    .and("the new PIN", "cannot be tested")
                    .and("the agreed secret", "cannot be tested"),
            )
            .by(audit),
        row(
            cc::START_AUTH_SESSION,
            Knowledge::Device,
            "take all 64 sessions",
        )
        .on(
            &[Nothing],
            Seen::from([("", 0x905)]).and("the holder's PIN", "refused until they end"),
        )
        .by(all_sessions),
    ]
}

fn all_sessions(live: &mut Live, _: Object) -> Seen {
    let mut card = live.bench.open(&live.record);
    let mut connection = card.connect();
    let none = Entity::plain(NULL);
    let mut taken = Vec::new();
    let full = loop {
        let answer = live
            .bench
            .start_session(SessionKind::Policy, &none, &[], &none);
        if answer.code != 0 {
            break answer.code;
        }
        let handle = answer.handle();
        assert_eq!(live.bench.save(handle).code, 0, "ContextSave");
        taken.push(handle);
    };
    assert!(taken.len() > 32, "{} sessions", taken.len());
    let verified = card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN));
    for handle in taken {
        live.bench.flush(handle);
    }
    let words = match verified {
        Ok(()) => "accepted",
        Err(_) => "refused until they end",
    };
    Seen::from([("", full)]).and("the holder's PIN", words)
}

/// A command that the TPM audits: what its hashes are made of (TPM 2.0 Part 1 §30.3).
struct Audited {
    code: u32,
    names: Vec<u8>,
    parameters: Vec<u8>,
    answer: Vec<u8>,
}

impl Audited {
    fn heard(exchange: &Exchange, names: &[u8]) -> Self {
        let command = &exchange.command;
        // One handle, then the authorisations.
        let area = u32::from_be_bytes(command[14..18].try_into().unwrap());
        let at = 18 + usize::try_from(area).unwrap();
        let response = exchange.response.as_ref().unwrap();
        let length = u32::from_be_bytes(response[10..14].try_into().unwrap());
        let end = 14 + usize::try_from(length).unwrap();
        Self {
            code: exchange.code(),
            names: names.to_vec(),
            parameters: command[at..].to_vec(),
            answer: response[14..end].to_vec(),
        }
    }

    fn extend(&self, digest: [u8; 32]) -> [u8; 32] {
        let code = self.code.to_be_bytes();
        let cp_hash = hash(&[&code, &self.names, &self.parameters]);
        let rp_hash = hash(&[&[0; 4], &code, &self.answer]);
        hash(&[&digest, &cp_hash, &rp_hash])
    }
}

fn digest_of(audited: &[Audited]) -> [u8; 32] {
    audited
        .iter()
        .fold([0; 32], |digest, audited| audited.extend(digest))
}

/// Has the holder's commands audited, and tests guesses against the digest: the right ones, which are known here.
fn audit(live: &mut Live, owner: Object) -> Seen {
    const SHA256: [u8; 2] = [0, 0x0B];
    let algorithm = [&SHA256[..], &[0; 8]].concat();
    let code = cc::SET_COMMAND_CODE_AUDIT_STATUS;
    assert_eq!(by(live, owner, code, &algorithm), 0, "the algorithm");
    live.bench.mux.forget_exchanges();
    let list = [2, cc::NV_CHANGE_AUTH, cc::ECDH_ZGEN, 0].map(u32::to_be_bytes);
    let set = by(live, owner, code, &[&SHA256[..], &list.concat()].concat());
    // By the holder.
    let own = p256::SecretKey::from_slice(&[0x31; 32]).unwrap();
    let point = own.public_key().to_sec1_point(false);
    let (x, y) = (point.x().unwrap(), point.y().unwrap());
    let number = live.key(Ec).number();
    let mut card = live.bench.open(&live.record);
    let mut connection = card.connect();
    let (old, new) = (pin(PIN), pin(SECOND_PIN));
    card.change_pin(&mut connection, PinReference::Pin, &old, &new)
        .unwrap();
    card.verify_pin(&mut connection, PinReference::Pin, &new)
        .unwrap();
    let agreed = card.use_key(&mut connection, number, PrivateOperation::Ecdh { x, y });
    assert!(agreed.is_ok(), "the holder agrees on a secret");
    let digest = audit_digest(live);
    card.change_pin(&mut connection, PinReference::Pin, &new, &old)
        .unwrap();
    drop(card);

    let names = |code: u32| match code {
        cc::NV_CHANGE_AUTH => live.index(IndexRole::Pin).name().to_vec(),
        cc::ECDH_ZGEN => cardea_tpm::policy::name_of(live.blob(Ec).1).to_vec(),
        _ => live.entity(Owner).name().to_vec(),
    };
    let exchanges = live.bench.mux.exchanges();
    let heard = || {
        let until_read = exchanges
            .iter()
            .take_while(|exchange| exchange.code() != cc::GET_COMMAND_AUDIT_DIGEST);
        let audited = [code, cc::NV_CHANGE_AUTH, cc::ECDH_ZGEN];
        until_read
            .filter(|exchange| audited.contains(&exchange.code()))
            .map(|exchange| Audited::heard(exchange, &names(exchange.code())))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        digest_of(&heard()),
        digest,
        "the audit is of what was heard"
    );

    let mut guessed = heard();
    let new = value(&live.record, IndexRole::Pin, SECOND_PIN);
    of(&mut guessed, cc::NV_CHANGE_AUTH).parameters = sized(&new);
    let pin_shows = digest_of(&guessed) == digest;
    let mut guessed = heard();
    let (x, y) = agreed_point(live, &own);
    of(&mut guessed, cc::ECDH_ZGEN).answer = sized_point(&x, &y);
    let secret_shows = digest_of(&guessed) == digest;
    let words = |shows: bool| {
        if shows {
            "can be tested"
        } else {
            "cannot be tested"
        }
    };
    Seen::from([("", set)])
        .and("the new PIN", words(pin_shows))
        .and("the agreed secret", words(secret_shows))
}

fn of(audited: &mut [Audited], code: u32) -> &mut Audited {
    let mut audited = audited.iter_mut();
    audited.find(|audited| audited.code == code).unwrap()
}

/// GetCommandAuditDigest, signed by nobody.
fn audit_digest(live: &Live) -> [u8; 32] {
    let entities = [live.entity(Object::Endorsement), Entity::plain(NULL)];
    let answer = live.bench.send(
        cc::GET_COMMAND_AUDIT_DIGEST,
        &entities,
        &[EMPTY, EMPTY],
        &[0, 0, 0, 0x10],
    );
    assert_eq!(answer.code, 0, "GetCommandAuditDigest");
    let mut statement = Reader(Reader(&answer.body[4..]).sized());
    // Magic and type; signer, data; times and firmware; counter and algorithm.
    statement.bytes(6);
    statement.sized();
    statement.sized();
    statement.bytes(17 + 8 + 8 + 2);
    statement.sized().try_into().unwrap()
}

/// What the holder and the owner of this key agree on.
fn agreed_point(live: &Live, own: &p256::SecretKey) -> (Vec<u8>, Vec<u8>) {
    let public = live.blob(Ec).1;
    let mut unique = Reader(&public[public.len() - 68..]);
    let (x, y) = (unique.sized(), unique.sized());
    let card = p256::PublicKey::from_sec1_bytes(&[&[4], x, y].concat()).unwrap();
    let point = card.to_projective() * *own.to_nonzero_scalar();
    let point = p256::PublicKey::from_affine(point.to_affine()).unwrap();
    let point = point.to_sec1_point(false);
    (point.x().unwrap().to_vec(), point.y().unwrap().to_vec())
}
