//! A small certification authority: it challenges a TPM, and it decides about evidence.
//!
//! `authority challenge ROOTS-FOLDER EK-PUBLIC EK-CERTIFICATE AK-NAME-HEX` writes the parameters of
//! TPM2_ActivateCredential; `authority decide AUTHORITY-CERTIFICATE BUNDLE NONCE-HEX` says what is proven.
//! All files are binary: DER, TPMT_PUBLIC, CBOR.

#![expect(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use cardea_attest::{
    AttestationTrust, EkTrust, EndorsementKey, Level, Nonce, Requirements, Verifier,
    certificates_in_nv, make_credential,
};
use cardea_pki::PathCertificate;

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    match arguments[..] {
        ["challenge", roots, public, certificate, name] => {
            challenge(roots, public, certificate, name, now)
        }
        ["decide", authority, bundle, nonce] => decide(authority, bundle, nonce, now),
        _ => Err("authority challenge … or authority decide …; see the source".into()),
    }
}

fn challenge(folder: &str, public: &str, certificate: &str, name: &str, now: i64) -> Done {
    let mut roots = Vec::new();
    for file in std::fs::read_dir(folder)? {
        roots.push(PathCertificate::parse(&std::fs::read(file?.path())?)?);
    }
    let key = EndorsementKey::parse(&std::fs::read(public)?)?;
    let certificates = certificates_in_nv(&std::fs::read(certificate)?)?;
    let trust = EkTrust {
        roots: &roots,
        ..EkTrust::default()
    };
    println!("accepted: {:?}", trust.check(&key, &certificates, now)?);
    let name = base16ct::mixed::decode_vec(name).map_err(|_| "the Name is not hexadecimal")?;
    let name = name.try_into().map_err(|_| "a Name has 34 bytes")?;
    let urandom = std::fs::File::open("/dev/urandom")?;
    let mut random = |buffer: &mut [u8]| {
        // Without random bytes the buffer stays zero, and no credential is made of that.
        drop(std::io::Read::read_exact(&mut &urandom, buffer));
    };
    let mut secret = [0; 32];
    random(&mut secret);
    let made = make_credential(&key, &name, &secret, &mut random).ok_or("no credential")?;
    println!("keep:  {}", base16ct::lower::encode_string(&secret));
    println!("blob:  {}", base16ct::lower::encode_string(&made.blob));
    println!("seed:  {}", base16ct::lower::encode_string(&made.seed));
    Ok(())
}

fn decide(authority: &str, bundle: &str, nonce: &str, now: i64) -> Done {
    let authorities = [PathCertificate::parse(&std::fs::read(authority)?)?];
    let nonce = base16ct::mixed::decode_vec(nonce).map_err(|_| "the nonce is not hexadecimal")?;
    let verifier = Verifier {
        trust: AttestationTrust {
            authorities: &authorities,
            ..AttestationTrust::default()
        },
        nonce: Nonce::Exactly(&nonce),
        now,
        requirements: Requirements {
            pin_limit: Some(10),
            generated_only: true,
            ..Requirements::default()
        },
    };
    let claims = verifier.verify(&std::fs::read(bundle)?)?;
    println!("{claims}");
    if claims.level == Level::L1 {
        println!("Level 1: issue now, and revoke unless level 2 follows the next restart.");
    }
    Ok(())
}
