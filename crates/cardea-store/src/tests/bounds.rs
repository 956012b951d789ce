//! What no record may be, whoever wrote it.

use cardea_card::record::{CardId, CardRecord, CounterMode, DataObject, SealedPolicies};

use super::arbitrary::{attested, full, recoverable};
use super::record;
use crate::{Claim, conflicts, validate};

type Change = fn(&mut CardRecord);

fn fault(change: Change) -> Option<String> {
    let mut changed = recoverable("card");
    validate(&changed).unwrap();
    change(&mut changed);
    validate(&changed).err().map(|fault| fault.to_string())
}

#[test]
fn every_bound_is_kept() {
    let faults: [(Change, &str); 46] = [
        (|r| r.name.clear(), "the name is"),
        (|r| r.name = "x".repeat(128), "the name is"),
        (|r| r.name = "ä".repeat(64), "the name is"),
        (|r| r.name = "a\nb".into(), "the name is"),
        (|r| r.name = "a\u{85}b".into(), "the name is"),
        (|r| r.settings.session_limit = u32::MAX, "a time limit"),
        (|r| r.settings.idle_limit = u32::MAX, "a time limit"),
        (|r| r.lengths.pin = vec![0], "a PIN length"),
        (|r| r.lengths.pin = vec![4, 5, 6], "a PIN length"),
        (|r| r.lengths.puk = vec![128], "a PIN length"),
        (|r| r.tpm.srk.handle = 0x80FF_FFFF, "the SRK's handle"),
        (|r| r.tpm.srk.handle = 0x8200_0000, "the SRK's handle"),
        (|r| r.tpm.srk.name[1] = 0x0C, "the SRK's Name"),
        (|r| r.tpm.srk.name.push(0), "the SRK's Name"),
        (|r| r.tpm.srk.template = vec![0; 4097], "a public area"),
        (|r| r.tpm.birth_public = vec![0; 4097], "a public area"),
        (|r| r.tpm.indices.clear(), "the indices are"),
        (|r| r.tpm.indices.swap(0, 1), "the indices are"),
        (
            |r| r.tpm.indices.push(r.tpm.indices[0].clone()),
            "the indices are",
        ),
        (
            |r| r.tpm.mode = CounterMode::Object,
            "the counters in objects",
        ),
        (
            |r| {
                r.tpm.mode = CounterMode::Object;
                r.tpm.indices.clear();
                r.tpm.counter_objects = None;
            },
            "the counters in objects",
        ),
        (|r| r.tpm.indices[1].handle = 0x01C1_FFFF, "an index is out"),
        (|r| r.tpm.indices[1].handle = 0x01C3_0000, "an index is out"),
        (
            |r| r.tpm.indices[2].name.truncate(33),
            "the Name of an index",
        ),
        (
            |r| r.tpm.indices[2].role = r.tpm.indices[1].role,
            "two indices",
        ),
        (|r| r.tpm.indices[2].handle -= 1, "two indices"),
        (
            |r| r.tpm.approvals = vec![r.tpm.approvals[0].clone(); 33],
            "too many approved",
        ),
        (
            |r| r.tpm.approvals[0].ticket = vec![0; 4097],
            "an approved policy",
        ),
        (
            |r| r.tpm.vault.as_mut().unwrap().rounds = 0,
            "the admin vault's rounds",
        ),
        (
            |r| r.tpm.previous_vault.as_mut().unwrap().rounds = 1_000_001,
            "the admin vault's rounds",
        ),
        (
            |r| {
                r.tpm.vault.as_mut().unwrap().entries[1]
                    .challenge
                    .truncate(8)
            },
            "the admin vault is",
        ),
        (
            |r| r.tpm.vault.as_mut().unwrap().entries[0].mask = vec![0; 56],
            "the admin vault is",
        ),
        (
            |r| r.tpm.sealed_key.as_mut().unwrap().private = vec![0; 4097],
            "a TPM object",
        ),
        (|r| r.keys[0].reference = 0x80, "a key reference"),
        (|r| r.keys[0].reference = r.keys[1].reference, "two keys"),
        (|r| r.keys[0].object.public = vec![0; 4097], "a key is"),
        (
            |r| r.keys[0].creation_data = Some(vec![0; 4097]),
            "a key is",
        ),
        (|r| r.keys[0].creation_data = None, "a recoverable key is"),
        (
            |r| r.keys[1].creation_data = Some(vec![0; 4]),
            "a recoverable key is",
        ),
        (
            |r| r.keys[0].recovery.as_mut().unwrap().clear(),
            "a key has an impossible number",
        ),
        (
            |r| {
                let target = r.keys[0].recovery.as_ref().unwrap()[0].clone();
                r.keys[0].recovery = Some(vec![target; 8]);
            },
            "a key has an impossible number",
        ),
        (
            |r| r.keys[0].recovery.as_mut().unwrap()[0].certificate = Some(vec![0; 8193]),
            "a recovery key is",
        ),
        (|r| r.gids.files[1].id = r.gids.files[0].id, "two files"),
        (
            |r| r.gids.files[0].objects[0].value = vec![0; 16_385],
            "a data object is",
        ),
        (|r| r.gids.files[0].objects[0].tag = 0x0100_0000, "a tag is"),
        (
            |r| r.gids.files[0].objects[1].tag = 0xDF1F,
            "two data objects",
        ),
    ];
    for (number, (change, begins)) in faults.into_iter().enumerate() {
        let fault = fault(change).unwrap_or_else(|| panic!("{number}: {begins} … is accepted"));
        assert!(fault.starts_with(begins), "{number}: {fault}");
    }
}

#[test]
fn counts_have_a_limit_and_reach_it() {
    let mut many = full("x".repeat(127).as_str());
    many.keys = (0x81..=0x9E)
        .map(|reference| cardea_card::record::KeyRecord {
            reference,
            ..many.keys[0].clone()
        })
        .collect();
    assert_eq!(many.keys.len(), 30);
    many.gids.files = (0..256)
        .map(|id| cardea_card::record::FileRecord {
            id,
            ..many.gids.files[1].clone()
        })
        .collect();
    many.gids.files[0].objects = (0..512)
        .map(|tag| DataObject {
            tag,
            value: vec![0; if tag == 0 { 16 * 1024 } else { 1 }],
        })
        .collect();
    validate(&many).unwrap();

    let mut more = many.clone();
    more.keys.push(many.keys[0].clone());
    assert!(validate(&more).unwrap_err().to_string().contains("keys"));
    let mut more = many.clone();
    more.gids.files.push(many.gids.files[0].clone());
    assert!(validate(&more).unwrap_err().to_string().contains("files"));
    let mut more = many.clone();
    more.gids.files[0].objects.push(DataObject {
        tag: 512,
        value: vec![],
    });
    assert!(
        validate(&more)
            .unwrap_err()
            .to_string()
            .contains("data objects")
    );
}

#[test]
fn every_bound_of_what_proves_something_is_kept() {
    let faults: [(Change, &str); 7] = [
        (|r| sealed(r).handle = 0x01C3_0000, "an index is out"),
        (
            |r| sealed(r).handle = r.tpm.indices[1].handle,
            "two indices",
        ),
        (
            |r| sealed(r).witness.public = vec![0; 4097],
            "a TPM object is",
        ),
        (
            |r| r.tpm.attestation_key = None,
            "the attestation key has an impossible",
        ),
        (
            |r| r.tpm.attestation_chain = Some(Vec::new()),
            "the attestation key has an impossible",
        ),
        (
            |r| r.tpm.attestation_chain = Some(vec![vec![1].into(); 9]),
            "the attestation key has an impossible",
        ),
        (
            |r| r.tpm.attestation_chain = Some(vec![vec![1; 8193].into()]),
            "a certificate of the attestation key",
        ),
    ];
    for (change, expected) in faults {
        let mut changed = attested("card");
        validate(&changed).unwrap();
        change(&mut changed);
        let found = validate(&changed).unwrap_err().to_string();
        assert!(found.starts_with(expected), "{found}");
    }
}

fn sealed(record: &mut CardRecord) -> &mut SealedPolicies {
    record.tpm.sealed_policies.as_mut().unwrap()
}

#[test]
fn two_claimants_of_an_index_are_found() {
    let one = record("one");
    let mut two = record("two");
    two.id = CardId::new([2; 16]);
    assert_eq!(
        conflicts(&[&one, &two]),
        [(one.id, two.id, Claim::Index(0x01C2_0000))]
    );
    two.tpm.indices[0].handle = 0x01C2_0003;
    assert!(conflicts(&[&one, &two]).is_empty());
    // Whatever it is for.
    let mut sealed = attested("");
    sealed.id = CardId::new([3; 16]);
    let policies = sealed.tpm.sealed_policies.clone().unwrap();
    assert_eq!(
        conflicts(&[&two, &sealed]),
        [(two.id, sealed.id, Claim::Index(policies.handle))]
    );
    two.tpm.indices = full("").tpm.indices;
    two.tpm.indices[0].handle = 0x01C2_0009;
    two.tpm.indices[2].handle = 0x01C2_0000;
    assert_eq!(
        conflicts(&[&one, &two]),
        [(one.id, two.id, Claim::Index(0x01C2_0000))]
    );
}
