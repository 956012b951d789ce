//! Single changes of a token, for tests that look at what becomes of them: `--do "ACTION ARGUMENT…"` prints the
//! value of the first call that did not succeed, or `CKR_OK`.

use cryptoki_sys::*;
use p256::elliptic_curve::sec1::ToSec1Point;

use crate::context::{Context, RW, bytes, curve, flag, key_templates, long, name};
use crate::module::{Result, Rv};
use crate::session::{Object, Session};

/// Does it and says how it ended, in the name of a `CK_RV`.
pub(crate) fn act(context: &Context, action: &str) -> String {
    let words: Vec<&str> = action.split(' ').collect();
    match perform(context, &words) {
        Ok(()) => "CKR_OK".into(),
        Err(Rv(value)) => name(value),
    }
}

fn perform(context: &Context, words: &[&str]) -> Result {
    let session = context.open(RW)?;
    match words {
        ["init-pin", new] => {
            session.login_officer()?;
            session.init_pin(new.as_bytes())
        }
        ["set-so-pin", new] => {
            session.login_officer()?;
            session.set_pin(&context.token.so_pin, new)
        }
        ["set-pin", new] => {
            session.login_user()?;
            session.set_pin(&context.token.pin, new)
        }
        rest => {
            session.login_user()?;
            change(session, rest)
        }
    }
}

fn change(session: Session<'_>, words: &[&str]) -> Result {
    match words {
        ["generate", label] => {
            let (public, private) = key_templates(label, curve());
            session
                .generate(CKM_EC_KEY_PAIR_GEN, &public, &private)
                .map(drop)
        }
        ["import", label] => {
            let scalar = [0x33; 32];
            let key = p256::SecretKey::from_slice(&scalar).expect("a key");
            let point = key.public_key().to_sec1_point(false);
            let template = [
                long(CKA_CLASS, CKO_PRIVATE_KEY),
                long(CKA_KEY_TYPE, CKK_EC),
                flag(CKA_TOKEN, true),
                flag(CKA_PRIVATE, true),
                bytes(CKA_LABEL, label),
                curve()[0].clone(),
                bytes(CKA_VALUE, scalar),
                bytes(CKA_EC_POINT, [&[4, 65][..], point.as_bytes()].concat()),
            ];
            session.create(&template).map(drop)
        }
        ["delete", label] => session.destroy(first(session, CKO_PRIVATE_KEY, label)?),
        ["rename", label, new] => {
            let key = first(session, CKO_PRIVATE_KEY, label)?;
            session.set(key, &[bytes(CKA_LABEL, new), bytes(CKA_ID, [7, 7])])
        }
        ["certificate", file] => {
            let der = std::fs::read(file).expect("a certificate");
            let template = [
                long(CKA_CLASS, CKO_CERTIFICATE),
                long(CKA_CERTIFICATE_TYPE, CKC_X_509),
                flag(CKA_TOKEN, true),
                bytes(CKA_VALUE, der),
            ];
            session.create(&template).map(drop)
        }
        ["delete-certificate"] => {
            let found = session.find(&[long(CKA_CLASS, CKO_CERTIFICATE)])?;
            session.destroy(*found.first().expect("a certificate"))
        }
        ["data", label] => {
            let template = [
                long(CKA_CLASS, CKO_DATA),
                flag(CKA_TOKEN, true),
                bytes(CKA_LABEL, label),
                bytes(CKA_APPLICATION, "test"),
                bytes(CKA_VALUE, [7; 300]),
            ];
            session.create(&template).map(drop)
        }
        ["delete-data", label] => session.destroy(first(session, CKO_DATA, label)?),
        _ => Err(Rv(CKR_ARGUMENTS_BAD)),
    }
}

fn first(session: Session<'_>, class: CK_OBJECT_CLASS, label: &str) -> Result<Object> {
    let found = session.find(&[long(CKA_CLASS, class), bytes(CKA_LABEL, label)])?;
    Ok(*found.first().expect("the object is there"))
}
