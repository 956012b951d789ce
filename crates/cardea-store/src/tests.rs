//! Power cuts and failing disks at every step, what the real file system does, and the format.

mod arbitrary;
mod bounds;
mod drives;
mod folder;
mod format;
mod generations;
mod intents;
mod model;
mod power_cut;

use cardea_card::record::{
    CardId, CardRecord, CounterMode, GidsRecord, IndexRecord, IndexRole, SecretLengths, Settings,
    SrkRecord, TpmRecord,
};

use crate::Store;

/// The smallest card.
fn record(name: &str) -> CardRecord {
    let mut tpm_name = vec![0x00, 0x0B];
    tpm_name.resize(34, 7);
    CardRecord {
        id: CardId::new([0xAB; 16]),
        name: name.into(),
        owner: 1000,
        created: 1_700_000_000,
        settings: Settings::default(),
        lengths: SecretLengths {
            pin: vec![6],
            puk: vec![],
        },
        tpm: TpmRecord {
            mode: CounterMode::Nv,
            srk: SrkRecord {
                handle: 0x8100_0001,
                name: tpm_name.clone(),
                template: vec![1],
            },
            salt: [9; 16],
            birth_public: vec![2; 88],
            indices: vec![IndexRecord {
                role: IndexRole::Pin,
                handle: 0x01C2_0000,
                name: tpm_name,
                limit: 5,
            }],
            approvals: vec![],
            vault: None,
            previous_vault: None,
            sealed_key: None,
            attestation_key: None,
            previous_sealed_key: None,
            counter_objects: None,
            sealed_policies: None,
            attestation_chain: None,
        },
        keys: vec![],
        gids: GidsRecord {
            life_cycle: 5,
            files: vec![],
        },
        certificates_written: 0,
        objects: None,
        provisional: None,
    }
}

fn id() -> CardId {
    record("").id
}

/// The record of the only card, which this host wrote.
fn only_card(store: &Store) -> CardRecord {
    let mut cards = store.cards().unwrap();
    assert_eq!(cards.len(), 1);
    let card = cards.remove(0);
    assert!(card.trusted);
    card.content.unwrap()
}
