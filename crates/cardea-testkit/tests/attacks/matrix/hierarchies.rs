//! What hierarchies can do to a card and its TPM: each attempt on a TPM of its own, for it stays as it was left.

use cardea_tpm::policy::{NV_DEFINED, NV_WRITTEN, ZERO, command_code};

use super::indices::{define_again, full_tries};
use super::live::Live;
use super::row::Object::{Endorsement, Lockout, Owner, PinIndex, Platform, Srk};
use super::row::{After, INDICES, Knowledge, Object, Row, row};
use crate::bench::OWN_VALUE;
use crate::raw::{Auth, EMPTY, Entity, OWNER, cc, public_area, sized};

/// The handle that stands for the platform's part of NV.
const PLATFORM_NV: u32 = 0x4000_000D;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = switches();
    rows.extend(deletions());
    rows.extend(values());
    rows.extend(lockout());
    rows.extend(root_key());
    rows
}

/// A command that a hierarchy authorises with its empty value.
pub(super) fn by(live: &Live, hierarchy: Object, command: u32, parameters: &[u8]) -> u32 {
    let hierarchy = [live.entity(hierarchy)];
    live.bench
        .send(command, &hierarchy, &[EMPTY], parameters)
        .code
}

/// HierarchyControl.
fn switch(live: &Live, by_whom: Object, what: u32, on: bool) -> u32 {
    let parameters = [&what.to_be_bytes()[..], &[u8::from(on)]].concat();
    by(live, by_whom, cc::HIERARCHY_CONTROL, &parameters)
}

fn switches() -> Vec<Row> {
    vec![
        row(
            cc::HIERARCHY_CONTROL,
            Knowledge::Owner,
            "switch the owner hierarchy off and on again",
        )
        .on(&[Owner], [("off", 0), ("on", 0x185)])
        .then(After::Off)
        .by(|live, _| {
            [
                ("off", switch(live, Owner, OWNER, false)),
                ("on", switch(live, Owner, OWNER, true)),
            ]
        }),
        row(
            cc::HIERARCHY_CONTROL,
            Knowledge::Owner,
            "switch the endorsement hierarchy off",
        )
        .on(&[Endorsement], 0)
        .by(|live, object| switch(live, object, live.entity(object).handle, false)),
        row(
            cc::HIERARCHY_CONTROL,
            Knowledge::Platform,
            "switch off the platform's NV, then the platform",
        )
        .on(&[Platform], [("NV", 0), ("platform", 0)])
        .by(|live, object| {
            [
                ("NV", switch(live, object, PLATFORM_NV, false)),
                (
                    "platform",
                    switch(live, object, live.entity(object).handle, false),
                ),
            ]
        }),
        row(cc::CLEAR, Knowledge::Owner, "clear the TPM")
            .on(&[Lockout], 0)
            .then(After::Lost)
            .by(|live, object| by(live, object, cc::CLEAR, &[])),
        row(cc::CLEAR, Knowledge::Platform, "clear the TPM")
            .on(&[Platform], 0)
            .then(After::Lost)
            .by(|live, object| by(live, object, cc::CLEAR, &[])),
        row(
            cc::CLEAR_CONTROL,
            Knowledge::Owner,
            "disable Clear, try it, enable it again",
        )
        .on(
            &[Lockout],
            [("disable", 0), ("Clear", 0x120), ("enable", 0x8E)],
        )
        .by(clear_control),
        row(
            cc::CLEAR_CONTROL,
            Knowledge::Platform,
            "disable Clear, try it, enable it again",
        )
        .on(
            &[Platform],
            [("disable", 0), ("Clear", 0x120), ("enable", 0)],
        )
        .by(clear_control),
    ]
}

fn clear_control(live: &mut Live, object: Object) -> [(&'static str, u32); 3] {
    [
        ("disable", by(live, object, cc::CLEAR_CONTROL, &[1])),
        ("Clear", by(live, object, cc::CLEAR, &[])),
        ("enable", by(live, object, cc::CLEAR_CONTROL, &[0])),
    ]
}

/// NV_UndefineSpace.
fn undefine(live: &Live, by: Object, object: Object) -> u32 {
    let entities = [live.entity(by), live.entity(object)];
    live.bench
        .send(cc::NV_UNDEFINE_SPACE, &entities, &[EMPTY], &[])
        .code
}

fn deletions() -> Vec<Row> {
    let mut rows = Vec::new();
    for by in [Owner, Platform] {
        let deleted = move |live: &mut Live, object: Object| undefine(live, by, object);
        let of_index = || row(cc::NV_UNDEFINE_SPACE, by.knowledge(), "delete it");
        let (pin, others) = INDICES.split_at(1);
        rows.push(of_index().on(pin, 0).then(After::Lost).by(deleted));
        rows.push(of_index().on(others, 0).then(After::Without).by(deleted));
    }
    let again = "delete it, define it again with a known value, write it for the first time";
    let steps = [
        ("defined as written", 0x2C2),
        ("defined", 0),
        ("NV_Write by value", 0x12F),
        ("by owner", 0x149),
        ("by policy", 0x99D),
    ];
    let (pin, others) = INDICES.split_at(1);
    for (objects, after) in [(pin, After::Lost), (others, After::Without)] {
        rows.push(
            row(cc::NV_DEFINE_SPACE, Knowledge::Owner, again)
                .on(objects, steps)
                .then(after)
                .by(made_again),
        );
    }
    rows
}

fn made_again(live: &mut Live, object: Object) -> [(&'static str, u32); 5] {
    let bench = &live.bench;
    assert_eq!(undefine(live, Owner, object), 0, "it can be deleted");
    let as_written = define_again(live, Owner, object, NV_WRITTEN);
    let defined = define_again(live, Owner, object, NV_DEFINED);
    // Not yet written, it has another Name.
    let handle = live.entity(object).handle;
    let answer = bench.send(cc::NV_READ_PUBLIC, &[Entity::plain(handle)], &[], &[]);
    let public = crate::raw::Reader(&answer.body).sized();
    let index = Entity::named(handle, &cardea_tpm::policy::name_of(public));
    let write = |by: &Entity, auth: Auth<'_>| {
        let entities = [by.clone(), index.clone()];
        let tries = full_tries();
        bench.send(cc::NV_WRITE, &entities, &[auth], &tries).code
    };
    let session = bench.policy_session();
    bench.policy_command_code(&session, cc::NV_WRITE);
    [
        ("defined as written", as_written),
        ("defined", defined),
        (
            "NV_Write by value",
            write(&index, Auth::Password(&super::indices::WRONG)),
        ),
        ("by owner", write(&Entity::plain(OWNER), EMPTY)),
        ("by policy", write(&index, Auth::Session(&session, &[]))),
    ]
}

fn values() -> Vec<Row> {
    let mut rows = Vec::new();
    for hierarchies in [&[Owner, Endorsement, Lockout][..], &[Platform]] {
        let knowledge = hierarchies[0].knowledge();
        rows.push(
            row(
                cc::HIERARCHY_CHANGE_AUTH,
                knowledge,
                "set a value: cards are used as before, creating one needs that value",
            )
            .on(hierarchies, 0)
            .by(|live, object| by(live, object, cc::HIERARCHY_CHANGE_AUTH, &sized(OWN_VALUE))),
        );
        rows.push(
            row(
                cc::SET_PRIMARY_POLICY,
                knowledge,
                "set a policy, then change an unknown value by it",
            )
            .on(hierarchies, [("", 0), ("HierarchyChangeAuth", 0)])
            .by(by_own_policy),
        );
    }
    rows
}

/// A policy that allows HierarchyChangeAuth to everybody.
fn by_own_policy(live: &mut Live, object: Object) -> [(&'static str, u32); 2] {
    let policy = command_code(&ZERO, cc::HIERARCHY_CHANGE_AUTH);
    let parameters = [&sized(&policy)[..], &[0, 0x0B]].concat();
    let set = by(live, object, cc::SET_PRIMARY_POLICY, &parameters);
    by(live, object, cc::HIERARCHY_CHANGE_AUTH, &sized(b"owner's"));
    let session = live.bench.policy_session();
    live.bench
        .policy_command_code(&session, cc::HIERARCHY_CHANGE_AUTH);
    let hierarchy = [live.entity(object)];
    let auth = [Auth::Session(&session, &[])];
    let changed = live.bench.send(
        cc::HIERARCHY_CHANGE_AUTH,
        &hierarchy,
        &auth,
        &sized(OWN_VALUE),
    );
    [("", set), ("HierarchyChangeAuth", changed.code)]
}

fn lockout() -> Vec<Row> {
    vec![
        row(
            cc::LOCK_RESET,
            Knowledge::Owner,
            "reset the lockout after a wrong PIN, which stays counted",
        )
        .on(&[Lockout], [("wrong PIN", 0x9A2), ("", 0)])
        .then(After::Tried)
        .by(|live, object| {
            [
                ("wrong PIN", live.wrong_pin()),
                ("", by(live, object, cc::LOCK_RESET, &[])),
            ]
        }),
        row(
            cc::LOCK_RESET,
            Knowledge::Device,
            "give an incorrect value, which shuts the hierarchy",
        )
        .on(&[Lockout], [("incorrect", 0x98E), ("correct", 0x921)])
        .by(|live, object| {
            let lockout = [live.entity(object)];
            let wrong = [Auth::Password(b"wrong")];
            let answer = live.bench.send(cc::LOCK_RESET, &lockout, &wrong, &[]);
            [
                ("incorrect", answer.code),
                ("correct", by(live, object, cc::LOCK_RESET, &[])),
            ]
        }),
        row(
            cc::LOCK_PARAMETERS,
            Knowledge::Owner,
            "lock out after one failure: cards are exempt, a wrong PIN costs one try as before",
        )
        .on(&[Lockout], [("", 0), ("wrong PIN", 0x9A2)])
        .then(After::Tried)
        .by(|live, object| {
            let parameters = [1, 10_000, 1000].map(u32::to_be_bytes).concat();
            [
                ("", by(live, object, cc::LOCK_PARAMETERS, &parameters)),
                ("wrong PIN", live.wrong_pin()),
            ]
        }),
    ]
}

fn root_key() -> Vec<Row> {
    let evict = |live: &Live, object: &Entity, handle: u32| {
        let entities = [Entity::plain(OWNER), object.clone()];
        live.bench
            .send(
                cc::EVICT_CONTROL,
                &entities,
                &[EMPTY],
                &handle.to_be_bytes(),
            )
            .code
    };
    vec![
        row(
            cc::EVICT_CONTROL,
            Knowledge::Owner,
            "remove it: the daemon creates it again",
        )
        .on(&[Srk], 0)
        .by(move |live, object| {
            let root = live.entity(object);
            evict(live, &root, root.handle)
        }),
        row(
            cc::EVICT_CONTROL,
            Knowledge::Owner,
            "remove it and put the attacker's own storage key in its place: the card does not use that",
        )
        .on(&[Srk], [("remove", 0), ("replace", 0)])
        .by(move |live, object| {
            let root = live.entity(object);
            let away = evict(live, &root, root.handle);
            // Another unique field makes another key.
            let rest = [6, 128, 0x43, 0x10, 3, 0x10];
            let mut area = public_area(0x23, 0x0003_0472, &[], &rest);
            area.extend([sized(&[7; 32]), sized(&[7; 32])].concat());
            let own = live.bench.primary_in(OWNER, &[], &[], &area);
            let own = own.expect("a storage key");
            [("remove", away), ("replace", evict(live, &own, root.handle))]
        }),
        row(
            cc::EVICT_CONTROL,
            Knowledge::Platform,
            "remove it: the daemon creates it again",
        )
        .on(&[Srk], 0)
        .by(move |live, object| {
            let root = live.entity(object);
            let entities = [live.entity(Platform), root.clone()];
            live.bench
                .send(
                    cc::EVICT_CONTROL,
                    &entities,
                    &[EMPTY],
                    &root.handle.to_be_bytes(),
                )
                .code
        }),
        row(
            cc::NV_UNDEFINE_SPACE_SPECIAL,
            Knowledge::Owner,
            "delete it with the owner's authorisation instead of the platform's",
        )
        .on(&[PinIndex], 0x284)
        .by(|live, object| {
            let session = live.bench.policy_session();
            let entities = [live.entity(object), live.entity(Owner)];
            let auths = [Auth::Session(&session, &[]), EMPTY];
            live.bench
                .send(cc::NV_UNDEFINE_SPACE_SPECIAL, &entities, &auths, &[])
                .code
        }),
    ]
}
