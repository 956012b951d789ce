//! Card files made by an attacker, with the right host HMAC where the check is meant to be deeper.

use cardea_card::record::{CardId, CardRecord, CounterMode, IndexRole};
use cardea_card::secret::PrivateKey;
use cardea_card::token::{
    AdminForm, KeyAlgorithm, KeyClass, KeyOrigin, KeyStore as _, PinReference,
};
use cardea_client::Client;
use cardea_client::message::{
    CardRequest, CardState, CardSummary, CardsRequest, CreateCard, NewContent, Reference, Reply,
    Request, SecretBytes,
};
use cardea_daemon::{Config, Daemon};
use cardea_store::Store;
use cardea_testkit::played::{self, Chip};
use cardea_testkit::process::PATIENCE;
use cardea_tpm::CardFault;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use crate::bench::{
    Bench, Kind, Outcome, PIN, SECOND_PIN, WRONG_PIN, new_key, pin, signs, signs_with, succeeds_if,
};
use crate::vault::Said;

/// A host with a card, whose daemon comes and goes.
struct Host {
    tpm: Chip,
    folder: tempfile::TempDir,
}

impl Host {
    fn with_card(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tpm = Chip::start(&folder.path().join("tpm"));
        let host = Self { tpm, folder };
        host.with_daemon(|client| {
            let content = NewContent::with_pin(SecretBytes::new(PIN.to_vec()));
            let request = Request::Cards(CardsRequest::Create(Box::new(CreateCard {
                counter_mode: Some(played::counter_mode()),
                ..CreateCard::new(name, content)
            })));
            let made = client.call(&request, PATIENCE).unwrap();
            assert!(matches!(made, Reply::Card(_)), "{made:?}");
        });
        host
    }

    fn with_daemon<R>(&self, work: impl FnOnce(&mut Client) -> R) -> R {
        let socket = self.folder.path().join("socket");
        let address = self.tpm.address().parse().unwrap();
        let config = Config::new(self.folder.path().join("state"), socket.clone(), address);
        let daemon = Daemon::start(config).unwrap();
        let mut client = Client::new(socket);
        let result = work(&mut client);
        client.disconnect();
        daemon.stop();
        result
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("state")).unwrap()
    }

    fn record(&self) -> CardRecord {
        self.store().cards().unwrap().remove(0).content.unwrap()
    }
}

fn cards(client: &mut Client) -> Vec<CardSummary> {
    match client
        .call(&Request::Cards(CardsRequest::List { from: None }), PATIENCE)
        .unwrap()
    {
        Reply::Cards(page) => page.entries,
        other => panic!("{other:?}"),
    }
}

fn state(client: &mut Client, name: &str) -> CardState {
    let cards = cards(client);
    cards.iter().find(|card| card.name == name).unwrap().state
}

fn tries_left(client: &mut Client, card: &str) -> u32 {
    let request = Request::card(card, CardRequest::Show);
    match client.call(&request, PATIENCE).unwrap() {
        Reply::Card(card) => card.pin.unwrap().left.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A second file with another card's handles, Names, birth key and salt, and the right HMAC.
pub(crate) fn second_claimant() -> Outcome {
    let host = Host::with_card("victim");
    let mut forged = host.record();
    forged.id = CardId::new([7; 16]);
    forged.name = "thief".into();
    forged.owner += 1;
    forged.created += 1;
    host.store().create(&forged).unwrap();
    host.with_daemon(|client| {
        let guess = Request::card(
            "thief",
            CardRequest::VerifyPin {
                value: SecretBytes::new(WRONG_PIN.to_vec()),
                reference: Reference::Pin,
            },
        );
        client.call(&guess, PATIENCE).unwrap();
        succeeds_if!(
            state(client, "thief") == CardState::Ready,
            "two files have one card"
        );
        succeeds_if!(
            tries_left(client, "victim") != 5,
            "another card's tries are spent"
        );
        let destroy = Request::card("thief", CardRequest::Destroy { owner_auth: None });
        client.call(&destroy, PATIENCE).unwrap();
        succeeds_if!(
            state(client, "victim") != CardState::Ready,
            "another card is destroyed"
        );
        Ok(())
    })
}

/// The owner is changed by somebody without the host key.
pub(crate) fn other_owner() -> Outcome {
    let host = Host::with_card("victim");
    let mut record = host.record();
    let path = host.store().path(record.id);
    record.owner += 1;
    // Written by another host.
    let other = cardea_store::format::HostKey::new([1; 32]);
    let bytes = cardea_store::format::encode(&other, &record).unwrap();
    std::fs::write(&path, bytes).unwrap();
    // The generation of before is this host's.
    drop(std::fs::remove_file(path.with_extension("card.old")));
    host.with_daemon(|client| {
        succeeds_if!(
            state(client, "victim") == CardState::Ready,
            "a file of another host is used, with the owner that it names"
        );
        Ok(())
    })
}

/// Parts of another card in a card's record. Whoever makes it has the host key.
pub(crate) fn borrowed_parts() -> Outcome {
    let bench = Bench::new();
    let victim = bench.numbered(Kind::Admin, 1);
    let own = bench.numbered(Kind::Admin, 2);
    let with = |change: &dyn Fn(&mut CardRecord)| {
        let mut record = own.clone();
        change(&mut record);
        record
    };
    let refused = [
        (
            "handle",
            with(&|record| record.tpm.indices[0].handle = victim.tpm.indices[0].handle),
        ),
        (
            "index",
            with(&|record| record.tpm.indices[0] = victim.tpm.indices[0].clone()),
        ),
        (
            "birth key",
            with(&|record| record.tpm.birth_public.clone_from(&victim.tpm.birth_public)),
        ),
        (
            "approvals",
            with(&|record| record.tpm.approvals.clone_from(&victim.tpm.approvals)),
        ),
        (
            "administrator",
            with(&|record| record.tpm.indices[1] = victim.tpm.indices[1].clone()),
        ),
        (
            "PIN counter in the administrator's place",
            with(&|record| {
                record.tpm.indices[1] = victim.tpm.indices[0].clone();
                record.tpm.indices[1].role = IndexRole::Adm;
            }),
        ),
        (
            "approvals' tickets",
            with(&|record| {
                let theirs = victim.tpm.approvals.iter();
                for (approval, theirs) in record.tpm.approvals.iter_mut().zip(theirs) {
                    approval.ticket.clone_from(&theirs.ticket);
                }
            }),
        ),
        (
            "a handle outside",
            with(&|record| record.tpm.indices[0].handle = 0x01C0_0002),
        ),
    ];
    for (what, record) in refused {
        // Where the owner reads the counts, no approval is used before its secret is given, and the TPM refuses it then.
        if own.tpm.mode == CounterMode::NvOwner && what == "approvals' tickets" {
            continue;
        }
        succeeds_if!(
            !matches!(
                bench.service.check_card(&record),
                Err(CardFault::Damaged(_) | CardFault::Lost(_))
            ),
            "a card with another card's {what} is believed"
        );
    }
    // Salt, vault and sealed key say nothing that could be checked: they must not help.
    let borrowed = with(&|record| {
        record.tpm.salt = victim.tpm.salt;
        record.tpm.vault.clone_from(&victim.tpm.vault);
        record.tpm.sealed_key.clone_from(&victim.tpm.sealed_key);
    });
    bench.service.check_card(&borrowed).unwrap();
    succeeds_if!(
        bench.accepts(&borrowed, PIN) || bench.accepts(&borrowed, SECOND_PIN),
        "another salt makes another PIN right"
    );
    for form in [AdminForm::External, AdminForm::Mutual] {
        let mut card = bench.open(&borrowed);
        succeeds_if!(
            Said::new(&mut card, form).say(&mut card),
            "another card's vault makes an administrator"
        );
    }
    succeeds_if!(
        bench.failures(&victim) != 0 || !bench.accepts(&victim, PIN),
        "the other card's tries are spent"
    );
    Ok(())
}

/// A key that was imported, and whose owner may have a copy, is shown as made in the TPM, and signs.
pub(crate) fn imported_key_shown_as_generated() -> Outcome {
    let bench = Bench::new();
    let mut card = bench.open(&bench.record(Kind::Plain));
    let mut connection = card.connect();
    card.verify_pin(&mut connection, PinReference::Pin, &pin(PIN))
        .unwrap();
    let scalar = p256::SecretKey::from_slice(&[0x11; 32]).unwrap();
    let point = scalar.public_key().to_sec1_point(false);
    let material = PrivateKey::Ec {
        algorithm: KeyAlgorithm::P256,
        scalar: vec![0x11; 32].into(),
        x: point.x().unwrap().to_vec(),
        y: point.y().unwrap().to_vec(),
    };
    let class = KeyClass::Session;
    let imported = card
        .import_key(&mut connection, &material, &new_key(class))
        .unwrap();
    let made = card
        .generate_key(&mut connection, KeyAlgorithm::P256, &new_key(class))
        .unwrap();
    assert!(signs(&mut card, &mut connection, imported.get()));
    let record = card.record().clone();
    drop(card);
    let of = |number| {
        let mut keys = record.keys.iter();
        keys.find(|key| key.number() == number).unwrap().clone()
    };
    let (genuine, foreign) = (of(made), of(imported));
    // sensitiveDataOrigin alone; all that a generated key has; and what creation gives.
    for (what, attributes, flags) in [
        ("its creation data", None, true),
        ("its origin bit", Some([0, 6, 4, 0x20]), true),
        ("all its bits", Some([0, 6, 4, 0x32]), true),
    ] {
        let mut key = foreign.clone();
        if flags {
            key.creation_hash.clone_from(&genuine.creation_hash);
            key.creation_ticket.clone_from(&genuine.creation_ticket);
        }
        if let Some(bits) = attributes {
            key.object.public[4..8].copy_from_slice(&bits);
        }
        let mut forged = record.clone();
        forged.keys = vec![key.clone(), genuine.clone()];
        if bench.service.check_card(&forged).is_err() {
            continue;
        }
        let token = bench.service.token(&forged).unwrap();
        let shown = token.describe(&key).map(|info| info.origin);
        let generated = matches!(shown, Ok(KeyOrigin::Generated));
        succeeds_if!(
            generated && signs_with(&bench, &forged, PIN, imported.get()),
            "with {what} changed it is shown as generated, and signs"
        );
    }
    Ok(())
}
