//! Every digest, Name, template, value and vault entry against `tests/vectors/tpm-vectors.json`, computed by
//! another program from first principles.

use cardea_card::record::{IndexRole, VaultEntry, VaultKind};
use cardea_card::token::{KeyAlgorithm, KeyClass, KeyOrigin};
use cardea_tpm::auth::auth_value;
use cardea_tpm::policy::{
    ApprovalId, NV_DEFINED, NV_WRITTEN, Names, a_hash, birth_public, index_policy, init_policy,
    key_policy, key_template, name_of, nv_public, role_ref, sealed_policy, sealed_template,
};
use cardea_tpm::vault::{candidate, mask, tag};
use cardea_tpm::{AdminKey, vault};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/tpm-vectors.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    base16ct::mixed::decode_vec(value.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

const ROLES: [(&str, IndexRole); 3] = [
    ("pin", IndexRole::Pin),
    ("adm", IndexRole::Adm),
    ("puk", IndexRole::Puk),
];

#[test]
fn birth_key_and_indices() {
    let vectors = vectors();
    let public = hex(&vectors["birth"]["public"]);
    let point = &public[public.len() - 68..];
    let (x, y) = (&point[2..34], &point[36..]);
    assert_eq!(
        birth_public(x.try_into().unwrap(), y.try_into().unwrap()),
        public
    );
    let birth = name_of(&public);
    assert_eq!(birth[..], hex(&vectors["birth"]["name"])[..]);
    for (name, role) in ROLES {
        let index = &vectors["index"][name];
        let handle = u32::from_be_bytes(array(&index["handle"]));
        let policy = index_policy(&birth, role);
        assert_eq!(policy[..], hex(&index["policy"])[..], "{name}");
        for (attributes, state) in [(NV_DEFINED, "defined"), (NV_WRITTEN, "written")] {
            let public = nv_public(handle, attributes, &policy);
            assert_eq!(
                public,
                hex(&index[format!("public_{state}")]),
                "{name} {state}"
            );
            assert_eq!(
                name_of(&public)[..],
                hex(&index[format!("name_{state}")])[..]
            );
        }
    }
}

#[test]
fn approvals() {
    let vectors = vectors();
    let birth = hex(&vectors["birth"]["name"]);
    let name = |role: &str| hex(&vectors["index"][role]["name_written"]);
    let (pin, adm, puk) = (name("pin"), name("adm"), name("puk"));
    let names = Names {
        birth: &birth,
        pin: &pin,
        adm: Some(&adm),
        puk: Some(&puk),
    };
    for id in ApprovalId::ALL {
        let vector = &vectors["approval"][id.as_str()];
        let digest = id.digest(&names).unwrap();
        assert_eq!(digest[..], hex(&vector["digest"])[..], "{id:?}");
        let reference = role_ref(id.role());
        assert_eq!(reference, vector["ref"].as_str().unwrap().as_bytes());
        assert_eq!(
            a_hash(&digest, reference)[..],
            hex(&vector["a_hash"])[..],
            "{id:?}"
        );
        assert_eq!(ApprovalId::parse(id.as_str()), Some(id));
    }
    for (name, role) in ROLES {
        let vector = &vectors["approval"][format!("I-{name}")];
        let digest = init_policy(&birth);
        assert_eq!(digest[..], hex(&vector["digest"])[..]);
        assert_eq!(
            a_hash(&digest, role_ref(role))[..],
            hex(&vector["a_hash"])[..]
        );
    }
}

#[test]
fn key_and_sealing_templates() {
    let vectors = vectors();
    let pin = hex(&vectors["index"]["pin"]["name_written"]);
    for (name, class) in [("sess", KeyClass::Session), ("once", KeyClass::Always)] {
        let vector = &vectors["key_policy"][name];
        let policy = key_policy(&pin, class);
        assert_eq!(policy[..], hex(&vector["policy"])[..]);
        for (algorithm, field) in [
            (KeyAlgorithm::P256, "template_p256"),
            (KeyAlgorithm::Rsa2048, "template_rsa2048"),
        ] {
            assert_eq!(
                key_template(algorithm, KeyOrigin::Generated, &policy),
                hex(&vector[field])
            );
        }
    }
    let policy = sealed_policy(&hex(&vectors["index"]["adm"]["name_written"]));
    assert_eq!(policy[..], hex(&vectors["sealed"]["policy"])[..]);
    assert_eq!(
        sealed_template(&policy),
        hex(&vectors["sealed"]["template"])
    );
}

#[test]
fn authorisation_values() {
    for vector in vectors()["auth"].as_array().unwrap() {
        let role = ROLES
            .iter()
            .find(|(name, _)| *name == vector["tag"])
            .unwrap()
            .1;
        let typed = vector["typed"].as_str().unwrap().as_bytes();
        let value = auth_value(&array(&vector["salt"]), role, typed);
        assert_eq!(value[..], hex(&vector["auth"])[..]);
    }
}

#[test]
fn vault_entries_and_tag() {
    let vectors = vectors();
    let source = &vectors["vault"];
    let entries: Vec<VaultEntry> = source["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| VaultEntry {
            kind: match entry["kind"].as_str().unwrap() {
                "external" => VaultKind::External,
                _ => VaultKind::Mutual,
            },
            challenge: hex(&entry["c"]),
            salt: array(&entry["s"]),
            public: array(&entry["pk"]),
            admin_value: hex(&entry["adm"]["stored"]),
            mask: entry
                .get("m")
                .map(|m| hex(&m["stored"]))
                .unwrap_or_default(),
        })
        .collect();
    let adm: [u8; 32] = array(&source["adm"]);
    assert_eq!(tag(&adm, &entries)[..], hex(&source["tag"])[..]);
    let sealed: [u8; 24] = array(&source["key_xor_m"]);
    let key = AdminKey::new(&hex(&source["admin_key"])).unwrap();
    assert_eq!(*key.masked(&array(&source["m"])), sealed);
    let whole = cardea_card::record::Vault {
        rounds: vault::ROUNDS,
        entries,
        tag: [0; 32],
    };
    for (entry, vector) in whole
        .entries
        .iter()
        .zip(source["entries"].as_array().unwrap())
    {
        let mut answer = entry.challenge.clone();
        key.encrypt(&mut answer);
        assert_eq!(answer, hex(&vector["r"]));
        assert_eq!(*candidate(&whole, entry, &answer).unwrap(), adm);
        if entry.kind == VaultKind::Mutual {
            assert_eq!(
                mask(&whole, entry, &answer).unwrap()[..],
                hex(&source["m"])[..]
            );
        }
    }
}

#[test]
fn mutual_exchange() {
    let vectors = vectors();
    let source = &vectors["mutual"];
    let key = AdminKey::new(&hex(&source["key"])).unwrap();
    for (parts, expected) in [(["R2", "R1", "Z1"], "host"), (["R1", "R2", "Z2"], "card")] {
        let mut message: Vec<u8> = parts.iter().flat_map(|part| hex(&source[*part])).collect();
        message.push(0x80);
        key.encrypt(&mut message);
        assert_eq!(message, hex(&source[expected]));
    }
}
