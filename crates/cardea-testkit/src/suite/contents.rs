//! Cases of names, identifiers and objects beside the keys.

use std::collections::BTreeSet;

use cardea_card::record::ObjectKind;
use cardea_card::secret::Pin;
use cardea_card::token::{
    KeyAlgorithm, KeyClass, PinReference, PrivateOperation, TokenError, TokenErrorKind,
};
use cardea_card::{Card, CardError, Connection, KeyNumber, KeyUsage, NewKey, NewObject};

use super::cases::{Case, ensure};
use super::{MakeCard, Outcome};
use crate::transcript::{CardKind, PIN};

/// Name and body of every case.
pub(super) const CASES: &[(&str, Case)] = &[
    (
        "identifiers are the client's or the container's",
        identifiers,
    ),
    ("keys are renamed for all doors", keys_are_renamed),
    ("objects are kept for who verified", objects_are_kept),
    ("operations in two steps", operations_in_two_steps),
];

/// A key that no card of these cases has.
const ABSENT: KeyNumber = KeyNumber::new(0x90);

fn text(error: CardError) -> String {
    error.to_string()
}

fn verified(make_card: MakeCard<'_>) -> Result<(Card, Connection), String> {
    let mut card = make_card(CardKind::Created);
    let mut connection = card.connect();
    let pin = Pin::new(PIN).map_err(|error| error.to_string())?;
    card.verify_pin(&mut connection, PinReference::Pin, &pin)
        .map_err(text)?;
    Ok((card, connection))
}

fn new_key(label: Option<&str>, id: Option<&[u8]>) -> NewKey {
    NewKey {
        label: label.map(str::to_owned),
        usage: KeyUsage::Exchange,
        class: KeyClass::Session,
        id: id.map(<[u8]>::to_vec),
    }
}

/// An identifier that is the index of a free container decides which one it is; any other is kept beside it.
fn identifiers(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let mut make = |algorithm, id: Option<&[u8]>| {
        let number = card
            .generate_key(&mut connection, algorithm, &new_key(None, id))
            .map_err(text)?;
        Ok::<_, String>((number, card.key_id(number)))
    };
    let long = [0xAB; 20];
    for (algorithm, id, expected) in [
        (KeyAlgorithm::Rsa2048, None, (0x81, &[0][..])),
        (KeyAlgorithm::P256, None, (0x9E, &[0x1D])),
        (KeyAlgorithm::P256, Some(&[5][..]), (0x86, &[5])),
        // Taken: the identifier is kept, the container is another one.
        (KeyAlgorithm::P256, Some(&[5]), (0x9D, &[5])),
        (KeyAlgorithm::P256, Some(&[0x1E]), (0x9C, &[0x1E])),
        (KeyAlgorithm::P256, Some(&long), (0x9B, &long)),
    ] {
        let (number, found) = make(algorithm, id)?;
        ensure!(
            (number.get(), found.as_deref()) == (expected.0, Some(expected.1)),
            "{algorithm:?} with {id:?}: {number} {found:?}"
        );
    }
    ensure!(
        card.key_id(ABSENT).is_none(),
        "an absent key has an identifier"
    );
    Ok(())
}

/// Names of RSA keys are those of their containers, as far as these have room.
fn keys_are_renamed(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let mut numbers = Vec::new();
    for algorithm in [KeyAlgorithm::Rsa2048, KeyAlgorithm::P256] {
        let made = card.generate_key(&mut connection, algorithm, &new_key(Some("before"), None));
        numbers.push(made.map_err(text)?);
    }
    let long = "ä".repeat(60);
    let revision = card.revision();
    for number in numbers {
        for name in ["after", &long, "short again"] {
            card.rename_key(&mut connection, number, Some(name), Some(&[1, 2, 3]))
                .map_err(text)?;
            ensure!(
                card.key_label(number).as_deref() == Some(name),
                "{number} is called {:?}, not {name}",
                card.key_label(number)
            );
            ensure!(
                card.key_id(number) == Some(vec![1, 2, 3]),
                "the identifier was not taken"
            );
        }
        card.rename_key(&mut connection, number, None, Some(&[number.get() - 0x81]))
            .map_err(text)?;
        let key = card.record().key(number);
        ensure!(
            key.is_some_and(|key| key.client_id.is_none()),
            "the container's own index is kept as another one"
        );
    }
    ensure!(card.revision() != revision, "the revision is the same");
    let rsa = card.record().keys.first().map(|key| key.label.is_none());
    ensure!(
        rsa == Some(true),
        "a name that fits its container is kept twice"
    );
    ensure!(
        card.rename_key(&mut connection, ABSENT, Some("nobody"), None)
            .is_err(),
        "an absent key was renamed"
    );
    let mut other = card.connect();
    ensure!(
        is_refused(card.rename_key(&mut other, KeyNumber::new(0x81), Some("stolen"), None)),
        "renamed without PIN"
    );
    Ok(())
}

fn is_refused<T>(result: Result<T, CardError>) -> bool {
    let kind = match result {
        Err(CardError::Token(error)) => Some(TokenError::kind(&error)),
        _ => None,
    };
    kind == Some(TokenErrorKind::NotAuthenticated)
}

fn data(size: usize) -> NewObject {
    NewObject {
        kind: ObjectKind::Data,
        label: "note".into(),
        id: vec![0x06, 0x01, 0x2A],
        application: "mail".into(),
        value: vec![7; size],
    }
}

/// Objects have numbers that are not used twice, and bounds; who has not verified the PIN changes none.
fn objects_are_kept(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let mut add = |card: &mut Card, size| card.add_object(&mut connection, data(size));
    let first = add(&mut card, 10).map_err(text)?;
    let second = add(&mut card, 0).map_err(text)?;
    ensure!(first != second, "one number for two objects");
    let mut other = card.connect();
    ensure!(
        is_refused(card.add_object(&mut other, data(1)))
            && is_refused(card.rename_object(&mut other, first, Some("x"), None))
            && is_refused(card.delete_object(&mut other, first)),
        "changed without PIN"
    );
    let connection = &mut connection;
    card.rename_object(connection, second, Some("list"), Some(&[1]))
        .map_err(text)?;
    ensure!(
        card.rename_object(connection, 99, Some("x"), None).is_err(),
        "an absent object was renamed"
    );
    let renamed = card.objects().iter().find(|object| object.number == second);
    ensure!(
        renamed.is_some_and(|object| object.label == "list" && object.id == [1]),
        "the new name was not taken"
    );
    ensure!(
        card.delete_object(connection, first).map_err(text)?
            && !card.delete_object(connection, first).map_err(text)?,
        "deleted not once"
    );
    let mut numbers = BTreeSet::from([first, second]);
    while card.objects().len() < 64 {
        let number = card.add_object(connection, data(16)).map_err(text)?;
        ensure!(numbers.insert(number), "a number came again");
        // Also that of the last object.
        ensure!(
            card.delete_object(connection, number).map_err(text)?,
            "a new object was not there"
        );
        let number = card.add_object(connection, data(16)).map_err(text)?;
        ensure!(numbers.insert(number), "a deleted number came again");
    }
    ensure!(
        card.add_object(connection, data(1)).is_err(),
        "more than 64 objects"
    );
    while let Some(object) = card.objects().first().map(|object| object.number) {
        card.delete_object(connection, object).map_err(text)?;
    }
    for _ in 0..16 {
        card.add_object(connection, data(64 * 1024)).map_err(text)?;
    }
    ensure!(
        card.add_object(connection, data(1)).is_err(),
        "more than 1 MiB"
    );
    Ok(())
}

/// What was begun under a verification is done without the card; afterwards nothing more is begun.
fn operations_in_two_steps(make_card: MakeCard<'_>) -> Outcome {
    let (mut card, mut connection) = verified(make_card)?;
    let made = card.generate_key(&mut connection, KeyAlgorithm::P256, &new_key(None, None));
    let key = made.map_err(text)?;
    let sign = || PrivateOperation::SignEcdsa { digest: &[7; 32] };
    let one = card.begin_use(&mut connection, key, sign());
    let other = card.begin_use(&mut connection, key, sign());
    for pending in [one, other] {
        let signature = pending.map_err(text)?.run().map_err(text)?;
        ensure!(signature.len() == 64, "{} bytes", signature.len());
    }
    ensure!(
        card.begin_use(&mut connection, ABSENT, sign()).is_err(),
        "an absent key signs"
    );
    let late = card.begin_use(&mut connection, key, sign()).map_err(text)?;
    card.end_all();
    ensure!(
        is_refused(card.begin_use(&mut connection, key, sign()).map(drop)),
        "begun without PIN"
    );
    // The software token has signed by now; a TPM has nothing left that would let it.
    if let Err(error) = late.run() {
        ensure!(
            matches!(&error, CardError::Token(error) if error.kind() == TokenErrorKind::NotAuthenticated),
            "{error}"
        );
        card.finish_use(key, &error);
    }
    Ok(())
}
