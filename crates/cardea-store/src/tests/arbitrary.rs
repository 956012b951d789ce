//! Records of every shape that a card can have.

use cardea_card::record::{
    Approval, CardId, CardRecord, CounterMode, CounterObject, DataObject, FileRecord, GidsRecord,
    IndexRecord, IndexRole, KeyRecord, ObjectBlob, ObjectKind, ObjectRecord, Provisional,
    ReaderVisibility, RecoveryTarget, SealedPolicies, SecretLengths, Settings, SrkRecord,
    TpmRecord, Vault, VaultEntry, VaultKind,
};
use cardea_terms::NO_SESSION_LIMIT;
use minicbor::bytes::ByteVec;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=longest)
}

fn tpm_name() -> impl Strategy<Value = Vec<u8>> {
    any::<[u8; 32]>().prop_map(|digest| [&[0x00, 0x0B], &digest[..]].concat())
}

fn object() -> impl Strategy<Value = ObjectBlob> {
    (bytes(250), bytes(320)).prop_map(|(private, public)| ObjectBlob { private, public })
}

fn settings() -> impl Strategy<Value = Settings> {
    let visibility = prop_oneof![
        Just(ReaderVisibility::Always),
        Just(ReaderVisibility::OwnerSession)
    ];
    let limit = 0..=NO_SESSION_LIMIT;
    (
        any::<Option<[u8; 32]>>(),
        visibility,
        any::<bool>(),
        limit.clone(),
        limit,
    )
        .prop_map(
            |(pin_policy, visibility, pin_pad, session_limit, idle_limit)| Settings {
                pin_policy,
                visibility,
                pin_pad,
                session_limit,
                idle_limit,
            },
        )
}

fn indices() -> impl Strategy<Value = Vec<IndexRecord>> {
    let roles = [IndexRole::Pin, IndexRole::Adm, IndexRole::Puk];
    let index = (tpm_name(), any::<u32>());
    (0..=0xFFFCu32, vec(index, 1..=3)).prop_map(move |(base, given)| {
        let indices = given.into_iter().zip(roles).zip(0x01C2_0000 + base..);
        indices
            .map(|(((name, limit), role), handle)| IndexRecord {
                role,
                handle,
                name,
                limit,
            })
            .collect()
    })
}

fn approval() -> impl Strategy<Value = Approval> {
    let role = prop_oneof![
        Just(IndexRole::Pin),
        Just(IndexRole::Adm),
        Just(IndexRole::Puk)
    ];
    ("[APU][0-7]", role, any::<[u8; 32]>(), bytes(72)).prop_map(|(id, role, digest, ticket)| {
        Approval {
            id,
            role,
            digest,
            ticket,
        }
    })
}

fn vault() -> impl Strategy<Value = Vault> {
    let entry = (
        any::<bool>(),
        any::<[[u8; 16]; 2]>(),
        any::<[[u8; 32]; 5]>(),
    )
        .prop_map(|(mutual, [challenge, salt], [public, parts @ ..])| {
            let parts = parts.concat();
            let (kind, challenge_length, mask) = match mutual {
                true => (VaultKind::Mutual, 16, 56),
                false => (VaultKind::External, 8, 0),
            };
            VaultEntry {
                kind,
                challenge: challenge[..challenge_length].to_vec(),
                salt,
                public,
                admin_value: parts[..64].to_vec(),
                mask: parts[64..64 + mask].to_vec(),
            }
        });
    (1..=1_000_000u32, vec(entry, 0..8), any::<[u8; 32]>()).prop_map(|(rounds, entries, tag)| {
        Vault {
            rounds,
            entries,
            tag,
        }
    })
}

fn tpm() -> impl Strategy<Value = TpmRecord> {
    let mode = prop_oneof![
        Just(CounterMode::Nv),
        Just(CounterMode::NvOwner),
        Just(CounterMode::Object)
    ];
    let srk = (0x8100_0000..=0x81FF_FFFFu32, tpm_name(), bytes(100)).prop_map(
        |(handle, name, template)| SrkRecord {
            handle,
            name,
            template,
        },
    );
    let counters = vec((object(), any::<(u32, u32)>()), 1..=3).prop_map(|given| {
        let roles = [IndexRole::Pin, IndexRole::Adm, IndexRole::Puk];
        let given = roles.into_iter().zip(given);
        given
            .map(|(role, (object, (limit, count)))| CounterObject {
                role,
                object,
                limit,
                count,
            })
            .collect::<Vec<_>>()
    });
    let objects = (
        option::of(object()),
        option::of(object()),
        option::of(object()),
        counters,
        option::of((any::<u32>(), object())),
        option::of(vec(bytes(300).prop_map(ByteVec::from), 1..=8)),
    );
    let vaults = (option::of(vault()), option::of(vault()));
    let first = (mode, srk, any::<[u8; 16]>(), bytes(90), indices());
    (first, vec(approval(), 0..14), vaults, objects).prop_map(
        |((mode, srk, salt, birth_public, indices), approvals, vaults, objects)| TpmRecord {
            attestation_chain: objects.1.as_ref().and(objects.5),
            mode,
            srk,
            salt,
            birth_public,
            indices: match mode {
                CounterMode::Nv | CounterMode::NvOwner => indices,
                CounterMode::Object => Vec::new(),
            },
            approvals,
            vault: vaults.0,
            previous_vault: vaults.1,
            sealed_key: objects.0,
            attestation_key: objects.1,
            previous_sealed_key: objects.2,
            counter_objects: (mode == CounterMode::Object).then_some(objects.3),
            sealed_policies: objects.4.map(|(made_at_reset, witness)| SealedPolicies {
                handle: 0x01C2_FFFF,
                made_at_reset,
                witness,
            }),
        },
    )
}

fn keys() -> impl Strategy<Value = Vec<KeyRecord>> {
    let name = || option::of("[a-zA-Zäöü€ 0-9]{1,30}");
    let names = (
        name(),
        option::of(bytes(64)),
        name(),
        option::of(any::<bool>()),
    );
    let key = (
        object(),
        bytes(34),
        bytes(72),
        names,
        option::of(recovery()),
    );
    btree_map(0x81..=0x9Eu8, key, 0..=5).prop_map(|keys| {
        let keys = keys.into_iter();
        keys.map(
            |(reference, (object, creation_hash, creation_ticket, names, recovery))| KeyRecord {
                reference,
                object,
                creation_hash,
                creation_ticket,
                label: names.0,
                client_id: names.1,
                certificate_label: names.2,
                inner_wrapped: names.3,
                creation_data: recovery.as_ref().map(|_| vec![0x53; 75]),
                recovery,
            },
        )
        .collect()
    })
}

fn recovery() -> impl Strategy<Value = Vec<RecoveryTarget>> {
    let target = (bytes(90), bytes(108), bytes(68), option::of(bytes(300)));
    let target = target.prop_map(|(public, private, seed, certificate)| RecoveryTarget {
        public,
        private,
        seed,
        certificate,
    });
    vec(target, 1..=7)
}

fn objects() -> impl Strategy<Value = Vec<ObjectRecord>> {
    let text = || "[a-zA-Zäöü€ 0-9]{0,30}";
    let object = (any::<bool>(), text(), bytes(20), text(), bytes(300));
    btree_map(any::<u32>(), object, 0..=4).prop_map(|objects| {
        let objects = objects.into_iter();
        objects
            .map(
                |(number, (data, label, id, application, value))| ObjectRecord {
                    number,
                    kind: if data {
                        ObjectKind::Data
                    } else {
                        ObjectKind::Certificate
                    },
                    label,
                    id,
                    application,
                    value,
                },
            )
            .collect()
    })
}

fn gids() -> impl Strategy<Value = GidsRecord> {
    let objects = btree_map(1..=0x00FF_FFFFu32, bytes(300), 0..5);
    let file = (any::<[u8; 2]>(), bytes(12), bytes(40), objects).prop_map(
        |([descriptor, life_cycle], access, templates, objects)| FileRecord {
            id: 0,
            descriptor,
            life_cycle,
            access,
            templates,
            objects: objects
                .into_iter()
                .map(|(tag, value)| DataObject { tag, value })
                .collect(),
        },
    );
    (any::<u8>(), btree_map(any::<u16>(), file, 0..8)).prop_map(|(life_cycle, files)| GidsRecord {
        life_cycle,
        files: files
            .into_iter()
            .map(|(id, file)| FileRecord { id, ..file })
            .collect(),
    })
}

/// Any record within the bounds.
pub(super) fn any_record() -> impl Strategy<Value = CardRecord> {
    let length = || vec(1..=127u8, 0..=2);
    let lengths = (length(), length()).prop_map(|(pin, puk)| SecretLengths { pin, puk });
    let provisional = option::of(any::<[Option<[u8; 32]>; 3]>())
        .prop_map(|given| given.map(|[pin, adm, puk]| Provisional { pin, adm, puk }));
    let text = "[a-zA-Zäöü€ 0-9]{1,30}";
    let first = (
        any::<[u8; 16]>(),
        text,
        any::<u32>(),
        any::<u64>(),
        any::<u32>(),
    );
    (
        first,
        settings(),
        lengths,
        tpm(),
        keys(),
        gids(),
        provisional,
        option::of(objects()),
    )
        .prop_map(
            |(
                (id, name, owner, created, written),
                settings,
                lengths,
                tpm,
                keys,
                gids,
                provisional,
                objects,
            )| {
                CardRecord {
                    id: CardId::new(id),
                    name,
                    owner,
                    created,
                    settings,
                    lengths,
                    tpm,
                    keys,
                    gids,
                    certificates_written: written,
                    provisional,
                    objects,
                }
            },
        )
}

/// Like [`full`], and with sealed policies and a certified attestation key, which take format 2.
pub(super) fn attested(name: &str) -> CardRecord {
    let mut record = full(name);
    record.tpm.approvals = Vec::new();
    record.tpm.sealed_policies = Some(SealedPolicies {
        handle: record.tpm.indices[0].handle + 3,
        made_at_reset: 70_000,
        witness: ObjectBlob {
            private: vec![0x44; 126],
            public: vec![0x47; 120],
        },
    });
    record.tpm.attestation_chain = Some(vec![vec![0x45; 470].into(), vec![0x46; 383].into()]);
    record
}

/// Like [`full`], and with a key that others can bring back, which takes format 2.
pub(super) fn recoverable(name: &str) -> CardRecord {
    let mut record = full(name);
    let target = |byte: u8, certificate| RecoveryTarget {
        public: vec![byte; 90],
        private: vec![byte + 1; 108],
        seed: vec![byte + 2; 68],
        certificate,
    };
    record.keys[0].creation_data = Some(vec![0x53; 75]);
    record.keys[0].recovery = Some(vec![
        target(0x81, Some(vec![0x30; 500])),
        target(0x91, None),
    ]);
    record
}

/// A card that has everything a card of format 1 can have.
pub(super) fn full(name: &str) -> CardRecord {
    let mut record = super::record(name);
    let object = |byte: u8| ObjectBlob {
        private: vec![byte; 222],
        public: vec![byte + 1; 310],
    };
    let entry = |kind: VaultKind, challenge: usize, mask: usize| VaultEntry {
        kind,
        challenge: vec![0x31; challenge],
        salt: [0x32; 16],
        public: [0x33; 32],
        admin_value: vec![0x34; 64],
        mask: vec![0x35; mask],
    };
    let vault = |rounds: u32| Vault {
        rounds,
        entries: vec![
            entry(VaultKind::External, 8, 0),
            entry(VaultKind::Mutual, 16, 56),
        ],
        tag: [0x36; 32],
    };
    record.settings = Settings {
        pin_policy: Some([0x11; 32]),
        visibility: ReaderVisibility::OwnerSession,
        pin_pad: true,
        session_limit: 3600,
        idle_limit: 600,
    };
    record.lengths = SecretLengths {
        pin: vec![8, 6],
        puk: vec![12],
    };
    let first = record.tpm.indices[0].clone();
    for (role, offset, limit) in [(IndexRole::Adm, 1, 10_000), (IndexRole::Puk, 2, 10)] {
        record.tpm.indices.push(IndexRecord {
            role,
            handle: first.handle + offset,
            name: first.name.clone(),
            limit,
        });
    }
    record.tpm.approvals = ["A0", "P3", "U6"]
        .into_iter()
        .zip([IndexRole::Adm, IndexRole::Pin, IndexRole::Puk])
        .map(|(id, role)| Approval {
            id: id.into(),
            role,
            digest: [0x21; 32],
            ticket: vec![0x22; 72],
        })
        .collect();
    record.tpm.vault = Some(vault(4096));
    record.tpm.previous_vault = Some(vault(4095));
    record.tpm.sealed_key = Some(object(0x41));
    record.tpm.attestation_key = Some(object(0x43));
    record.keys = [(0x81, 34), (0x9E, 0)]
        .into_iter()
        .map(|(reference, creation)| KeyRecord {
            reference,
            object: object(reference),
            creation_hash: vec![0x51; creation],
            creation_ticket: vec![0x52; 2 * creation],
            label: None,
            client_id: None,
            certificate_label: None,
            inner_wrapped: None,
            creation_data: None,
            recovery: None,
        })
        .collect();
    record.gids.files = vec![
        FileRecord {
            id: 0xA010,
            descriptor: 0x39,
            life_cycle: 5,
            access: vec![0x03, 0x00, 0x10],
            templates: vec![],
            objects: vec![
                DataObject {
                    tag: 0xDF1F,
                    value: vec![0x61; 300],
                },
                DataObject {
                    tag: 0x7F71,
                    value: vec![],
                },
            ],
        },
        FileRecord {
            id: 0xB081,
            descriptor: 0x18,
            life_cycle: 5,
            access: vec![],
            templates: vec![0xB8, 0x03, 0x80, 0x01, 0x40],
            objects: vec![],
        },
    ];
    record.certificates_written = 3;
    record.provisional = Some(Provisional {
        pin: Some([0x71; 32]),
        adm: Some([0x72; 32]),
        puk: Some([0x73; 32]),
    });
    record
}
