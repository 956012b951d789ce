//! A verifier in another language, written from the document alone, agrees code by code.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use cardea_terms::KeyClass;

use super::Random;
use super::lies::{Lie, all};
use super::maker::{CA, CardKey, Expected, Kind, Maker, authority};
use crate::{Claims, Code, Refusal};

/// What the other verifier writes for a result of ours.
fn in_its_words(result: &Result<Claims, Refusal>) -> String {
    match result {
        Err(refusal) => refusal.code.to_string(),
        Ok(claims) => {
            let mut text = format!(
                "ok {} {} {}",
                claims.level.number(),
                claims.pin.limit,
                claims.pin.wrong
            );
            for key in &claims.keys {
                let (origin, class) = (key.origin.word(), key.class.word());
                write!(text, " {origin}/{class}/{}", key.recovery.len()).unwrap();
            }
            text
        }
    }
}

fn hex_list(list: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let each = list
        .into_iter()
        .map(|one| base16ct::lower::encode_string(one.as_ref()));
    each.collect::<Vec<_>>().join(",")
}

/// A case as the other verifier reads it.
fn line(bundle: &Path, authority: &Path, expected: &Expected) -> String {
    let mut words = vec![
        format!("bundle={}", bundle.display()),
        format!("authority={}", authority.display()),
        format!("now={}", expected.now),
        format!("pins={}", hex_list(&expected.pins)),
    ];
    let mut add = |name: &str, value: String| words.push(format!("{name}={value}"));
    if let Some(nonce) = &expected.nonce {
        add("nonce", hex_list([nonce]));
    }
    for revoked in &expected.revoked {
        let parts = [&revoked.issuer, &revoked.serial];
        add("revoked", hex_list(parts).replace(',', "/"));
    }
    let requirements = &expected.requirements;
    if let Some(limit) = requirements.pin_limit {
        add("pin_limit", limit.to_string());
    }
    if let Some(level) = requirements.level {
        add("level", level.number().to_string());
    }
    if let Some(authorities) = &requirements.authorities {
        add("accepted", hex_list(authorities));
    }
    for bad in &requirements.bad_firmware {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let (model, version) = (part(&bad.model), part(&bad.version));
        add("bad", format!("{}/{model}/{version}", bad.manufacturer));
    }
    if let Some(names) = &requirements.recovery {
        add("recovery", hex_list(names));
    }
    for (name, is_set) in [
        ("no_administrator", requirements.no_administrator),
        ("generated_only", requirements.generated_only),
        ("always_only", requirements.always_only),
    ] {
        if is_set {
            add(name, "yes".to_owned());
        }
    }
    words.join(" ")
}

/// Every lie; evidence of many cards; and evidence with a bit changed, outside the certificates, which the two do not
/// read with the same care.
fn cases() -> Vec<(Vec<u8>, Expected)> {
    let mut cases: Vec<_> = all()
        .into_iter()
        .map(
            |Lie {
                 maker, expected, ..
             }| (maker.bytes(), expected),
        )
        .collect();
    let mut random = Random(200);
    for number in 0..40u32 {
        let kinds = [Kind::P256, Kind::P384, Kind::Rsa2048];
        let keys = (0..random.below(4)).map(|_| {
            let class = [KeyClass::Always, KeyClass::Session][random.below(2)];
            let attributes = [0x0006_0432, 0x0006_0400][random.below(2)];
            CardKey {
                has_creation: random.below(2) == 0,
                ..CardKey::new(kinds[random.below(3)], attributes, class)
            }
        });
        let keys = keys.collect();
        let base = match number % 4 {
            0 => Maker::approved(),
            _ => Maker {
                has_witness: number % 4 != 1,
                has_adm: random.below(2) == 0,
                has_puk: random.below(2) == 0,
                ..Maker::default()
            },
        };
        let maker = Maker {
            keys,
            limit: number + 3,
            note: (number % 3 == 0).then(|| "a note".to_owned()),
            ..base
        };
        cases.push((maker.bytes(), Expected::default()));
    }
    let bundle = Maker::default().bundle();
    let (good, certificate) = (bundle.encode(), &bundle.certificates[0]);
    let start = good
        .windows(certificate.len())
        .position(|window| window == certificate);
    let start = start.unwrap();
    while cases.len() < 240 {
        let at = random.below(good.len());
        if !(start..start + certificate.len()).contains(&at) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << random.below(8);
            cases.push((bytes, Expected::default()));
        }
    }
    cases
}

#[test]
fn verifier_in_python_agrees_on_every_bundle_code_by_code() {
    let folder = tempfile::tempdir().unwrap();
    let authority_file = folder.path().join("authority.der");
    std::fs::write(&authority_file, authority("Test CA", &CA).der()).unwrap();
    let cases = cases();
    let mut input = String::new();
    for (number, (bytes, expected)) in cases.iter().enumerate() {
        let file = folder.path().join(format!("{number}.evidence"));
        std::fs::write(&file, bytes).unwrap();
        writeln!(input, "{}", line(&file, &authority_file, expected)).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stranger.py");
    let mut program = Command::new("/usr/bin/python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = program.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "the verifier in Python fails");
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said.len(), cases.len());
    let mut codes = std::collections::BTreeSet::new();
    for (number, ((bytes, expected), said)) in cases.iter().zip(said).enumerate() {
        let ours = expected.verify(bytes);
        assert_eq!(in_its_words(&ours), said, "case {number}: {ours:?}");
        codes.extend(ours.err().map(|refusal| refusal.code));
    }
    let of_verifier = Code::ALL.iter().filter(|code| code.number() < 1100);
    assert_eq!(codes.len(), of_verifier.count());
}
