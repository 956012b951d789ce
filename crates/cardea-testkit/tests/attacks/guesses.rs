//! Guessing a PIN through every command that compares it.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};

use crate::bench::{Bench, Kind, Outcome, PIN, index, succeeds_if, value};
use crate::raw::{Auth, Entity, OWNER, Session, SessionKind, cc, sized};

/// A way to show the TPM a value, and what it answers.
struct Way {
    name: String,
    show: Show,
    /// Whether the TPM compares the value: then a wrong one must cost one try.
    compares: bool,
}

/// Shows a value; the response code comes back.
type Show = Box<dyn Fn(&Bench, &[u8; 32]) -> u32>;

/// How a command's session comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Bound,
    Password,
    Salted,
    Unsalted,
}

/// No way tells a right value from a wrong one without costing a try, and none at all when the PIN is blocked.
pub(crate) fn every_way_to_guess() -> Outcome {
    let mut bench = Bench::new();
    let record = bench.record(Kind::Admin);
    // The daemon's sessions would take the room of the attacker's.
    bench.restart();
    let right = value(&record, IndexRole::Pin, PIN);
    let wrong = value(&record, IndexRole::Pin, b"wrong");
    let ways = ways(&record);
    assert!(ways.len() > 30, "{}", ways.len());
    let mut compared = 0;
    for Way {
        name,
        show,
        compares,
    } in &ways
    {
        forgive(&bench, &record, &right);
        let said_wrong = show(&bench, &wrong);
        let cost = bench.failures(&record);
        forgive(&bench, &record, &right);
        let said_right = show(&bench, &right);
        let cost_right = bench.failures(&record);
        succeeds_if!(said_wrong == 0, "{name} takes a wrong value");
        succeeds_if!(
            said_wrong != said_right && cost == 0,
            "{name} tells right from wrong ({said_right:#x}, {said_wrong:#x}) and costs nothing"
        );
        succeeds_if!(
            cost > 1,
            "{name} costs {cost} tries: a user loses more than one"
        );
        assert!(
            cost_right <= cost && (cost == 1 || !compares),
            "{name}: {cost} tries for a wrong value, {cost_right} for the right one, \
             {said_wrong:#x} and {said_right:#x}"
        );
        compared += cost;
    }
    assert!(compared >= 15, "{compared} ways compare");

    while bench.failures(&record) < 5 {
        secret(&bench, &record, &Auth::Password(&wrong), b"sess");
    }
    for Way { name, show, .. } in &ways {
        let (said_right, said_wrong) = (show(&bench, &right), show(&bench, &wrong));
        succeeds_if!(
            said_right != said_wrong || said_right == 0,
            "{name} tells right from wrong when the PIN is blocked ({said_right:#x}, {said_wrong:#x})"
        );
        assert_eq!(bench.failures(&record), 5, "{name}");
    }
    Ok(())
}

/// The right value gives the tries back.
fn forgive(bench: &Bench, record: &CardRecord, right: &[u8; 32]) {
    let code = secret(bench, record, &Auth::Password(right), b"sess");
    assert_eq!((code, bench.failures(record)), (0, 0));
}

fn counter(record: &CardRecord) -> Entity {
    let pin = index(record, IndexRole::Pin);
    Entity::named(pin.handle, &pin.name)
}

fn secret(bench: &Bench, record: &CardRecord, auth: &Auth<'_>, policy_ref: &[u8]) -> u32 {
    let session = bench.policy_session();
    let auth = match auth {
        Auth::Password(value) => Auth::Password(value),
        Auth::Session(session, value) => Auth::Session(session, value),
    };
    let code = bench.policy_secret(&counter(record), auth, &session, policy_ref);
    bench.flush(session.handle);
    code
}

fn ways(record: &CardRecord) -> Vec<Way> {
    let mut ways = Vec::new();
    for by in [By::Password, By::Unsalted, By::Salted, By::Bound] {
        for policy_ref in [&b"sess"[..], b"once", b"chg", b"adm", b"", b"else"] {
            let record = record.clone();
            ways.push(Way {
                name: format!("PolicySecret, {by:?}, {}", policy_ref.escape_ascii()),
                show: Box::new(move |bench, value| {
                    with(bench, by, value, |auth| {
                        secret(bench, &record, &auth, policy_ref)
                    })
                }),
                compares: true,
            });
        }
        for (name, code, parameters, compares) in commands() {
            let record = record.clone();
            ways.push(Way {
                name: format!("{name}, {by:?}"),
                show: Box::new(move |bench, value| {
                    with(bench, by, value, |auth| {
                        command(bench, &record, code, &parameters, auth)
                    })
                }),
                compares,
            });
        }
        let record = record.clone();
        ways.push(Way {
            name: format!("session bound to the index, {by:?}"),
            show: Box::new(move |bench, value| bound_to_index(bench, &record, value)),
            compares: false,
        });
    }
    for approval in &record.tpm.approvals {
        let id = ApprovalId::parse(&approval.id).unwrap();
        for plain in [false, true] {
            let record = record.clone();
            ways.push(Way {
                name: format!("PolicyAuthValue, {id:?}, alone {plain}"),
                show: Box::new(move |bench, value| auth_value(bench, &record, id, plain, value)),
                compares: false,
            });
        }
    }
    ways
}

/// Commands that an index's value might authorise, and whether it is compared: those that write do not ask it.
fn commands() -> Vec<(&'static str, u32, Vec<u8>, bool)> {
    let read = vec![0, 8, 0, 0];
    let write = [&sized(&[0; 8])[..], &[0, 0]].concat();
    let certify = [&sized(b"")[..], &[0, 0x10], &read].concat();
    let compare = [&sized(&[0; 8])[..], &[0, 0, 0, 0]].concat();
    vec![
        ("NV_Read", cc::NV_READ, read, true),
        ("NV_ReadLock", cc::NV_READ_LOCK, vec![], true),
        ("NV_Certify", cc::NV_CERTIFY, certify, true),
        ("PolicyNV", cc::POLICY_NV, compare, true),
        ("NV_Write", cc::NV_WRITE, write.clone(), false),
        ("NV_Increment", cc::NV_INCREMENT, vec![], false),
        ("NV_Extend", cc::NV_EXTEND, sized(&[1]), false),
        ("NV_SetBits", cc::NV_SET_BITS, vec![0; 8], false),
        ("NV_WriteLock", cc::NV_WRITE_LOCK, vec![], false),
        ("NV_ChangeAuth", cc::NV_CHANGE_AUTH, sized(&[3; 32]), false),
    ]
}

fn with(bench: &Bench, by: By, value: &[u8; 32], use_it: impl FnOnce(Auth<'_>) -> u32) -> u32 {
    let own = match by {
        By::Password => return use_it(Auth::Password(value)),
        By::Unsalted => bench.session(SessionKind::Hmac, false, None),
        By::Salted => bench.session(SessionKind::Hmac, true, None),
        By::Bound => {
            let key = bench.primary(b"own");
            let session = bench.session(SessionKind::Hmac, false, Some((&key, b"own")));
            bench.flush(key.handle);
            session
        }
    };
    let code = use_it(Auth::Session(&own, value));
    bench.flush(own.handle);
    code
}

fn command(
    bench: &Bench,
    record: &CardRecord,
    code: u32,
    parameters: &[u8],
    auth: Auth<'_>,
) -> u32 {
    let counter = counter(record);
    match code {
        cc::NV_CHANGE_AUTH => bench.send(code, &[counter], &[auth], parameters).code,
        cc::NV_CERTIFY => {
            let key = bench.primary(&[]);
            let entities = [key.clone(), counter.clone(), counter];
            let auths = [Auth::Password(&[]), auth];
            let answer = bench.send(code, &entities, &auths, parameters);
            bench.flush(key.handle);
            answer.code
        }
        cc::POLICY_NV => {
            let session = bench.policy_session();
            let entities = [counter.clone(), counter, Entity::plain(session.handle)];
            let answer = bench.send(code, &entities, &[auth], parameters);
            bench.flush(session.handle);
            answer.code
        }
        _ => {
            let entities = [counter.clone(), counter];
            bench.send(code, &entities, &[auth], parameters).code
        }
    }
}

fn bound_to_index(bench: &Bench, record: &CardRecord, value: &[u8; 32]) -> u32 {
    let nonce = [5; 16];
    let parameters = [&sized(&nonce)[..], &[0, 0, 0, 0, 0x10, 0, 0x0B]].concat();
    let handles = [Entity::plain(0x4000_0007), counter(record)];
    let answer = bench.send(cc::START_AUTH_SESSION, &handles, &[], &parameters);
    if answer.code != 0 {
        return answer.code;
    }
    bench.flush(answer.handle());
    let session = bench.session(SessionKind::Hmac, false, Some((&counter(record), value)));
    let code = bench
        .send(
            cc::NV_READ,
            &[Entity::plain(OWNER), counter(record)],
            &[Auth::Session(&session, &[])],
            &[0, 8, 0, 0],
        )
        .code;
    bench.flush(session.handle);
    code
}

/// A policy session that wants the index's value, under an approved policy or under none. Where it were taken,
/// the new value is the one shown.
fn auth_value(
    bench: &Bench,
    record: &CardRecord,
    id: ApprovalId,
    plain: bool,
    value: &[u8; 32],
) -> u32 {
    let session: Session = bench.policy_session();
    let birth = name_of(&record.tpm.birth_public);
    let (_, command_code) = id.policy();
    let own = [Entity::plain(session.handle)];
    assert_eq!(bench.send(cc::POLICY_AUTH_VALUE, &own, &[], &[]).code, 0);
    bench.policy_command_code(&session, command_code);
    if !plain {
        let wanted = |approval: &&cardea_card::record::Approval| approval.id == id.as_str();
        let approval = record.tpm.approvals.iter().find(wanted).unwrap();
        let role = role_ref(approval.role);
        bench.policy_authorize(&session, &approval.digest, role, &birth, &approval.ticket);
    }
    let parameters = match command_code {
        cc::NV_CHANGE_AUTH => sized(value),
        cc::NV_READ => vec![0, 8, 0, 0],
        _ => [&sized(&[0, 0, 0, 0, 0, 0, 0, 5])[..], &[0, 0]].concat(),
    };
    let auth = Auth::Session(&session, value);
    let code = command(bench, record, command_code, &parameters, auth);
    bench.flush(session.handle);
    code
}
