//! Every attack on the way to the TPM against the engine as it is.

use crate::withstood::withstood;
use crate::{
    answers_bus, creation_bus, entry_bus, forgetful, import_bus, recoverable_bus, ticket_bus,
};

#[test]
fn interposer_at_creation_cannot_take_the_card_over_later() {
    withstood(creation_bus::takeover_after_creation());
}

#[test]
fn interposers_session_is_not_armed_at_login() {
    withstood(entry_bus::session_exchanged_at_login());
}

#[test]
fn interposers_session_is_not_armed_for_one_use_at_login() {
    withstood(entry_bus::session_for_one_use_exchanged_at_login());
}

#[test]
fn interposers_session_is_not_approved_at_a_pin_change() {
    withstood(entry_bus::session_exchanged_at_a_pin_change());
}

#[test]
fn interposers_session_is_not_approved_at_a_puk_change() {
    withstood(entry_bus::session_exchanged_at_a_puk_change());
}

#[test]
fn interposers_session_is_not_approved_at_unblocking() {
    withstood(entry_bus::session_exchanged_at_unblocking());
}

#[test]
fn interposers_session_is_not_approved_by_an_administrators_answer() {
    withstood(entry_bus::session_exchanged_at_an_administrators_answer());
}

#[test]
fn session_with_the_same_handle_is_not_armed() {
    withstood(entry_bus::session_with_the_same_handle());
}

#[test]
fn listener_learns_no_recoverable_key() {
    withstood(recoverable_bus::listening_to_copy_and_restore());
}

#[test]
fn every_comparison_names_its_sessions_nonce() {
    withstood(entry_bus::comparison_without_a_nonce());
}

#[test]
fn counter_that_was_changed_on_the_way_is_not_shown() {
    withstood(answers_bus::counter_shown_as_full());
}

#[test]
fn wrong_pin_costs_one_try_whatever_the_answer() {
    withstood(answers_bus::wrong_pin_that_costs_two_tries());
}

#[test]
fn interrupted_change_is_never_told_as_failed() {
    withstood(answers_bus::change_reported_as_failed());
}

#[test]
fn limit_raised_under_a_running_service_is_damage() {
    withstood(answers_bus::limit_raised_under_a_running_service());
}

#[test]
fn full_slots_before_a_comparison_are_emptied() {
    answers_bus::full_slots_before_a_comparison();
}

#[test]
fn puk_that_was_listened_to_gives_nothing() {
    withstood(ticket_bus::tickets_of_the_puk());
}

#[test]
fn saved_sessions_that_were_heard_serve_no_other_process() {
    withstood(ticket_bus::sessions_saved_for_the_puk());
}

#[test]
fn administrators_answer_that_was_listened_to_gives_nothing() {
    withstood(ticket_bus::tickets_of_the_administrator());
}

#[test]
fn recorded_import_gives_no_key() {
    withstood(import_bus::rewrapping_a_recorded_import());
}

#[test]
fn card_made_with_firmware_that_forgets_wrong_pins_stays_blocked() {
    withstood(forgetful::creation_with_forgetful_firmware());
}

#[test]
fn no_card_is_used_with_firmware_that_forgets_wrong_pins() {
    withstood(forgetful::guesses_without_end());
}
