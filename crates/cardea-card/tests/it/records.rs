//! Records that are opened again, and records that are refused.

use cardea_card::record::{CardRecord, DataObject, FileRecord, KeyRecord, ObjectBlob, Provisional};
use cardea_card::secret::Pin;
use cardea_card::token::PinReference;
use cardea_card::{Card, CardError};
use cardea_testkit::suite::SoftwareCard;
use cardea_testkit::transcript::{CardKind, PIN};

use crate::{CHOOSE, GET, PUBLIC_KEY, PUT, QUERY, SIGN, VERIFY, send, with_key};

#[test]
fn reopened_card_has_everything_but_the_verification() {
    let (mut card, mut connection, parts) = with_key();
    assert_eq!(send(&mut card, &mut connection, PUT), "9000");
    let public = send(&mut card, &mut connection, PUBLIC_KEY);
    let bytes = minicbor::to_vec(card.record()).unwrap();
    let record: CardRecord = minicbor::decode(&bytes).unwrap();
    assert_eq!(record, *card.record());
    drop(card);

    let mut card = parts.open(record).unwrap();
    // A connection of the card before has no rights in this one.
    assert_eq!(send(&mut card, &mut connection, QUERY), "63C5");
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, GET), "DF2402ABCD9000");
    assert_eq!(send(&mut card, &mut connection, PUBLIC_KEY), public);
    assert_eq!(send(&mut card, &mut connection, CHOOSE), "6982");
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    assert_eq!(send(&mut card, &mut connection, CHOOSE), "9000");
    assert!(send(&mut card, &mut connection, SIGN).ends_with("9000"));
}

#[test]
fn key_of_another_token_is_lost() {
    let (card, _connection, _parts) = with_key();
    let foreign =
        cardea_testkit::software::SoftwareToken::new(Pin::new(b"123456").unwrap(), None, 99);
    let (_, mut parts) = SoftwareCard::new(CardKind::Created);
    parts.token = foreign;
    let mut card = parts.open(card.record().clone()).unwrap();
    let mut connection = card.connect();
    assert_eq!(send(&mut card, &mut connection, VERIFY), "9000");
    assert_eq!(send(&mut card, &mut connection, CHOOSE), "9000");
    assert_eq!(send(&mut card, &mut connection, SIGN), "6F00");
}

#[test]
fn pin_change_by_the_engine_moves_cardcf_before_the_token_is_asked() {
    let (mut card, parts) = SoftwareCard::new(CardKind::Created);
    let mut connection = card.connect();
    let cardcf = "00 CB A0 10 04 5C 02 DF 22 00";
    let [old, new] = [PIN, b"654321"].map(|value| Pin::new(value).unwrap());
    let mut change =
        |card: &mut Card, old, new| card.change_pin(&mut connection, PinReference::Pin, old, new);
    change(&mut card, &old, &new).unwrap();
    let mut other = card.connect();
    assert_eq!(
        send(&mut card, &mut other, cardcf),
        "DF22060001000000009000"
    );
    assert_eq!(parts.store.record().as_ref(), Some(card.record()));
    parts.store.fail_after(Some(0));
    assert!(matches!(
        change(&mut card, &new, &old),
        Err(CardError::Store(_))
    ));
    assert_eq!(
        send(&mut card, &mut other, cardcf),
        "DF22060001000000009000"
    );
    assert_eq!(send(&mut card, &mut other, VERIFY), "63C4");
}

#[test]
fn damaged_records_are_refused_with_the_reason() {
    let (card, _connection, parts) = with_key();
    let good = card.record().clone();
    let data_file = |id, life_cycle| FileRecord {
        id,
        descriptor: 0x39,
        life_cycle,
        access: vec![0x03, 0x30, 0x00],
        templates: Vec::new(),
        objects: Vec::new(),
    };
    type Damage = Box<dyn Fn(&mut CardRecord)>;
    let file = |record: &mut CardRecord, id: u16, change: &dyn Fn(&mut FileRecord)| {
        change(record.gids.files.iter_mut().find(|f| f.id == id).unwrap());
    };
    let damages: Vec<(&str, Damage)> = vec![
        ("life cycle", Box::new(|r| r.gids.life_cycle = 0x03)),
        (
            "life cycle",
            Box::new(|r| {
                r.provisional = Some(Provisional {
                    pin: Some([0; 32]),
                    adm: Some([0; 32]),
                    puk: None,
                });
            }),
        ),
        ("lengths", Box::new(|r| r.lengths.pin.clear())),
        ("lengths", Box::new(|r| r.lengths.pin = vec![0])),
        ("lengths", Box::new(|r| r.lengths.pin = vec![6, 7, 8])),
        ("lengths", Box::new(|r| r.lengths.puk = vec![128])),
        (
            "PIN policy",
            Box::new(|r| r.settings.pin_policy = Some([0; 32])),
        ),
        (
            "file A000 is there twice",
            Box::new(move |r| r.gids.files.push(data_file(0xA000, 5))),
        ),
        (
            "file 3FFF: reserved",
            Box::new(move |r| r.gids.files.push(data_file(0x3FFF, 5))),
        ),
        (
            "file B090: the identifier",
            Box::new(move |r| r.gids.files.push(data_file(0xB090, 5))),
        ),
        (
            "file A020: unknown life cycle",
            Box::new(move |r| r.gids.files.push(data_file(0xA020, 4))),
        ),
        (
            "too many files",
            Box::new(move |r| {
                r.gids
                    .files
                    .extend((0xA100..0xA180).map(|id| data_file(id, 5)))
            }),
        ),
        (
            "file A010: unknown descriptor",
            Box::new(move |r| file(r, 0xA010, &|f| f.descriptor = 0x38)),
        ),
        (
            "file A010: malformed access rules",
            Box::new(move |r| file(r, 0xA010, &|f| f.access = vec![0x03, 0x30])),
        ),
        (
            "file A010: templates",
            Box::new(move |r| file(r, 0xA010, &|f| f.templates = vec![0xB6, 0])),
        ),
        (
            "file A010: a data object is there twice",
            Box::new(move |r| {
                file(r, 0xA010, &|f| {
                    let first = f.objects[0].clone();
                    f.objects.push(first);
                });
            }),
        ),
        (
            "file A010: a data object has an impossible tag",
            Box::new(move |r| {
                file(r, 0xA010, &|f| {
                    f.objects.push(DataObject {
                        tag: 0xDF,
                        value: Vec::new(),
                    });
                });
            }),
        ),
        (
            "file A010: a data object is too long",
            Box::new(move |r| file(r, 0xA010, &|f| f.objects[0].value = vec![0; 16385])),
        ),
        (
            "file B081: malformed key file",
            Box::new(move |r| file(r, 0xB081, &|f| f.templates = vec![0xB6, 0])),
        ),
        (
            "file B081: the life cycle",
            Box::new(move |r| file(r, 0xB081, &|f| f.life_cycle = 6)),
        ),
        ("file B081: the life cycle", Box::new(|r| r.keys.clear())),
        (
            "key 82 has no place",
            Box::new(|r| {
                r.keys.push(KeyRecord {
                    reference: 0x82,
                    object: ObjectBlob {
                        private: Vec::new(),
                        public: Vec::new(),
                    },
                    creation_hash: Vec::new(),
                    creation_ticket: Vec::new(),
                    label: None,
                    client_id: None,
                    certificate_label: None,
                    inner_wrapped: None,
                    creation_data: None,
                    recovery: None,
                });
            }),
        ),
        (
            "key 81 has no place",
            Box::new(|r| {
                let key = r.keys[0].clone();
                r.keys.push(key);
            }),
        ),
    ];
    assert!(parts.open(good.clone()).is_ok());
    for (reason, damage) in damages {
        let mut record = good.clone();
        damage(&mut record);
        match parts.open(record) {
            Err(CardError::Damaged(text)) => assert!(text.contains(reason), "{reason}: {text}"),
            other => panic!("{reason}: {:?}", other.err()),
        }
    }
    let mut record = good;
    record.keys[0].object.public[0] = 77;
    assert!(matches!(parts.open(record), Err(CardError::Token(_))));
}
