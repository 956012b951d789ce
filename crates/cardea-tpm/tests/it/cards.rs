//! Creation, PINs and their counters, destruction.

use cardea_card::token::{PinError, PinReference, PinStatus, TokenErrorKind};
use cardea_testkit::bare::BarePins as _;
use cardea_tpm::CardFault;

use crate::support::{Kind, PIN, PUK, Swtpm, make, new_card, pin, record, token};

#[test]
fn card_has_the_indices_it_needs_and_destruction_leaves_none() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    for (kind, indices, approvals) in [
        (Kind::Plain, 1, 3),
        (Kind::Admin, 2, 7),
        (Kind::Puk, 2, 7),
        (Kind::AdminAndPuk, 3, 9),
    ] {
        let card = make(&service, kind);
        assert_eq!(service.defined_indices().unwrap().len(), indices);
        assert_eq!(card.tpm.indices.len(), indices);
        assert_eq!(card.tpm.approvals.len(), approvals);
        assert_eq!(
            card.tpm.vault.is_some(),
            matches!(kind, Kind::Admin | Kind::AdminAndPuk)
        );
        service.check_card(&card).unwrap();
        service.destroy_card(&card.tpm).unwrap();
        assert_eq!(service.defined_indices().unwrap(), [0u32; 0]);
        assert!(matches!(service.check_card(&card), Err(CardFault::Lost(_))));
        service.destroy_card(&card.tpm).unwrap();
    }
}

#[test]
fn intent_names_what_creation_defines_and_nothing_else_is_undone() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let other = make(&service, Kind::Plain);
    let taken: Vec<u32> = other.tpm.indices.iter().map(|index| index.handle).collect();
    let prepared = service.prepare_card(&taken, new_card(Kind::Puk)).unwrap();
    let intent = prepared.intent();
    let card = record(service.create_card(prepared, &mut |_| {}).unwrap());
    let handles: Vec<u32> = card.tpm.indices.iter().map(|index| index.handle).collect();
    assert_eq!(
        handles,
        intent.iter().map(|index| index.handle).collect::<Vec<_>>()
    );

    let mut forged = intent.clone();
    forged[0].handle = other.tpm.indices[0].handle;
    service.undo_intent(&forged).unwrap();
    service.check_card(&other).unwrap();
    service.undo_intent(&intent).unwrap();
    assert!(matches!(service.check_card(&card), Err(CardFault::Lost(_))));
    service.check_card(&other).unwrap();
}

#[test]
fn leftover_of_an_interrupted_probe_is_removed_by_the_next_one() {
    let tpm = Swtpm::start();
    let public = {
        use cardea_tpm::policy::{NV_DEFINED, ZERO, cc, command_code, nv_public};
        let policy = command_code(&ZERO, cc::NV_WRITE);
        nv_public(0x01C2_FFFF, NV_DEFINED, &policy)
    };
    let service = tpm.service();
    let parameters = [crate::raw::sized(b"x"), crate::raw::sized(&public)].concat();
    let owner = [crate::raw::Auth::Password(&[])];
    let define = [crate::raw::OWNER];
    let (code, _) = crate::raw::send(&service, 0x12A, &define, &owner, &parameters);
    assert_eq!(code, 0);
    let card = make(&service, Kind::Plain);
    let left = service.defined_indices().unwrap();
    assert_eq!(left, [card.tpm.indices[0].handle]);
}

#[test]
fn failed_creation_leaves_nothing() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let prepared = service.prepare_card(&[], new_card(Kind::Puk)).unwrap();
    // Somebody takes the second handle meanwhile, with another policy.
    let puk = prepared.intent()[1].handle;
    let public = cardea_tpm::policy::nv_public(puk, cardea_tpm::policy::NV_DEFINED, &[9; 32]);
    let parameters = [crate::raw::sized(b"x"), crate::raw::sized(&public)].concat();
    let owner = [crate::raw::Auth::Password(&[])];
    let define = [crate::raw::OWNER];
    let (code, _) = crate::raw::send(&service, 0x12A, &define, &owner, &parameters);
    assert_eq!(code, 0);
    let error = service.create_card(prepared, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("NV_DefineSpace"), "{error}");
    assert_eq!(
        service.defined_indices().unwrap(),
        [puk],
        "only the other's"
    );
}

#[test]
fn progress_is_told_while_a_card_is_made() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let prepared = service.prepare_card(&[], new_card(Kind::Admin)).unwrap();
    let mut steps = Vec::new();
    service
        .create_card(prepared, &mut |step| steps.push(step.to_owned()))
        .unwrap();
    assert!(steps.len() >= 4, "{steps:?}");
}

#[test]
fn wrong_pin_costs_exactly_one_try_and_the_right_one_gives_them_back() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let status = |left| PinStatus { left, limit: 5 };
    assert_eq!(token.status(PinReference::Pin).unwrap(), status(5));
    for left in [4, 3] {
        let refused = token.verify(PinReference::Pin, &pin(b"000000"));
        assert!(matches!(refused, Err(PinError::Wrong { left: counted }) if counted == Some(left)));
        assert_eq!(token.status(PinReference::Pin).unwrap(), status(left));
    }
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    assert_eq!(token.status(PinReference::Pin).unwrap(), status(5));
}

#[test]
fn fifth_wrong_pin_blocks_that_card_only_and_not_the_tpm() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let (first, second) = (make(&service, Kind::Plain), make(&service, Kind::Plain));
    let (mut first, mut second) = (token(&service, &first), token(&service, &second));
    for _ in 0..5 {
        first
            .verify(PinReference::Pin, &pin(b"000000"))
            .unwrap_err();
    }
    assert_eq!(first.status(PinReference::Pin).unwrap().left, 0);
    assert!(matches!(
        first.verify(PinReference::Pin, &pin(PIN)),
        Err(PinError::Blocked)
    ));
    second.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let status = service.status().unwrap();
    assert_eq!(status.lockout_count, 0);
    assert!(!status.in_lockout);
}

#[test]
fn counter_survives_a_power_cut() {
    let mut tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token
        .verify(PinReference::Pin, &pin(b"000000"))
        .unwrap_err();
    tpm.power_cycle();
    service.check_card(&card).unwrap();
    let mut fresh = service.token(&card).unwrap();
    assert_eq!(fresh.status(PinReference::Pin).unwrap().left, 4);
}

#[test]
fn changed_pin_replaces_the_old_one() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    let new = pin(&[b'x'; 127]);
    let refused = token.change(PinReference::Pin, &pin(b"999999"), &new);
    assert!(matches!(refused, Err(PinError::Wrong { left: Some(4) })));
    token.change(PinReference::Pin, &pin(PIN), &new).unwrap();
    assert!(matches!(
        token.verify(PinReference::Pin, &pin(PIN)),
        Err(PinError::Wrong { left: Some(4) })
    ));
    token.verify(PinReference::Pin, &new).unwrap();
}

#[test]
fn puk_has_its_own_counter() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Puk);
    let mut with = token(&service, &card);
    with.verify(PinReference::Puk, &pin(PUK)).unwrap();
    let refused = with.verify(PinReference::Puk, &pin(b"00000000"));
    assert!(matches!(refused, Err(PinError::Wrong { left: Some(9) })));
    assert_eq!(with.status(PinReference::Pin).unwrap().left, 5);
    with.change(PinReference::Puk, &pin(PUK), &pin(b"11223344"))
        .unwrap();
    with.verify(PinReference::Puk, &pin(b"11223344")).unwrap();

    let without = make(&service, Kind::Plain);
    let error = token(&service, &without)
        .status(PinReference::Puk)
        .unwrap_err();
    assert_eq!(error.kind(), TokenErrorKind::NotConfigured);
}

#[test]
fn another_tpm_refuses_the_card() {
    let (tpm, other) = (Swtpm::start(), Swtpm::start());
    let card = make(&tpm.service(), Kind::Plain);
    let fault = other.service().check_card(&card).unwrap_err();
    assert!(matches!(fault, CardFault::Foreign));
    assert_eq!(fault.to_string(), "made by another TPM");
}

#[test]
fn verification_costs_at_most_three_commands_on_a_warm_channel() {
    let tpm = Swtpm::start();
    let service = tpm.service();
    let card = make(&service, Kind::Plain);
    let mut token = token(&service, &card);
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    let count = service.command_count();
    let before = count.get();
    token.verify(PinReference::Pin, &pin(PIN)).unwrap();
    assert!(count.get() - before <= 3, "{}", count.get() - before);
}
