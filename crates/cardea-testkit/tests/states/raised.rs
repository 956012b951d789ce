//! Somebody who knows the PUK gives the PIN as many tries as there are, behind a daemon that runs.

use cardea_card::record::{CardRecord, IndexRole};
use cardea_client::message::{
    CardState, CardsRequest, CreateCard, FailureKind, NewContent, Page, Reply, Request,
};
use cardea_store::Store;
use cardea_testkit::process::wait_for;
use cardea_tpm::policy::{ApprovalId, name_of, role_ref};

use crate::{PIN, Place, secret};

const PUK: &[u8] = b"31415926";

/// TPM_RS_PW.
const PASSWORD: u32 = 0x4000_0009;
const NULL: u32 = 0x4000_0007;

/// TPM2B.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes()[..], bytes].concat()
}

/// TPMS_AUTH_COMMAND without a nonce: a password, or a session without a key.
fn authorisation(handle: u32, value: &[u8]) -> Vec<u8> {
    let area = [&handle.to_be_bytes()[..], &[0, 0, 0], &sized(value)].concat();
    let length = u32::try_from(area.len()).unwrap();
    [&length.to_be_bytes()[..], &area].concat()
}

impl Place {
    /// A command by hand: what follows the code of a successful answer.
    fn raw(&self, code: u32, handles: &[u32], authorisation: &[u8], parameters: &[u8]) -> Vec<u8> {
        let handles: Vec<u8> = handles.iter().flat_map(|h| h.to_be_bytes()).collect();
        let body = [&handles[..], authorisation, parameters].concat();
        let mut command = vec![0x80, if authorisation.is_empty() { 1 } else { 2 }];
        let length = u32::try_from(body.len() + 10).unwrap();
        command.extend(length.to_be_bytes());
        command.extend(code.to_be_bytes());
        command.extend(body);
        let answer = self.tpm.transact(&command).unwrap();
        assert_eq!(answer[6..10], [0; 4], "command 0x{code:X}");
        answer[10..].to_vec()
    }

    /// The card file, as whoever has a copy of it reads it.
    pub(crate) fn record(&self) -> CardRecord {
        let copy = tempfile::tempdir().unwrap();
        let state = copy.path().join("state");
        let mut command = std::process::Command::new("cp");
        let copied = command
            .arg("-a")
            .arg(self.daemon.state())
            .arg(&state)
            .status();
        assert!(copied.unwrap().success());
        let store = Store::open(&state).unwrap();
        store.cards().unwrap().remove(0).content.unwrap()
    }

    /// NV_Write of the PIN's counter under the approval that the PUK opens.
    fn write_counter(&self, record: &CardRecord, count: u32, limit: u32) {
        let index = |role| {
            let mut indices = record.tpm.indices.iter();
            indices.find(|index| index.role == role).unwrap()
        };
        let (pin, puk) = (index(IndexRole::Pin), index(IndexRole::Puk));
        let value = cardea_tpm::auth::auth_value(&record.tpm.salt, IndexRole::Puk, PUK);
        let started = [&sized(&[5; 16])[..], &[0, 0, 1, 0, 0x10, 0, 0x0B]].concat();
        let session = self.raw(0x176, &[NULL, NULL], &[], &started);
        let session = u32::from_be_bytes(session[..4].try_into().unwrap());
        let id = ApprovalId::P4;
        let (Some((_, policy_ref)), command) = id.policy() else {
            panic!("the PUK is asked for")
        };
        let stripped = cardea_tpm::auth::without_trailing_zeros(&value[..]);
        let secret = [&[0; 4][..], &sized(policy_ref), &[0; 4]].concat();
        let password = authorisation(PASSWORD, stripped);
        self.raw(0x151, &[puk.handle, session], &password, &secret);
        self.raw(0x16C, &[session], &[], &command.to_be_bytes());
        let mut approvals = record.tpm.approvals.iter();
        let approval = approvals
            .find(|approval| approval.id == id.as_str())
            .unwrap();
        let authorised = [
            &sized(&approval.digest)[..],
            &sized(role_ref(IndexRole::Pin)),
            &sized(&name_of(&record.tpm.birth_public)),
            &approval.ticket,
        ]
        .concat();
        self.raw(0x16A, &[session], &[], &authorised);
        let data = [count.to_be_bytes(), limit.to_be_bytes()].concat();
        let data = [&sized(&data)[..], &[0, 0]].concat();
        let empty = authorisation(session, &[]);
        self.raw(command, &[pin.handle, pin.handle], &empty, &data);
    }
}

#[test]
fn limit_that_is_raised_behind_a_running_daemon_puts_the_card_out_of_use_for_good() {
    let mut place = Place::new();
    let content = NewContent::Personalised {
        pin: secret(PIN),
        puk: Some(secret(PUK)),
        admin_key: None,
        blank: false,
    };
    place
        .ask(&Request::Cards(CardsRequest::Create(Box::new(
            CreateCard::new("card", content),
        ))))
        .unwrap();
    place.verify(PIN).unwrap();
    let record = place.record();
    place.write_counter(&record, 0, u32::MAX);
    // Whoever looks at the card finds it.
    wait_for("the counter is looked at", || {
        place.state().0 != CardState::Ready
    });
    let (state, reason) = place.state();
    assert_eq!(state, CardState::Unreadable);
    assert!(
        reason.contains("allows 4294967295 tries where 5 were set"),
        "{reason}"
    );
    assert_eq!(place.verify(PIN).unwrap_err().kind, FailureKind::Failed);
    let audit = place.daemon.printed(&["audit", "--json"]);
    assert_eq!(audit.matches("\"card-lost\"").count(), 1, "{audit}");
    let Ok(Reply::Cards(Page { entries: cards, .. })) =
        place.ask(&Request::Cards(CardsRequest::List { from: None }))
    else {
        panic!("no list")
    };
    assert_eq!(cards[0].slot, None);
    // Put back, it is not forgiven: the PIN may be somebody else's by now.
    place.write_counter(&record, 0, 5);
    assert_eq!(place.verify(PIN).unwrap_err().kind, FailureKind::Failed);
    assert_eq!(place.state().0, CardState::Unreadable);
    place.write_counter(&record, 0, 6);
    place.daemon.restart();
    wait_for("the same at start", || {
        place.state().0 == CardState::Unreadable
    });
    assert!(
        place.state().1.contains("allows 6 tries"),
        "{}",
        place.state().1
    );
}
