//! What the design's attackers try, as far as it is the TPM's side.

use cardea_card::token::{KeyAlgorithm, KeyClass, KeyStore, PinReference};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::CardFault;
use cardea_tpm::policy::{
    ApprovalId, NV_DEFINED, NV_WRITTEN, cc, index_policy, name_of, nv_public, role_ref,
};

use crate::raw::{self, Auth};
use crate::support::{Kind, PIN, Swtpm, make, pin, token};

#[test]
fn record_that_borrows_another_cards_index_does_not_fit_itself() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let (victim, mut forged) = (make(&service, Kind::Plain), make(&service, Kind::Plain));
    forged.tpm.indices[0].handle = victim.tpm.indices[0].handle;
    assert!(matches!(
        service.check_card(&forged),
        Err(CardFault::Damaged(_))
    ));
    forged.tpm.indices[0]
        .name
        .clone_from(&victim.tpm.indices[0].name);
    assert!(matches!(
        service.check_card(&forged),
        Err(CardFault::Damaged(_))
    ));
    forged.tpm.indices[0].handle = 0x01C0_0002;
    assert!(matches!(
        service.check_card(&forged),
        Err(CardFault::Damaged(_))
    ));
    assert_eq!(
        token(&service, &victim)
            .status(PinReference::Pin)
            .unwrap()
            .left,
        5
    );
}

#[test]
fn index_made_again_under_the_same_policy_is_not_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let handle = card.tpm.indices[0].handle;
    service.destroy_card(&card.tpm).unwrap();
    // Root defines the identical index with a PIN of its own.
    let birth = name_of(&card.tpm.birth_public);
    let policy = index_policy(&birth, card.tpm.indices[0].role);
    let define = |attributes| {
        let public = nv_public(handle, attributes, &policy);
        let parameters = [raw::sized(b"root"), raw::sized(&public)].concat();
        let owner = [Auth::Password(&[])];
        raw::send(&service, 0x12A, &[raw::OWNER], &owner, &parameters).0
    };
    assert_eq!(define(NV_WRITTEN), 0x2C2, "it cannot be defined as written");
    assert_eq!(define(NV_DEFINED), 0);
    assert!(matches!(service.check_card(&card), Err(CardFault::Lost(_))));

    // And cannot make it WRITTEN: not with its own value, not as the owner, not under an open policy, and
    // not under any approval that the card file has.
    let data = [&raw::sized(&[0, 0, 0, 0, 0, 0, 0, 5])[..], &[0, 0]].concat();
    let write =
        |by: u32, auth: Auth<'_>| raw::send(&service, 0x137, &[by, handle], &[auth], &data).0;
    assert_eq!(write(handle, Auth::Password(b"root")), 0x12F);
    assert_eq!(write(raw::OWNER, Auth::Password(&[])), 0x149);
    let session = raw::policy_session(&service);
    raw::policy_command_code(&service, session, cc::NV_WRITE);
    assert_eq!(write(handle, Auth::Session(session)), 0x99D);
    raw::flush(&service, session);
    for approval in &card.tpm.approvals {
        let id = ApprovalId::parse(&approval.id).unwrap();
        let session = raw::policy_session(&service);
        if id.policy().0.is_some() {
            // The new index has another Name than the one that the approval asks for.
            raw::policy_secret(&service, handle, b"root", session, b"chg");
        }
        raw::policy_command_code(&service, session, id.policy().1);
        let policy_ref = role_ref(approval.role);
        let (digest, ticket) = (&approval.digest, &approval.ticket);
        let taken = raw::policy_authorize(&service, session, digest, policy_ref, &birth, ticket);
        assert_eq!(taken == 0, id.policy().0.is_none(), "{id:?}");
        assert_ne!(write(handle, Auth::Session(session)), 0, "{id:?}");
        raw::flush(&service, session);
    }
    assert!(matches!(service.check_card(&card), Err(CardFault::Lost(_))));
    let mut token = service.token(&card).unwrap();
    assert!(token.verify(PinReference::Pin, &pin(b"root")).is_err());

    // Its policy names the card's birth key, so that it is nobody else's and goes with the card.
    service.destroy_card(&card.tpm).unwrap();
    assert_eq!(service.defined_indices().unwrap(), [0u32; 0]);
}

#[test]
fn approval_of_another_tpm_is_damage() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::Plain);
    for approval in &mut card.tpm.approvals {
        let last = approval.ticket.len() - 1;
        approval.ticket[last] ^= 1;
    }
    let fault = service.check_card(&card).unwrap_err();
    assert!(matches!(fault, CardFault::Damaged(_)), "{fault}");
    // Its indices are its own all the same, and can be removed.
    card.tpm.approvals.clear();
    service.destroy_card(&card.tpm).unwrap();
    assert_eq!(service.defined_indices().unwrap(), [0u32; 0]);
}

#[test]
fn key_with_other_attributes_is_no_key_of_the_card() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let mut card = make(&service, Kind::Plain);
    let mut own = token(&service, &card);
    own.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let key = own
        .generate(0x81, KeyAlgorithm::P256, KeyClass::Session)
        .unwrap();
    let mut open = key.clone();
    open.object.public[7] |= 0x40; // userWithAuth: an empty password would sign
    assert!(own.describe(&open).is_err());
    card.keys.push(open);
    assert!(matches!(
        service.check_card(&card),
        Err(CardFault::Damaged(_))
    ));
    card.keys[0] = key;
    service.check_card(&card).unwrap();

    let other = make(&service, Kind::Plain);
    assert!(token(&service, &other).describe(&card.keys[0]).is_err());
}
