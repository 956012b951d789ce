//! Attacks on the way to the TPM against engines that are weak on purpose: each must succeed.

use cardea_card::weakened::Weakness;

use crate::weakened::succeeds;
use crate::{
    answers_bus, creation_bus, entry_bus, forgetful, import_bus, recoverable_bus, ticket_bus,
};

#[test]
fn takeover_works_if_a_birth_key_is_used_again() {
    succeeds(
        Weakness::BirthKeyUsedAgain,
        creation_bus::takeover_after_creation,
    );
}

#[test]
fn listener_has_a_restored_key_where_there_is_no_inner_wrap() {
    succeeds(
        Weakness::NoInnerWrap,
        recoverable_bus::listening_to_copy_and_restore,
    );
}

#[test]
fn exchanged_session_is_armed_at_login_if_it_is_not_proven() {
    succeeds(
        Weakness::UnprovenSessions,
        entry_bus::session_exchanged_at_login,
    );
}

#[test]
fn exchanged_session_is_armed_for_one_use_if_it_is_not_proven() {
    succeeds(
        Weakness::UnprovenSessions,
        entry_bus::session_for_one_use_exchanged_at_login,
    );
}

#[test]
fn exchanged_session_changes_the_pin_if_it_is_not_proven() {
    succeeds(
        Weakness::UnprovenSessions,
        entry_bus::session_exchanged_at_a_pin_change,
    );
}

#[test]
fn exchanged_session_changes_the_puk_if_it_is_not_proven() {
    succeeds(
        Weakness::UnprovenSessions,
        entry_bus::session_exchanged_at_a_puk_change,
    );
}

#[test]
fn exchanged_session_unblocks_if_it_is_not_proven() {
    succeeds(
        Weakness::UnprovenSessions,
        entry_bus::session_exchanged_at_unblocking,
    );
}

#[test]
fn exchanged_session_is_the_administrators_if_it_is_not_proven() {
    succeeds(
        Weakness::UnprovenSessions,
        entry_bus::session_exchanged_at_an_administrators_answer,
    );
}

#[test]
fn session_with_the_same_handle_is_armed_if_no_nonce_is_named() {
    succeeds(Weakness::NoNonces, entry_bus::session_with_the_same_handle);
}

#[test]
fn comparisons_without_a_nonce_are_found() {
    succeeds(Weakness::NoNonces, entry_bus::comparison_without_a_nonce);
}

#[test]
fn counter_is_shown_as_full_if_answers_are_believed() {
    succeeds(
        Weakness::BelievedCounters,
        answers_bus::counter_shown_as_full,
    );
}

#[test]
fn raised_limit_is_shown_if_answers_are_believed() {
    succeeds(
        Weakness::BelievedCounters,
        answers_bus::limit_raised_under_a_running_service,
    );
}

#[test]
fn wrong_pin_costs_two_tries_if_comparisons_are_repeated() {
    succeeds(
        Weakness::RepeatedSecrets,
        answers_bus::wrong_pin_that_costs_two_tries,
    );
}

#[test]
fn change_is_reported_as_failed_if_comparisons_are_repeated() {
    succeeds(
        Weakness::RepeatedSecrets,
        answers_bus::change_reported_as_failed,
    );
}

#[test]
fn puk_serves_a_listener_if_it_gives_tickets() {
    succeeds(Weakness::ProofTickets, ticket_bus::tickets_of_the_puk);
}

#[test]
fn saved_sessions_serve_a_listener_if_sessions_have_no_key() {
    succeeds(
        Weakness::UnsaltedSessions,
        ticket_bus::sessions_saved_for_the_puk,
    );
}

#[test]
fn administrators_answer_serves_a_listener_if_it_gives_tickets() {
    succeeds(
        Weakness::ProofTickets,
        ticket_bus::tickets_of_the_administrator,
    );
}

#[test]
fn recorded_import_gives_the_key_if_it_has_no_inner_wrap() {
    succeeds(
        Weakness::NoInnerWrap,
        import_bus::rewrapping_a_recorded_import,
    );
}

#[test]
fn new_card_is_guessed_with_forgetful_firmware_if_it_is_not_probed() {
    succeeds(
        Weakness::UncheckedCounters,
        forgetful::creation_with_forgetful_firmware,
    );
}

#[test]
fn pin_is_guessed_with_forgetful_firmware_if_it_is_not_probed() {
    succeeds(Weakness::UncheckedCounters, forgetful::guesses_without_end);
}
