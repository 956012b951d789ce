//! Any sequence of commands: no panic, answers of the right size, a record that opens again.

use cardea_card::record::CardRecord;
use cardea_testkit::suite::SoftwareCard;
use cardea_testkit::transcript::CardKind;
use proptest::collection::vec;
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Apdu(usize, Vec<u8>),
    Reset(usize),
    SaveFails(bool),
}

/// Commands of the card edge that mean something, to be sent as they are or mutated.
fn meaningful() -> impl Strategy<Value = Vec<u8>> {
    let reference = prop_oneof![Just(0x80u8), Just(0x81), Just(0x82), any::<u8>()];
    let file = prop_oneof![
        Just(0xA000u16),
        Just(0xA010),
        Just(0xA012),
        Just(0xA020),
        Just(0xB080),
        Just(0xB081),
        Just(0xB082),
        Just(0x3FFF),
        Just(0x0000),
        any::<u16>()
    ];
    let size = prop_oneof![Just(0x0Cu8), Just(0x0D), Just(0x07), any::<u8>()];
    let tag = prop_oneof![
        Just(vec![0xDFu8, 0x20]),
        Just(vec![0xDF, 0x22]),
        Just(vec![0xDF, 0x24]),
        Just(vec![0x7F, 0x71]),
        Just(vec![0x50]),
        vec(any::<u8>(), 1..4)
    ];
    let short = |ins: u8, p1: u8, p2: u8, data: Vec<u8>| {
        let mut command = vec![0x00, ins, p1, p2];
        if !data.is_empty() {
            command.push(u8::try_from(data.len()).unwrap());
            command.extend(data);
        }
        command
    };
    let pin = prop_oneof![
        4 => Just(b"123456".to_vec()),
        1 => Just(b"1234567".to_vec()),
        1 => vec(any::<u8>(), 0..130),
    ];
    prop_oneof![
        (pin.clone(), reference.clone()).prop_map(move |(pin, r)| short(0x20, 0, r, pin)),
        (pin.clone(), pin).prop_map(move |(old, new)| {
            let joined = [old, new].concat();
            short(0x24, 0, 0x80, joined.into_iter().take(255).collect())
        }),
        (file.clone(), tag.clone()).prop_map(move |(file, tag)| {
            let [high, low] = file.to_be_bytes();
            let mut data = vec![0x5C, u8::try_from(tag.len()).unwrap()];
            data.extend(tag);
            let mut command = short(0xCB, high, low, data);
            command.push(0);
            command
        }),
        (file.clone(), tag, vec(any::<u8>(), 0..60)).prop_map(move |(file, tag, value)| {
            let [high, low] = file.to_be_bytes();
            let mut data = tag;
            data.push(u8::try_from(value.len()).unwrap());
            data.extend(value);
            short(0xDB, high, low, data)
        }),
        file.clone()
            .prop_map(move |file| short(0xA4, 0, 0x0C, file.to_be_bytes().to_vec())),
        Just(vec![
            0x00, 0xA4, 0x04, 0x00, 0x05, 0xA0, 0x00, 0x00, 0x03, 0x97
        ]),
        (file.clone(), size.clone()).prop_map(move |(file, size)| {
            let [high, low] = file.to_be_bytes();
            short(
                0xE0,
                0,
                0,
                vec![
                    0x62,
                    0x1B,
                    0x82,
                    0x01,
                    0x18,
                    0x83,
                    0x02,
                    high,
                    low,
                    0x8C,
                    0x05,
                    0x8F,
                    0x10,
                    0x10,
                    0x10,
                    0x00,
                    0xA5,
                    0x0B,
                    0xB6,
                    0x09,
                    0x80,
                    0x01,
                    0x10 | size,
                    0x83,
                    0x01,
                    low,
                    0x95,
                    0x01,
                    0x40,
                ],
            )
        }),
        (file, any::<[u8; 2]>()).prop_map(move |(file, rules)| {
            let [high, low] = file.to_be_bytes();
            short(
                0xE0,
                0,
                0,
                vec![
                    0x62, 0x0C, 0x82, 0x01, 0x39, 0x83, 0x02, high, low, 0x8C, 0x03, 0x03,
                    rules[0], rules[1],
                ],
            )
        }),
        Just(vec![0x00, 0x44, 0x00, 0x00]),
        Just(vec![0x00, 0xE4, 0x00, 0x00]),
        (reference.clone(), size.clone()).prop_map(move |(r, size)| {
            short(
                0x47,
                0,
                0,
                vec![0xAC, 0x06, 0x80, 0x01, size, 0x83, 0x01, r],
            )
        }),
        (reference, size, any::<bool>()).prop_map(move |(r, size, sign)| {
            let (p2, high) = if sign { (0xB6, 0x10) } else { (0xB8, 0x40) };
            short(0x22, 0x41, p2, vec![0x80, 0x01, high | size, 0x84, 0x01, r])
        }),
        vec(any::<u8>(), 0..70).prop_map(move |data| short(0x2A, 0x9E, 0x9A, data)),
        vec(any::<u8>(), 0..255).prop_map(move |data| short(0x2A, 0x80, 0x86, data)),
        any::<u8>().prop_map(|le| vec![0x00, 0xC0, 0x00, 0x00, le]),
    ]
}

fn apdu() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (meaningful(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut command, index, byte)| {
            let position = index.index(command.len());
            command[position] = byte;
            command
        },
    );
    let chained = meaningful().prop_map(|mut command| {
        command[0] = 0x10;
        command
    });
    let with_le = meaningful().prop_map(|mut command| {
        command.push(0);
        command
    });
    prop_oneof![
        8 => meaningful(),
        2 => with_le,
        2 => chained,
        2 => mutated,
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (0..2usize, apdu()).prop_map(|(connection, apdu)| Step::Apdu(connection, apdu)),
        1 => (0..2usize).prop_map(Step::Reset),
        1 => any::<bool>().prop_map(Step::SaveFails),
    ]
}

/// Short commands get short answers; with an extended Le there may be more.
fn is_extended(apdu: &[u8]) -> bool {
    apdu.len() > 6 && apdu[4] == 0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn card_stays_well_formed(steps in vec(step(), 1..60)) {
        let (mut card, parts) = SoftwareCard::new(CardKind::Created);
        let mut connections = [card.connect(), card.connect()];
        // Half of the sequences begin with rights, or most would only be refused.
        if steps.len() % 2 == 0 {
            card.transmit(&mut connections[0], b"\x00\x20\x00\x80\x06123456");
        }
        for step in steps {
            match step {
                Step::Apdu(connection, apdu) => {
                    let response = card.transmit(&mut connections[connection], &apdu);
                    prop_assert!(response.len() >= 2);
                    prop_assert!(response.len() <= 258 || is_extended(&apdu));
                    let status = u16::from_be_bytes([
                        response[response.len() - 2],
                        response[response.len() - 1],
                    ]);
                    prop_assert!(
                        matches!(status >> 8, 0x61..=0x6F | 0x90),
                        "{status:04X}"
                    );
                }
                Step::Reset(connection) => card.reset(&mut connections[connection]),
                Step::SaveFails(fails) => parts.store.fail_after(fails.then_some(0)),
            }
            // What is in memory is what is on file, whatever failed.
            if let Some(saved) = parts.store.record() {
                prop_assert_eq!(&saved, card.record());
            }
        }
        let bytes = minicbor::to_vec(card.record()).unwrap();
        let record: CardRecord = minicbor::decode(&bytes).unwrap();
        prop_assert_eq!(&record, card.record());
        prop_assert!(parts.open(record).is_ok());
    }

    #[test]
    fn any_bytes_are_answered(apdus in vec(vec(any::<u8>(), 0..300), 1..20)) {
        let (mut card, _parts) = SoftwareCard::new(CardKind::WithPuk);
        let mut connection = card.connect();
        for apdu in apdus {
            prop_assert!(card.transmit(&mut connection, &apdu).len() >= 2);
        }
    }
}
