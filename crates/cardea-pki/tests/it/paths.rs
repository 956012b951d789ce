//! Certification paths: what OpenSSL made, in all algorithms, and lies of every kind.

use std::path::Path;
use std::process::Command;

use cardea_pki::{
    CertificateDraft, Extension, KeyUsage, PathCertificate, PathError, PathRules, RawPublicKey,
    SignatureAlgorithm,
};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256};

const EK: &str = "2.23.133.8.1";
const NOW: i64 = 1_800_000_000;
const YEAR: i64 = 31_536_000;

/// What a certificate is made of; the defaults are an authority's.
struct Shape {
    name: &'static str,
    issuer: &'static str,
    key: u8,
    signer: u8,
    from: i64,
    until: i64,
    extensions: Vec<Extension>,
}

fn authority(name: &'static str, key: u8, issuer: &'static str, signer: u8) -> Shape {
    Shape {
        name,
        issuer,
        key,
        signer,
        from: NOW - YEAR,
        until: NOW + YEAR,
        extensions: vec![
            Extension::basic_constraints(true, None),
            Extension::key_usage(&[KeyUsage::KeyCertSign]),
        ],
    }
}

fn leaf(issuer: &'static str, signer: u8) -> Shape {
    Shape {
        name: "",
        extensions: vec![
            Extension::basic_constraints(false, None),
            Extension::extended_key_usages(&[EK]).unwrap(),
            Extension::directory_name(
                &[
                    ("2.23.133.2.1", "id:00001014"),
                    ("2.23.133.2.2", "swtpm"),
                    ("2.23.133.2.3", "id:20191023"),
                ],
                true,
            )
            .unwrap(),
            // The specification that the TPM follows.
            Extension::new("2.5.29.9", true, &[0x30, 0]).unwrap(),
        ],
        ..authority("", 9, issuer, signer)
    }
}

fn signing_key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).unwrap()
}

fn name(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return vec![0x30, 0];
    }
    let len = u8::try_from(text.len()).unwrap();
    [
        &[0x30, len + 11, 0x31, len + 9, 0x30, len + 7][..],
        &[6, 3, 0x55, 4, 3, 0x0c, len],
        text.as_bytes(),
    ]
    .concat()
}

impl Shape {
    fn der(&self) -> Vec<u8> {
        let key = signing_key(self.key);
        let point = key.verifying_key().to_sec1_point(false);
        let key = cardea_pki::PublicKey::from_ec_point(cardea_pki::Curve::P256, point.as_bytes());
        let body = CertificateDraft {
            serial: &[1, self.key],
            issuer: &name(self.issuer),
            subject: &name(self.name),
            not_before: self.from,
            not_after: self.until,
            spki: &key.unwrap().to_spki_der(),
            extensions: &self.extensions,
        }
        .to_be_signed(SignatureAlgorithm::EcdsaSha256)
        .unwrap();
        let signature: Signature = signing_key(self.signer)
            .sign_prehash(&Sha256::digest(&body))
            .unwrap();
        let signature = signature.to_der();
        CertificateDraft::finish(&body, SignatureAlgorithm::EcdsaSha256, signature.as_bytes())
    }

    fn certificate(&self) -> PathCertificate {
        PathCertificate::parse(&self.der()).unwrap()
    }
}

/// What `openssl` says in a folder, with arguments that blanks separate; it must succeed.
fn openssl_in(folder: &Path, line: &str) -> String {
    let arguments = line.split_ascii_whitespace();
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn validate(
    leaf: &PathCertificate,
    intermediates: &[PathCertificate],
    anchors: &[PathCertificate],
) -> Result<usize, PathError> {
    PathRules {
        anchors,
        intermediates,
        now: NOW,
        purpose: EK,
        is_revoked: &|_| false,
    }
    .validate(leaf)
    .map(|issuers| issuers.len())
}

#[test]
fn path_is_found_through_an_intermediate_and_what_it_says_is_read() {
    let root = authority("root", 1, "root", 1).certificate();
    let middle = authority("middle", 2, "root", 1).certificate();
    let other = authority("middle", 3, "root", 1).certificate();
    let leaf = leaf("middle", 2).certificate();
    let roots = [root.clone()];
    // The authority of the same name and another key is tried and left.
    assert_eq!(validate(&leaf, &[other, middle.clone()], &roots), Ok(2));
    assert_eq!(validate(&leaf, &[], &[middle]), Ok(1));
    assert_eq!(validate(&leaf, &[], std::slice::from_ref(&leaf)), Ok(0));
    assert_eq!(leaf.directory_attribute("2.23.133.2.2"), Some("swtpm"));
    assert_eq!(leaf.directory_attribute("2.23.133.2.9"), None);
    assert_eq!(leaf.extended_key_usages(), Some(&[EK.to_owned()][..]));
    assert!(leaf.allows(KeyUsage::KeyAgreement) && leaf.subject().is_empty());
    assert!(matches!(leaf.raw_public_key(), Ok(RawPublicKey::Ec { .. })));
}

#[test]
fn every_lie_is_refused_with_its_error() {
    let root = || authority("root", 1, "root", 1);
    let middle = || authority("middle", 2, "root", 1);
    let check = |leaf: &Shape, middle: &Shape, root: &Shape| {
        validate(
            &leaf.certificate(),
            &[middle.certificate()],
            &[root.certificate()],
        )
    };
    let good = leaf("middle", 2);
    assert_eq!(check(&good, &middle(), &root()), Ok(2));

    assert_eq!(
        check(&leaf("middle", 7), &middle(), &root()),
        Err(PathError::Signature)
    );
    assert_eq!(
        check(&leaf("elsewhere", 2), &middle(), &root()),
        Err(PathError::UnknownIssuer)
    );
    for changed in 0..3 {
        let mut shapes = [leaf("middle", 2), middle(), root()];
        shapes[changed].until = NOW - 1;
        assert_eq!(
            check(&shapes[0], &shapes[1], &shapes[2]),
            Err(PathError::Expired)
        );
        shapes[changed].until = NOW;
        assert_eq!(check(&shapes[0], &shapes[1], &shapes[2]), Ok(2));
        shapes[changed].until = NOW + YEAR;
        shapes[changed].from = NOW + 1;
        assert_eq!(
            check(&shapes[0], &shapes[1], &shapes[2]),
            Err(PathError::NotYetValid)
        );
        shapes[changed].from = NOW;
        let critical = Extension::new("2.5.29.30", true, &[0x30, 0]).unwrap();
        shapes[changed].extensions.push(critical);
        assert_eq!(
            check(&shapes[0], &shapes[1], &shapes[2]),
            Err(PathError::CriticalExtension("2.5.29.30".to_owned()))
        );
    }

    let mut not_an_authority = middle();
    not_an_authority.extensions[0] = Extension::basic_constraints(false, None);
    let mut without_constraints = middle();
    without_constraints.extensions.remove(0);
    let mut may_not_sign = middle();
    may_not_sign.extensions[1] = Extension::key_usage(&[KeyUsage::DigitalSignature]);
    for shape in [not_an_authority, without_constraints, may_not_sign] {
        assert_eq!(
            check(&good, &shape, &root()),
            Err(PathError::NotAnAuthority)
        );
    }

    let mut short = root();
    short.extensions[0] = Extension::basic_constraints(true, Some(0));
    assert_eq!(check(&good, &middle(), &short), Err(PathError::PathLength));
    short.extensions[0] = Extension::basic_constraints(true, Some(1));
    assert_eq!(check(&good, &middle(), &short), Ok(2));

    let mut for_servers = middle();
    let usage = Extension::extended_key_usages(&["1.3.6.1.5.5.7.3.1"]).unwrap();
    for_servers.extensions.push(usage);
    assert_eq!(check(&good, &for_servers, &root()), Err(PathError::Purpose));
}

#[test]
fn revoked_certificate_is_refused_wherever_it_is() {
    let anchors = [authority("root", 1, "root", 1).certificate()];
    let intermediates = [authority("middle", 2, "root", 1).certificate()];
    let leaf = leaf("middle", 2).certificate();
    for revoked in [&leaf, &intermediates[0], &anchors[0]] {
        let rules = PathRules {
            anchors: &anchors,
            intermediates: &intermediates,
            now: NOW,
            purpose: EK,
            is_revoked: &|certificate| certificate == revoked,
        };
        assert_eq!(rules.validate(&leaf), Err(PathError::Revoked));
    }
}

#[test]
fn loops_and_long_chains_end() {
    let leaf = leaf("a", 2).certificate();
    let anchors = [authority("root", 1, "root", 1).certificate()];
    let a = authority("a", 2, "b", 3).certificate();
    let b = authority("b", 3, "a", 2).certificate();
    assert_eq!(validate(&leaf, &[a, b], &anchors), Err(PathError::Loop));

    // Authorities that all have one name, and each issued all others: paths without number.
    let crowd: Vec<_> = (10..40)
        .map(|key| authority("a", key, "a", 2).certificate())
        .chain([authority("a", 2, "a", 2).certificate()])
        .collect();
    let error = validate(&leaf, &crowd, &anchors).unwrap_err();
    assert!(
        [PathError::Signature, PathError::TooLong, PathError::Loop].contains(&error),
        "{error}"
    );

    const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "root"];
    let chain: Vec<_> = (0..8u8)
        .map(|at| {
            let below = usize::from(at);
            authority(NAMES[below], at + 2, NAMES[below + 1], at + 3).certificate()
        })
        .collect();
    let top = [authority("root", 10, "root", 10).certificate()];
    assert_eq!(validate(&leaf, &chain, &top), Err(PathError::TooLong));
}

#[test]
fn junk_and_damage_are_refused_at_every_byte() {
    let der = leaf("root", 1).der();
    let anchors = [authority("root", 1, "root", 1).certificate()];
    assert_eq!(
        PathCertificate::parse(&[&der[..], &[0]].concat()),
        Err(PathError::Junk)
    );
    for cut in 0..der.len() {
        assert!(PathCertificate::parse(&der[..cut]).is_err(), "{cut}");
    }
    for at in 0..der.len() {
        let mut damaged = der.clone();
        damaged[at] ^= 1 << (at % 8);
        if let Ok(certificate) = PathCertificate::parse(&damaged) {
            assert!(validate(&certificate, &[], &anchors).is_err(), "{at}");
        }
    }
    let mut twice = leaf("root", 1);
    twice.extensions.push(twice.extensions[0].clone());
    assert_eq!(
        PathCertificate::parse(&twice.der()),
        Err(PathError::Encoding)
    );
}

#[test]
fn chains_of_openssl_are_valid_in_every_algorithm() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| openssl_in(folder.path(), line);
    std::fs::write(
        folder.path().join("leaf.ext"),
        "basicConstraints = critical,CA:false\nextendedKeyUsage = 2.23.133.8.1\n",
    )
    .unwrap();
    run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out leaf.key");
    run("req -new -key leaf.key -subj /CN=unknown -out leaf.csr");
    let pss = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
    let rsa = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    let curve = |name| format!("-algorithm EC -pkeyopt ec_paramgen_curve:{name}");
    run(&format!("genpkey {rsa} -out rsa.key"));
    for (number, name) in ["P-256", "P-384", "P-521", "brainpoolP256r1"]
        .into_iter()
        .enumerate()
    {
        run(&format!("genpkey {} -out ec{number}.key", curve(name)));
    }
    for (key, digest, options, expected) in [
        ("rsa", "sha256", "", Ok(1)),
        ("rsa", "sha512", "", Ok(1)),
        ("rsa", "sha256", pss, Ok(1)),
        ("rsa", "sha384", pss, Ok(1)),
        ("rsa", "sha512", pss, Ok(1)),
        ("ec0", "sha256", "", Ok(1)),
        ("ec1", "sha384", "", Ok(1)),
        ("ec2", "sha512", "", Ok(1)),
        ("ec1", "sha512", "", Ok(1)),
        (
            "rsa",
            "sha1",
            "",
            Err(PathError::Algorithm("RSA with SHA-1".to_owned())),
        ),
        (
            "ec3",
            "sha256",
            "",
            Err(PathError::Algorithm(
                "on the curve 1.3.36.3.3.2.8.1.1.7".to_owned(),
            )),
        ),
    ] {
        run(&format!(
            "req -x509 -key {key}.key -subj /CN=root -days 30 -{digest} {options} -out root.pem \
             -addext keyUsage=critical,keyCertSign"
        ));
        run(&format!(
            "x509 -req -in leaf.csr -CA root.pem -CAkey {key}.key -{digest} {options} -days 30 \
             -set_serial 5 -extfile leaf.ext -out leaf.pem"
        ));
        let read = |file: &str| {
            let pem = std::fs::read(folder.path().join(file)).unwrap();
            let der = cardea_pki::Certificate::parse(&pem).unwrap();
            PathCertificate::parse(der.der()).unwrap()
        };
        let (leaf, root) = (read("leaf.pem"), read("root.pem"));
        let rules = PathRules {
            anchors: &[root],
            intermediates: &[],
            now: leaf.not_before(),
            purpose: EK,
            is_revoked: &|_| false,
        };
        let found = rules.validate(&leaf).map(|issuers| issuers.len());
        assert_eq!(found, expected, "{key} {digest} {options}");
    }
}

#[test]
fn openssl_reads_what_an_authority_issues() {
    let folder = tempfile::tempdir().unwrap();
    let mut shape = leaf("root", 1);
    shape
        .extensions
        .push(Extension::authority_key_identifier(&[1, 2, 3]));
    shape
        .extensions
        .push(Extension::subject_key_identifier(&[4, 5]));
    shape
        .extensions
        .push(Extension::policies(&["2.23.133.11.1.1"]).unwrap());
    std::fs::write(folder.path().join("leaf.der"), shape.der()).unwrap();
    let text = openssl_in(
        folder.path(),
        "x509 -inform DER -in leaf.der -noout -text -nameopt RFC2253",
    );
    for expected in [
        "Version: 3",
        "Issuer: CN=root",
        "2.23.133.2.2=swtpm",
        "Policy: 2.23.133.11.1.1",
        "01:02:03",
        "04:05",
    ] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
    assert_eq!(shape.certificate().policies(), ["2.23.133.11.1.1"]);
}
