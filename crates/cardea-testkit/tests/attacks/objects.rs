//! The attacks against cards in object mode.
//!
//! Those that such a card withstands like any other are carried out by the same code. Those that succeed by design are
//! shown to succeed, so that what users are told is neither more nor less than the truth: `card create` prints them and
//! docs/threat-model.md lists them.

mod guesses;
mod limits;
mod replaced;

use crate::bench::{Outcome, in_object_mode};
use crate::withstood::withstood;
use crate::{bus, entry_bus, forged, recoverable, roots, sessions, tickets, vault};

fn object_mode_withstands(attack: fn() -> Outcome) {
    withstood(in_object_mode(attack));
}

#[test]
fn object_made_again_or_edited_is_not_the_card_and_nothing_signs() {
    object_mode_withstands(replaced::object_made_again);
    object_mode_withstands(replaced::object_of_another_card);
}

#[test]
fn every_guess_at_an_object_through_any_command_counts_towards_the_lockout() {
    object_mode_withstands(guesses::every_way_to_guess);
}

#[test]
fn file_in_object_mode_and_tpm_without_a_secret_reset_no_pin() {
    object_mode_withstands(replaced::pin_reset_without_a_secret);
}

#[test]
fn ticket_of_a_card_in_object_mode_ends_with_every_restart_and_serves_no_other_key() {
    object_mode_withstands(tickets::used_after_a_restart);
    object_mode_withstands(tickets::used_for_a_key_that_wants_the_pin_every_time);
}

#[test]
fn armed_session_of_a_card_in_object_mode_serves_no_other_process() {
    object_mode_withstands(sessions::armed_session_of_the_daemon);
}

#[test]
fn answer_and_planted_entry_of_a_card_in_object_mode_reveal_no_key() {
    object_mode_withstands(vault::admin_key_from_an_external_answer);
    object_mode_withstands(vault::planted_entry);
}

#[test]
fn listener_hears_no_secret_of_cards_in_object_mode() {
    object_mode_withstands(bus::listening);
}

#[test]
fn imported_key_of_a_card_in_object_mode_never_signs_as_a_generated_one() {
    object_mode_withstands(forged::imported_key_shown_as_generated);
}

#[test]
fn recoverable_key_of_a_card_in_object_mode_is_for_its_recovery_keys_only() {
    object_mode_withstands(recoverable::duplicating_to_others);
    object_mode_withstands(recoverable::other_targets_shown);
    object_mode_withstands(recoverable::copy_changed_on_the_way);
    object_mode_withstands(recoverable::copy_used_on_another_tpm);
}

#[test]
fn planted_root_and_switched_off_hierarchy_cost_no_card_in_object_mode() {
    object_mode_withstands(roots::planted_root);
    object_mode_withstands(roots::hierarchy_switched_off);
}

#[test]
fn interposers_session_is_not_armed_at_a_login_in_object_mode() {
    object_mode_withstands(entry_bus::session_exchanged_at_login);
    object_mode_withstands(entry_bus::session_for_one_use_exchanged_at_login);
}

#[test]
fn interposers_session_is_not_approved_at_unblocking_in_object_mode() {
    object_mode_withstands(entry_bus::session_exchanged_at_unblocking);
}
