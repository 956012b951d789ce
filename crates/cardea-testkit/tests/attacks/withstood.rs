//! Every attack against the engine as it is.

use crate::bench::Outcome;
use crate::{
    bus, edited, forged, guesses, hierarchies, lockout, matrix, memory, recoverable, rollback,
    roots, sessions, takeover, tickets, vault,
};

pub(crate) fn withstood(outcome: Outcome) {
    if let Err(what) = outcome {
        panic!("the attack succeeds: {what}");
    }
}

#[test]
fn counter_made_again_by_root_is_not_the_card_and_nothing_signs() {
    withstood(takeover::counter_made_again());
}

#[test]
fn policy_from_before_opens_no_hierarchy_once_the_authorisations_are_set() {
    withstood(hierarchies::policies_from_before());
}

#[test]
fn every_guess_through_any_command_costs_one_try_and_none_works_when_blocked() {
    withstood(guesses::every_way_to_guess());
}

#[test]
fn older_card_file_brings_back_no_pin_no_try_and_no_answer() {
    withstood(rollback::older_card_file());
}

#[test]
fn card_file_from_before_personalisation_resets_nothing() {
    withstood(rollback::card_file_of_the_initialisation());
}

#[test]
fn ticket_ends_with_its_time() {
    withstood(tickets::used_after_its_time());
}

#[test]
fn ticket_ends_although_the_owner_slows_the_clock() {
    withstood(tickets::used_while_the_clock_is_slow());
}

#[test]
fn ticket_ends_with_every_kind_of_restart() {
    withstood(tickets::used_after_a_restart());
}

#[test]
fn ticket_serves_no_key_that_wants_the_pin_every_time() {
    withstood(tickets::used_for_a_key_that_wants_the_pin_every_time());
}

#[test]
fn armed_session_serves_no_other_process() {
    withstood(sessions::armed_session_of_the_daemon());
}

#[test]
fn interrupted_pin_change_serves_no_other_process() {
    withstood(sessions::session_of_a_pin_change());
}

#[test]
fn used_answer_is_worth_nothing_with_an_older_card_file_too() {
    withstood(vault::used_answer());
}

#[test]
fn wrong_answers_are_counted_by_the_tpm_and_delayed_across_restarts() {
    withstood(vault::guessing_answers());
}

#[test]
fn external_answer_does_not_reveal_the_admin_key() {
    withstood(vault::admin_key_from_an_external_answer());
}

#[test]
fn card_file_and_tpm_without_a_secret_reset_no_pin() {
    withstood(vault::pin_reset_without_a_secret());
}

#[test]
fn entry_planted_in_the_vault_learns_nothing() {
    withstood(vault::planted_entry());
}

#[test]
fn thirty_wrong_pins_touch_no_other_card_and_not_the_lockout() {
    withstood(lockout::thirty_wrong_pins());
}

#[test]
fn memory_of_the_daemon_has_no_secret_after_logout() {
    withstood(memory::memory_after_logout(memory::product));
}

#[test]
fn log_and_files_have_no_secret_at_any_level() {
    withstood(memory::log_and_files(memory::product));
}

#[test]
fn listener_on_the_bus_hears_no_secret() {
    withstood(bus::listening());
}

#[test]
fn file_changed_in_any_byte_is_not_this_hosts() {
    withstood(edited::every_byte());
}

#[test]
fn file_changed_by_root_in_any_byte_is_refused_or_harmless() {
    withstood(edited::every_byte_with_the_host_key());
}

#[test]
fn second_file_for_a_card_spends_no_try_and_destroys_nothing() {
    withstood(forged::second_claimant());
}

#[test]
fn file_of_another_host_names_no_owner() {
    withstood(forged::other_owner());
}

#[test]
fn parts_of_another_card_make_no_card() {
    withstood(forged::borrowed_parts());
}

#[test]
fn imported_key_never_signs_as_a_generated_one() {
    withstood(forged::imported_key_shown_as_generated());
}

#[test]
fn planted_storage_root_key_gets_no_new_card() {
    withstood(roots::planted_root());
}

#[test]
fn hierarchy_that_is_switched_off_is_not_a_lost_card() {
    withstood(roots::hierarchy_switched_off());
}

#[test]
fn recoverable_key_is_duplicated_to_its_recovery_keys_only_and_ordinary_ones_never() {
    withstood(recoverable::duplicating_to_others());
}

#[test]
fn ordinary_key_is_bound_to_its_tpm_whatever_its_policy() {
    withstood(recoverable::duplicating_what_is_bound());
}

#[test]
fn recovery_keys_in_the_file_are_those_of_the_key() {
    withstood(recoverable::other_targets_shown());
}

#[test]
fn storage_root_key_is_no_recovery_key() {
    withstood(recoverable::copy_for_the_storage_root_key());
}

#[test]
fn copy_is_imported_as_it_was_made_and_by_its_recovery_key_only() {
    withstood(recoverable::copy_changed_on_the_way());
}

#[test]
fn copy_has_the_keys_policy_wherever_it_is() {
    withstood(recoverable::copy_used_on_another_tpm());
}

#[test]
fn every_command_of_the_tpm_has_a_row_for_every_object() {
    withstood(matrix::complete());
}

#[test]
fn captured_pin_lives_as_long_as_its_table_says() {
    withstood(matrix::captured_pin());
}
