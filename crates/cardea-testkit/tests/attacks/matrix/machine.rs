//! Commands that take no object of a card: the machine's clock, PCRs, self-tests, sequences of the attacker's own.

use super::hierarchies::by;
use super::live::Live;
use super::row::Object::{Endorsement, Nothing, Null, Owner, Platform};
use super::row::{Knowledge, Object, Row, row};
use crate::raw::{Answer, EMPTY, Entity, cc, ecc_signing_area, no_pcrs, sensitive, sized};

/// The debug PCR, which anybody may extend and reset.
const PCR: u32 = 16;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        simple(cc::GET_RANDOM, "read random bytes", vec![0, 16], 0),
        simple(
            cc::STIR_RANDOM,
            "add to the state of the random number generator",
            sized(&[7; 16]),
            0,
        ),
        simple(cc::SELF_TEST, "run a self-test", vec![1], 0),
        simple(
            cc::INCREMENTAL_SELF_TEST,
            "run a self-test",
            vec![0, 0, 0, 1, 0, 0x0B],
            0,
        ),
        simple(
            cc::GET_TEST_RESULT,
            "read the result of the self-test",
            vec![],
            0,
        ),
        simple(cc::STARTUP, "start a running TPM", vec![0, 0], 0x100),
        simple(
            cc::SHUTDOWN,
            "save the state for a restart (see \"A captured PIN\")",
            vec![0, 1],
            0,
        ),
        simple(
            cc::HASH,
            "hash with a ticket (card keys need none)",
            [&sized(&[7; 16])[..], &[0, 0x0B, 0x40, 0, 0, 1]].concat(),
            0,
        ),
        simple(cc::READ_CLOCK, "read the clock", vec![], 0),
        simple(
            cc::TEST_PARMS,
            "test key parameters",
            vec![0, 0x23, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10],
            0,
        ),
        simple(cc::ECC_PARAMETERS, "read curve parameters", vec![0, 3], 0),
        simple(cc::EC_EPHEMERAL, "create an ephemeral key", vec![0, 3], 0),
        simple(
            cc::GET_CAPABILITY,
            "list handles (public by design)",
            [1, 0x0100_0000, 64].map(u32::to_be_bytes).concat(),
            0,
        ),
        simple(
            cc::PCR_READ,
            "read PCRs",
            vec![0, 0, 0, 1, 0, 0x0B, 3, 1, 0, 0],
            0,
        ),
    ];
    rows.extend(pcrs());
    rows.extend(sequences());
    rows.extend(of_hierarchies());
    rows
}

fn simple(command: u32, tried: &'static str, parameters: Vec<u8>, expected: u32) -> Row {
    row(command, Knowledge::Device, tried)
        .on(&[Nothing], expected)
        .by(move |live, _| live.bench.send(command, &[], &[], &parameters).code)
}

fn pcrs() -> Vec<Row> {
    let on_pcr = |command: u32, tried, parameters: Vec<u8>| {
        let tried: &'static str = tried;
        row(command, Knowledge::Device, tried)
            .on(&[Nothing], 0)
            .by(move |live, _| {
                let pcr = [Entity::plain(PCR)];
                live.bench.send(command, &pcr, &[EMPTY], &parameters).code
            })
    };
    let digest = [&[0, 0, 0, 1, 0, 0x0B][..], &[7; 32]].concat();
    vec![
        on_pcr(
            cc::PCR_EXTEND,
            "extend a PCR (no card policy names one)",
            digest,
        ),
        on_pcr(
            cc::PCR_EVENT,
            "extend a PCR (no card policy names one)",
            sized(&[7; 16]),
        ),
        on_pcr(
            cc::PCR_RESET,
            "reset a PCR (no card policy names one)",
            vec![],
        ),
        row(
            cc::PCR_SET_AUTH_VALUE,
            Knowledge::Device,
            "set the value of a PCR",
        )
        .on(&[Nothing], 0)
        .by(|live, _| {
            let pcr = [Entity::plain(20)];
            live.bench
                .send(cc::PCR_SET_AUTH_VALUE, &pcr, &[EMPTY], &sized(&[]))
                .code
        }),
    ]
}

/// Starts a sequence with an empty value.
fn sequence(live: &Live, hash: u16) -> Entity {
    let parameters = [&[0, 0][..], &hash.to_be_bytes()].concat();
    let answer: Answer = live
        .bench
        .send(cc::HASH_SEQUENCE_START, &[], &[], &parameters);
    // Sequences have no Name.
    Entity::named(answer.handle(), &[])
}

fn sequences() -> Vec<Row> {
    vec![
        row(
            cc::HASH_SEQUENCE_START,
            Knowledge::Device,
            "start a sequence (takes a slot)",
        )
        .on(&[Nothing], 0)
        .by(|live, _| {
            let parameters = [0, 0, 0, 0x0B];
            live.bench
                .send(cc::HASH_SEQUENCE_START, &[], &[], &parameters)
                .code
        }),
        row(
            cc::SEQUENCE_UPDATE,
            Knowledge::Device,
            "update the attacker's own sequence",
        )
        .on(&[Nothing], 0)
        .by(|live, _| {
            let own = [sequence(live, 0x0B)];
            live.bench
                .send(cc::SEQUENCE_UPDATE, &own, &[EMPTY], &sized(&[7; 16]))
                .code
        }),
        row(
            cc::SEQUENCE_COMPLETE,
            Knowledge::Device,
            "complete the attacker's own sequence",
        )
        .on(&[Nothing], 0)
        .by(|live, _| {
            let own = [sequence(live, 0x0B)];
            let parameters = [&sized(&[7; 16])[..], &[0x40, 0, 0, 1]].concat();
            live.bench
                .send(cc::SEQUENCE_COMPLETE, &own, &[EMPTY], &parameters)
                .code
        }),
        row(
            cc::EVENT_SEQUENCE_COMPLETE,
            Knowledge::Device,
            "complete the attacker's own sequence into a PCR",
        )
        .on(&[Nothing], 0)
        .by(|live, _| {
            let own = [Entity::plain(PCR), sequence(live, 0x10)];
            let auths = [EMPTY, EMPTY];
            live.bench
                .send(cc::EVENT_SEQUENCE_COMPLETE, &own, &auths, &sized(&[7; 16]))
                .code
        }),
    ]
}

fn of_hierarchies() -> Vec<Row> {
    let platform = |command: u32, tried, parameters: Vec<u8>, expected: u32| {
        let tried: &'static str = tried;
        row(command, Knowledge::Platform, tried)
            .on(&[Platform], expected)
            .by(move |live, object| by(live, object, command, &parameters))
    };
    let mut rows = vec![
        platform(cc::CHANGE_EPS, "replace the endorsement seed", vec![], 0),
        platform(cc::CHANGE_PPS, "replace the platform seed", vec![], 0),
        platform(
            cc::PCR_ALLOCATE,
            "allocate the PCR banks as they are",
            vec![0, 0, 0, 1, 0, 0x0B, 3, 0xFF, 0xFF, 0xFF],
            0,
        ),
        platform(
            cc::PCR_SET_AUTH_POLICY,
            "set the policy of a PCR",
            vec![0, 0, 0, 0x10, 0, 0, 0, 20],
            0,
        ),
        platform(
            cc::PP_COMMANDS,
            "make commands require physical presence (requires it itself)",
            vec![0; 8],
            0x990,
        ),
        platform(
            cc::SET_ALGORITHM_SET,
            "select an algorithm set",
            vec![0; 4],
            0,
        ),
    ];
    rows.extend(clock_and_audit());
    rows.extend(primaries());
    rows
}

fn clock_and_audit() -> Vec<Row> {
    let mut rows = Vec::new();
    for hierarchy in [Owner, Platform] {
        rows.push(clock_set(hierarchy));
        rows.push(
            row(
                cc::CLOCK_RATE_ADJUST,
                hierarchy.knowledge(),
                "slow the clock down, speed it up (tickets live longer by the difference)",
            )
            .on(&[hierarchy], [("slower", 0), ("faster", 0)])
            .by(|live, object| {
                [
                    ("slower", by(live, object, cc::CLOCK_RATE_ADJUST, &[0xFD])),
                    ("faster", by(live, object, cc::CLOCK_RATE_ADJUST, &[3])),
                ]
            }),
        );
        rows.push(
            row(
                cc::SET_COMMAND_CODE_AUDIT_STATUS,
                hierarchy.knowledge(),
                "audit a command",
            )
            .on(&[hierarchy], 0)
            .by(|live, object| {
                let sign = [&[0, 0x10, 0, 0, 0, 1][..], &cc::SIGN.to_be_bytes(), &[0; 4]];
                by(
                    live,
                    object,
                    cc::SET_COMMAND_CODE_AUDIT_STATUS,
                    &sign.concat(),
                )
            }),
        );
    }
    rows.push(
        row(
            cc::GET_COMMAND_AUDIT_DIGEST,
            Knowledge::Owner,
            "read the command audit without a signature",
        )
        .on(&[Endorsement], 0)
        .by(|live, object| {
            let entities = [live.entity(object), live.entity(Null)];
            let auths = [EMPTY, EMPTY];
            live.bench
                .send(
                    cc::GET_COMMAND_AUDIT_DIGEST,
                    &entities,
                    &auths,
                    &[0, 0, 0, 0x10],
                )
                .code
        }),
    );
    rows
}

fn primaries() -> Vec<Row> {
    let of_hierarchy = |hierarchy: Object| {
        row(
            cc::CREATE_PRIMARY,
            hierarchy.knowledge(),
            "create the attacker's own key",
        )
        .on(&[hierarchy], 0)
        .by(|live, object| {
            let area = sized(&ecc_signing_area(0x0004_0472));
            let parameters = [&sensitive(&[], &[])[..], &area, &no_pcrs()].concat();
            by(live, object, cc::CREATE_PRIMARY, &parameters)
        })
    };
    [Owner, Endorsement, Platform, Null]
        .map(of_hierarchy)
        .into()
}

fn clock_set(hierarchy: Object) -> Row {
    row(
        cc::CLOCK_SET,
        hierarchy.knowledge(),
        "set the clock an hour ahead, and back",
    )
    .on(&[hierarchy], [("ahead", 0), ("back", 0x1C4)])
    .by(|live, object| {
        let now = live.bench.send(cc::READ_CLOCK, &[], &[], &[]);
        let clock = u64::from_be_bytes(now.body[8..16].try_into().unwrap());
        let set = |clock: u64| by(live, object, cc::CLOCK_SET, &clock.to_be_bytes());
        [("ahead", set(clock + 3_600_000)), ("back", set(clock))]
    })
}
