//! Commands on the card's counters: by owner and platform, by a wrong value, by what the card file approves.

use cardea_card::record::{CounterMode, IndexRole};
use cardea_tpm::policy::{ApprovalId, NV_DEFINED, index_policy, name_of, nv_public};

use super::live::Live;
use super::row::Object::{AdmIndex, Owner, PinIndex, Platform, PukIndex};
use super::row::{After, Answered, INDICES, Knowledge, Object, Row, Seen, row};
use crate::bench::index;
use crate::raw::{
    Auth, EMPTY, Entity, NULL, OWNER, PLATFORM, Session, SessionKind, Ticket, cc, sized,
};

/// Of the attacker's making, and wrong.
pub(super) const WRONG: [u8; 32] = [0xA5; 32];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (command, compared) in data_commands() {
        for (knowledge, by) in [(Knowledge::Owner, OWNER), (Knowledge::Platform, PLATFORM)] {
            let tried = "authorised by the hierarchy";
            let by_hierarchy =
                row(command, knowledge, tried)
                    .on(INDICES, 0x149)
                    .by(move |live, object| {
                        let by = Entity::plain(by);
                        send(live, command, object, &by, EMPTY)
                    });
            rows.push(match read_by_the_owner(command) {
                Some(code) if by == OWNER => by_hierarchy.where_the_owner_reads(INDICES, code),
                _ => by_hierarchy,
            });
        }
        let by_value = row(
            command,
            Knowledge::Device,
            "authorised by an incorrect value",
        )
        .by(move |live, object| {
            let own = live.entity(object);
            send(live, command, object, &own, Auth::Password(&WRONG))
        });
        rows.push(match compared {
            None => by_value.on(INDICES, 0x12F),
            Some(code) => by_value.on(INDICES, code).then(After::Tried),
        });
    }
    rows.extend(approved());
    rows.extend(authorities());
    rows.extend(definitions());
    rows
}

/// Commands on an index's data, and what a comparison of the value says: those that write do not compare it.
fn data_commands() -> [(u32, Option<u32>); 10] {
    [
        (cc::NV_READ, Some(0x9A2)),
        (cc::NV_READ_LOCK, Some(0x9A2)),
        (cc::NV_CERTIFY, Some(0xAA2)),
        (cc::POLICY_NV, Some(0x9A2)),
        (cc::POLICY_AUTHORIZE_NV, Some(0x9A2)),
        (cc::NV_WRITE, None),
        (cc::NV_INCREMENT, None),
        (cc::NV_EXTEND, None),
        (cc::NV_SET_BITS, None),
        (cc::NV_WRITE_LOCK, None),
    ]
}

/// What the TPM says of the commands that only read, where the owner may read: what the data are not fit for fails.
fn read_by_the_owner(command: u32) -> Option<u32> {
    match command {
        cc::NV_READ | cc::NV_CERTIFY => Some(0),
        cc::NV_READ_LOCK => Some(0x282),
        cc::POLICY_NV => Some(0x126),
        cc::POLICY_AUTHORIZE_NV => Some(0x083),
        _ => None,
    }
}

/// Five tries of five, as NV_Write takes them.
pub(super) fn full_tries() -> Vec<u8> {
    [&sized(&[0, 0, 0, 0, 0, 0, 0, 5])[..], &[0, 0]].concat()
}

/// One of the commands on data, authorised by somebody.
fn send(live: &Live, command: u32, object: Object, by: &Entity, auth: Auth<'_>) -> u32 {
    let index = live.entity(object);
    let bench = &live.bench;
    let parameters = match command {
        cc::NV_READ => vec![0, 8, 0, 0],
        cc::NV_WRITE => full_tries(),
        cc::NV_EXTEND => sized(&[1]),
        cc::NV_SET_BITS => vec![0; 8],
        _ => Vec::new(),
    };
    match command {
        cc::NV_CERTIFY => {
            let entities = [bench.primary(&[]), by.clone(), index];
            let parameters = [0, 0, 0, 0x10, 0, 8, 0, 0];
            bench
                .send(command, &entities, &[EMPTY, auth], &parameters)
                .code
        }
        cc::POLICY_NV | cc::POLICY_AUTHORIZE_NV => {
            let session = Entity::plain(bench.policy_session().handle);
            let parameters = match command {
                cc::POLICY_NV => [&sized(&[0; 8])[..], &[0; 4]].concat(),
                _ => Vec::new(),
            };
            let entities = [by.clone(), index, session];
            bench.send(command, &entities, &[auth], &parameters).code
        }
        _ => {
            let entities = [by.clone(), index];
            bench.send(command, &entities, &[auth], &parameters).code
        }
    }
}

/// NV_ChangeAuth, NV_Write, NV_Read or NV_Certify in a policy session.
fn in_session(live: &Live, command: u32, object: Object, session: &Session) -> u32 {
    let auth = Auth::Session(session, &[]);
    let own = live.entity(object);
    match command {
        cc::NV_CHANGE_AUTH => {
            live.bench
                .send(command, &[own], &[auth], &sized(&WRONG))
                .code
        }
        _ => send(live, command, object, &own, auth),
    }
}

/// Under an approval, whose secret is not given.
fn under(live: &Live, object: Object, id: ApprovalId) -> u32 {
    let (_, command) = id.policy();
    let session = live.bench.policy_session();
    live.bench.policy_command_code(&session, command);
    live.authorize(&session, id);
    let code = in_session(live, command, object, &session);
    live.bench.flush(session.handle);
    code
}

fn approved() -> Vec<Row> {
    let without = "under each approval in the card file, without its secret";
    let open = "under the approval that asks for no secret (public by design)";
    let one = |name: &'static str, id: ApprovalId| {
        move |live: &mut Live, object: Object| [(name, under(live, object, id))]
    };
    let mut rows = vec![
        row(cc::NV_CHANGE_AUTH, Knowledge::CardFile, without)
            .on(&[PinIndex], [("P3", 0x99D), ("P5", 0x99D)])
            .by(|live, object| {
                [
                    ("P3", under(live, object, ApprovalId::P3)),
                    ("P5", under(live, object, ApprovalId::P5)),
                ]
            }),
        row(cc::NV_CHANGE_AUTH, Knowledge::CardFile, without)
            .on(&[AdmIndex], [("A0", 0x99D)])
            .by(one("A0", ApprovalId::A0)),
        row(cc::NV_CHANGE_AUTH, Knowledge::CardFile, without)
            .on(&[PukIndex], [("U3", 0x99D)])
            .by(one("U3", ApprovalId::U3)),
        row(cc::NV_WRITE, Knowledge::CardFile, without)
            .on(&[PinIndex], [("P4", 0x99D)])
            .by(one("P4", ApprovalId::P4)),
        row(cc::NV_READ, Knowledge::CardFile, open)
            .on(&[PinIndex], [("P6", 0)])
            .where_the_owner_reads(&[], 0)
            .by(one("P6", ApprovalId::P6)),
        row(cc::NV_READ, Knowledge::CardFile, open)
            .on(&[AdmIndex], [("A1", 0)])
            .where_the_owner_reads(&[], 0)
            .by(one("A1", ApprovalId::A1)),
        row(cc::NV_READ, Knowledge::CardFile, open)
            .on(&[PukIndex], [("U6", 0)])
            .where_the_owner_reads(&[], 0)
            .by(one("U6", ApprovalId::U6)),
        row(cc::NV_CERTIFY, Knowledge::CardFile, open)
            .on(&[PinIndex], [("P7", 0)])
            .where_the_owner_reads(&[], 0)
            .by(certified),
        row(
            cc::NV_CHANGE_AUTH,
            Knowledge::Device,
            "authorised by an incorrect value",
        )
        .on(INDICES, 0x124)
        .by(|live, object| {
            let own = [live.entity(object)];
            let auth = [Auth::Password(&WRONG)];
            live.bench
                .send(cc::NV_CHANGE_AUTH, &own, &auth, &sized(&WRONG))
                .code
        }),
    ];
    for command in [cc::NV_CHANGE_AUTH, cc::NV_WRITE] {
        let tried = "in a policy session for this command";
        rows.push(
            row(command, Knowledge::Device, tried)
                .on(INDICES, 0x99D)
                .by(move |live, object| {
                    let session = live.bench.policy_session();
                    live.bench.policy_command_code(&session, command);
                    in_session(live, command, object, &session)
                }),
        );
    }
    rows
}

/// A statement about the counter by a key of the attacker's.
fn certified(live: &mut Live, object: Object) -> [(&'static str, u32); 1] {
    let session = live.bench.policy_session();
    live.bench.policy_command_code(&session, cc::NV_CERTIFY);
    live.authorize(&session, ApprovalId::P7);
    let own = live.entity(object);
    let auth = Auth::Session(&session, &[]);
    [("P7", send(live, cc::NV_CERTIFY, object, &own, auth))]
}

/// The indices as authorities of policies and sessions.
fn authorities() -> Vec<Row> {
    vec![
        row(
            cc::POLICY_SECRET,
            Knowledge::Device,
            "give an incorrect value",
        )
        .on(INDICES, 0x9A2)
        .then(After::Tried)
        .by(|live, object| {
            let session = live.bench.policy_session();
            let auth = Auth::Password(&WRONG);
            let index = live.entity(object);
            live.bench.policy_secret(&index, auth, &session, b"sess")
        }),
        row(
            cc::POLICY_TICKET,
            Knowledge::Device,
            "present a ticket issued by the owner as the index's",
        )
        .on(INDICES, 0x5E0)
        .by(|live, object| {
            let session = live.bench.policy_session();
            let ticket = owners_ticket(live);
            let index = live.entity(object);
            live.bench
                .policy_ticket(&session, &ticket, b"sess", index.name())
        }),
        row(
            cc::START_AUTH_SESSION,
            Knowledge::Device,
            "bind a session to it, to test values without counting",
        )
        .on(INDICES, 0x28B)
        .by(|live, object| {
            let none = Entity::plain(NULL);
            let index = live.entity(object);
            live.bench
                .start_session(SessionKind::Hmac, &none, &[], &index)
                .code
        }),
        row(
            cc::POLICY_AUTHORIZE,
            Knowledge::CardFile,
            "use an approval without its secret, or that of another index",
        )
        .on(
            &[PinIndex],
            [("P3", 0x1C4), ("P5", 0x1C4), ("A1 as P6", 0x4C4)],
        )
        .where_the_owner_reads(&[PinIndex], [("P3", 0x1C4), ("P5", 0x1C4)])
        .by(|live, _| {
            let mut seen = Seen::from([
                ("P3", alone(live, ApprovalId::P3, ApprovalId::P3)),
                ("P5", alone(live, ApprovalId::P5, ApprovalId::P5)),
            ]);
            if live.record.tpm.mode == CounterMode::Nv {
                let code = alone(live, ApprovalId::A1, ApprovalId::P6);
                seen.0.push(("A1 as P6", Answered::Code(code)));
            }
            seen
        }),
        row(
            cc::POLICY_AUTHORIZE,
            Knowledge::CardFile,
            "use an approval without its secret",
        )
        .on(&[AdmIndex], [("A0", 0x1C4)])
        .by(|live, _| [("A0", alone(live, ApprovalId::A0, ApprovalId::A0))]),
        row(
            cc::POLICY_AUTHORIZE,
            Knowledge::CardFile,
            "use an approval without its secret",
        )
        .on(&[PukIndex], [("U3", 0x1C4)])
        .by(|live, _| [("U3", alone(live, ApprovalId::U3, ApprovalId::U3))]),
    ]
}

fn owners_ticket(live: &Live) -> Ticket {
    let session = live.bench.policy_session();
    let owner = Entity::plain(OWNER);
    live.bench
        .policy_secret_ticket(&owner, EMPTY, &session, b"sess", 1000)
}

/// PolicyAuthorize with the digest and ticket of one approval and the policyRef of another.
fn alone(live: &Live, id: ApprovalId, as_if: ApprovalId) -> u32 {
    let session = live.bench.policy_session();
    let (_, command) = id.policy();
    live.bench.policy_command_code(&session, command);
    let mut approvals = live.record.tpm.approvals.iter();
    let approval = approvals.find(|found| found.id == id.as_str()).unwrap();
    let code = live.bench.policy_authorize(
        &session,
        &approval.digest,
        cardea_tpm::policy::role_ref(as_if.role()),
        &name_of(&live.record.tpm.birth_public),
        &approval.ticket,
    );
    live.bench.flush(session.handle);
    code
}

/// The definitions of the indices.
fn definitions() -> Vec<Row> {
    let mut rows = vec![
        row(
            cc::NV_READ_PUBLIC,
            Knowledge::Device,
            "read its public part (public by design)",
        )
        .on(INDICES, 0)
        .by(|live, object| {
            let index = [live.entity(object)];
            live.bench.send(cc::NV_READ_PUBLIC, &index, &[], &[]).code
        }),
        row(
            cc::NV_UNDEFINE_SPACE_SPECIAL,
            Knowledge::Platform,
            "delete it in a policy session for this command",
        )
        .on(INDICES, 0x99D)
        .by(|live, object| {
            let session = live.bench.policy_session();
            live.bench
                .policy_command_code(&session, cc::NV_UNDEFINE_SPACE_SPECIAL);
            let entities = [live.entity(object), Entity::plain(PLATFORM)];
            let auths = [Auth::Session(&session, &[]), EMPTY];
            live.bench
                .send(cc::NV_UNDEFINE_SPACE_SPECIAL, &entities, &auths, &[])
                .code
        }),
    ];
    for by in [Owner, Platform] {
        let define = row(
            cc::NV_DEFINE_SPACE,
            by.knowledge(),
            "define an index at the same handle",
        );
        rows.push(
            define
                .on(INDICES, 0x14C)
                .by(move |live, object| define_again(live, by, object, NV_DEFINED)),
        );
        rows.push(global_lock(by));
    }
    rows
}

fn role(object: Object) -> IndexRole {
    match object {
        AdmIndex => IndexRole::Adm,
        PukIndex => IndexRole::Puk,
        _ => IndexRole::Pin,
    }
}

/// NV_DefineSpace of an index like the card's, with a value of the attacker's.
pub(super) fn define_again(live: &Live, by: Object, object: Object, attributes: u32) -> u32 {
    const PLATFORMCREATE: u32 = 0x4000_0000;
    let attributes = match by {
        Platform => attributes | PLATFORMCREATE,
        _ => attributes,
    };
    let role = role(object);
    let handle = index(&live.record, role).handle;
    let birth = name_of(&live.record.tpm.birth_public);
    let public = nv_public(handle, attributes, &index_policy(&birth, role));
    let parameters = [sized(&WRONG), sized(&public)].concat();
    let by = [live.entity(by)];
    live.bench
        .send(cc::NV_DEFINE_SPACE, &by, &[EMPTY], &parameters)
        .code
}

fn global_lock(by: Object) -> Row {
    row(
        cc::NV_GLOBAL_WRITE_LOCK,
        by.knowledge(),
        "lock all indices that allow it; a wrong PIN still counts",
    )
    .on(&[by], [("", 0), ("wrong PIN", 0x9A2)])
    .then(After::Tried)
    .by(|live, by| {
        let entity = [live.entity(by)];
        let answer = live
            .bench
            .send(cc::NV_GLOBAL_WRITE_LOCK, &entity, &[EMPTY], &[]);
        Seen::from([("", answer.code), ("wrong PIN", live.wrong_pin())])
    })
}
