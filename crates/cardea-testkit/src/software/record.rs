//! A card record around the software token.

use cardea_card::record::{
    CardId, CardRecord, CounterMode, GidsRecord, SecretLengths, Settings, SrkRecord, TpmRecord,
};

/// The card id of [`card_record`].
pub const CARD_ID: [u8; 16] = [
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F,
];

/// The record of a card without TPM objects: what the engine needs and nothing else.
#[must_use]
pub fn card_record(gids: GidsRecord, pin_length: u8, puk_length: Option<u8>) -> CardRecord {
    CardRecord {
        id: CardId::new(CARD_ID),
        name: "test card".to_owned(),
        owner: 1000,
        created: 1_700_000_000,
        settings: Settings::default(),
        lengths: SecretLengths {
            pin: vec![pin_length],
            puk: puk_length.into_iter().collect(),
        },
        tpm: TpmRecord {
            mode: CounterMode::Nv,
            srk: SrkRecord {
                handle: 0x8100_0001,
                name: Vec::new(),
                template: Vec::new(),
            },
            salt: [0; 16],
            birth_public: Vec::new(),
            indices: Vec::new(),
            approvals: Vec::new(),
            vault: None,
            previous_vault: None,
            sealed_key: None,
            attestation_key: None,
            previous_sealed_key: None,
            counter_objects: None,
            sealed_policies: None,
            attestation_chain: None,
        },
        keys: Vec::new(),
        gids,
        certificates_written: 0,
        objects: None,
        provisional: None,
    }
}
