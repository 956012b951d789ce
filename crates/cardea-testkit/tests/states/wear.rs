//! How often the TPM writes to its permanent memory, which wears out, for what people do.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cardea_client::message::{
    Authority, CardRequest, CardsRequest, CreateCard, NewContent, Reference, Request,
};
use cardea_testkit::multiplexer::{Multiplexer, Passage};

use crate::{PIN, Place, number_at, secret};

const PUK: &[u8] = b"31415926";
const NEW: &[u8] = b"141421";

/// Codes of the commands after which the software TPM has written its state, which it does at once.
#[derive(Clone, Default)]
struct Writes(Arc<Mutex<Vec<u32>>>);

impl Writes {
    fn watch(tpm: &Multiplexer, state: PathBuf) -> Self {
        let writes = Self::default();
        let log = Arc::clone(&writes.0);
        let seen = move || {
            let file = std::fs::metadata(&state).unwrap();
            (file.ino(), file.mtime(), file.mtime_nsec())
        };
        let mut last = seen();
        tpm.interpose(
            move |_: u64, command: &[u8], tpm: &mut Passage<'_>| -> Option<Vec<u8>> {
                let answer = tpm.transact(command);
                let now = seen();
                if now != last {
                    last = now;
                    log.lock().unwrap().push(number_at(command, 6));
                }
                answer
            },
        );
        writes
    }

    /// By command, since the last time.
    fn taken(&self) -> BTreeMap<&'static str, usize> {
        let mut found = BTreeMap::new();
        for code in self.0.lock().unwrap().drain(..) {
            let name = match code {
                0x13B => "NV_ChangeAuth",
                0x137 => "NV_Write",
                0x12A => "NV_DefineSpace",
                0x122 => "NV_UndefineSpace",
                0x151 => "PolicySecret",
                0x120 => "EvictControl",
                _ => panic!("0x{code:X} writes"),
            };
            *found.entry(name).or_default() += 1;
        }
        found
    }
}

#[test]
fn permanent_memory_is_written_for_what_must_survive_and_nothing_else() {
    let place = Place::new();
    let content = NewContent::Personalised {
        pin: secret(PIN),
        puk: Some(secret(PUK)),
        admin_key: None,
        blank: false,
    };
    let order = CreateCard::new("card", content);
    place
        .ask(&Request::Cards(CardsRequest::Create(Box::new(order))))
        .unwrap();
    let state = place.folder.path().join("tpm/tpm2-00.permall");
    let writes = Writes::watch(&place.tpm, state);
    let expect = |about: &str, expected: &[(&'static str, usize)]| {
        assert_eq!(
            writes.taken(),
            expected.iter().copied().collect(),
            "{about}"
        );
    };
    let card = |request| place.ask(&Request::card("card", request));
    let key = place.key();
    expect("key made, PIN verified", &[]);
    place.sign(key).unwrap();
    expect("key used, PIN verified", &[]);
    place.verify(b"000000").unwrap_err();
    expect("wrong PIN", &[("PolicySecret", 1)]);
    place.verify(b"000000").unwrap_err();
    expect("another one", &[("PolicySecret", 1)]);
    place.verify(PIN).unwrap();
    expect("the right one after that", &[("PolicySecret", 1)]);
    let change = |old: &[u8], new: &[u8]| CardRequest::ChangePin {
        old: secret(old),
        new: secret(new),
        reference: Reference::Pin,
    };
    card(change(PIN, NEW)).unwrap();
    expect("PIN changed", &[("NV_ChangeAuth", 1)]);
    for _ in 0..5 {
        place.verify(b"000000").unwrap_err();
    }
    expect("blocked", &[("PolicySecret", 5)]);
    place.verify(b"000000").unwrap_err();
    expect("blocked already", &[]);
    let by = Authority::Puk(secret(PUK));
    let new = secret(PIN);
    card(CardRequest::UnblockPin { by, new }).unwrap();
    expect("unblocked", &[("NV_ChangeAuth", 1), ("NV_Write", 1)]);
    place.create("another").unwrap();
    expect("card made", &[("NV_DefineSpace", 1), ("NV_Write", 1)]);
    let destroy = CardRequest::Destroy { owner_auth: None };
    place.ask(&Request::card("another", destroy)).unwrap();
    expect("destroyed", &[("NV_UndefineSpace", 1)]);
}
