//! Attacks against engines that are weak on purpose: each must succeed.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use cardea_card::weakened::{MARKER, Weakness, choose};
use cardea_daemon::{Config, Daemon};

use crate::bench::Outcome;
use crate::memory::Places;
use crate::{
    birth_key, bus, edited, forged, guesses, hierarchies, lockout, matrix, memory, recoverable,
    rollback, sessions, takeover, tickets, vault,
};

/// One weakness at a time in a process.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) fn succeeds(weakness: Weakness, attack: impl FnOnce() -> Outcome) {
    succeeds_in(weakness, attack, "");
}

/// The same, and what the attack got is described in these words among others.
fn succeeds_in(weakness: Weakness, attack: impl FnOnce() -> Outcome, words: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    choose(Some(weakness));
    let outcome = attack();
    choose(None);
    let Err(what) = outcome else {
        panic!("{weakness:?} is not noticed");
    };
    assert!(what.contains(words), "{weakness:?} is noticed as\n{what}");
}

#[test]
fn counter_made_again_where_the_first_write_is_approved_for_all() {
    succeeds(Weakness::ApprovedFirstWrite, takeover::counter_made_again);
}

/// The attack comes to nothing, although the engine is weak in this way.
fn fails(weakness: Weakness, attack: impl FnOnce() -> Outcome) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    choose(Some(weakness));
    let outcome = attack();
    choose(None);
    if let Err(what) = outcome {
        panic!("the attack succeeds: {what}");
    }
}

#[test]
fn birth_key_that_was_kept_takes_a_card_of_form_a_over() {
    let attack = birth_key::kept_for_a_card_of_form_a;
    succeeds(Weakness::KnownBirthKey, attack);
}

#[test]
fn birth_key_that_was_kept_is_of_no_use_for_sealed_policies() {
    let attack = birth_key::kept_for_a_card_of_form_s;
    fails(Weakness::KnownBirthKey, attack);
}

#[test]
fn sealed_policies_where_no_reset_closes_the_gate() {
    let attack = birth_key::kept_for_a_card_of_form_s;
    succeeds(Weakness::OpenGate, attack);
}

#[test]
fn guesses_where_a_policy_asks_for_the_value_itself() {
    succeeds(Weakness::AuthValuePolicy, guesses::every_way_to_guess);
}

#[test]
fn policy_from_before_where_provisioning_leaves_it() {
    let attack = hierarchies::policies_from_before;
    succeeds(Weakness::OpenHierarchies, attack);
}

#[test]
fn key_is_duplicated_where_a_branch_is_open() {
    let attack = recoverable::duplicating_to_others;
    succeeds(Weakness::OpenDuplication, attack);
}

#[test]
fn other_recovery_keys_where_the_list_is_believed() {
    let attack = recoverable::other_targets_shown;
    succeeds(Weakness::BelievedTargets, attack);
}

#[test]
fn copy_opens_for_all_where_the_storage_root_key_is_a_recovery_key() {
    let attack = recoverable::copy_for_the_storage_root_key;
    succeeds(Weakness::RootAsTarget, attack);
}

#[test]
fn older_card_file_where_the_admin_value_stays() {
    succeeds(Weakness::NoRotation, rollback::older_card_file);
}

#[test]
fn used_answer_where_the_admin_value_stays() {
    succeeds(Weakness::NoRotation, vault::used_answer);
}

#[test]
fn edited_file_where_nobody_looks_at_the_hmac() {
    succeeds(Weakness::NoHostHmac, edited::every_byte);
}

#[test]
fn other_owner_where_nobody_looks_at_the_hmac() {
    succeeds(Weakness::NoHostHmac, forged::other_owner);
}

#[test]
fn old_ticket_where_tickets_have_no_end() {
    succeeds(Weakness::EndlessTickets, tickets::used_after_its_time);
}

#[test]
fn ticket_where_all_keys_have_one_policy() {
    let attack = tickets::used_for_a_key_that_wants_the_pin_every_time;
    succeeds(Weakness::LaxPolicy, attack);
}

#[test]
fn armed_session_where_sessions_have_no_key() {
    succeeds(
        Weakness::UnsaltedSessions,
        sessions::armed_session_of_the_daemon,
    );
}

#[test]
fn interrupted_pin_change_where_sessions_have_no_key() {
    succeeds(
        Weakness::UnsaltedSessions,
        sessions::session_of_a_pin_change,
    );
}

#[test]
fn guessed_answers_where_the_daemon_forgets_them() {
    succeeds(Weakness::ForgottenFailures, vault::guessing_answers);
}

#[test]
fn external_answer_where_it_opens_the_mask() {
    succeeds(
        Weakness::MaskForAll,
        vault::admin_key_from_an_external_answer,
    );
}

#[test]
fn planted_entry_where_the_vault_has_no_tag() {
    succeeds(Weakness::NoVaultTag, vault::planted_entry);
}

#[test]
fn card_file_and_tpm_where_unblocking_is_approved_for_all() {
    succeeds(Weakness::OpenUnblocking, vault::pin_reset_without_a_secret);
}

#[test]
fn wrong_pins_where_counters_are_ordinary_indices() {
    succeeds(Weakness::OrdinaryIndices, lockout::thirty_wrong_pins);
}

#[test]
fn listener_where_pins_go_in_password_sessions() {
    succeeds(Weakness::ClearPin, bus::listening);
}

#[test]
fn listener_where_new_values_go_in_clear() {
    succeeds(Weakness::ClearValues, bus::listening);
}

#[test]
fn listener_where_answers_come_in_clear() {
    succeeds(Weakness::ClearAnswers, bus::listening);
}

#[test]
fn memory_where_pins_are_kept() {
    succeeds(Weakness::KeptPins, || memory::memory_after_logout(keeping));
}

#[test]
fn log_where_pins_are_written() {
    succeeds(Weakness::LoggedPins, || memory::log_and_files(logging));
}

#[test]
fn second_file_where_any_number_may_claim() {
    succeeds(Weakness::ManyClaimants, forged::second_claimant);
}

#[test]
fn borrowed_parts_where_records_are_believed() {
    succeeds(Weakness::BelievedRecords, forged::borrowed_parts);
}

#[test]
fn imported_key_where_a_flag_tells_its_origin() {
    succeeds(
        Weakness::OriginFromFlag,
        forged::imported_key_shown_as_generated,
    );
}

#[test]
fn matrix_of_keys_where_all_keys_have_one_policy() {
    let row = "Sign, always-class EC key, PIN once, sign after the PIN was given for the other key class: 0x000 (SUCCESS)";
    succeeds_in(Weakness::LaxPolicy, matrix::uses, row);
}

#[test]
fn matrix_of_indices_where_counters_are_ordinary_indices() {
    let row = "NV_Write, PIN index, device";
    succeeds_in(Weakness::OrdinaryIndices, matrix::indices, row);
}

#[test]
fn matrix_of_indices_where_unblocking_is_approved_for_all() {
    let row = "each approval in the card file, without its secret: P5 0x000 (SUCCESS)";
    succeeds_in(Weakness::OpenUnblocking, matrix::indices, row);
}

#[test]
fn matrix_of_sessions_where_sessions_have_no_key() {
    let row = "Sign, armed session, device, sign in the daemon's session: no HMAC 0x000 (SUCCESS)";
    succeeds_in(Weakness::UnsaltedSessions, matrix::armed, row);
}

#[test]
fn matrix_of_audits_where_new_values_go_in_clear() {
    succeeds_in(
        Weakness::ClearValues,
        matrix::audit,
        "the new PIN can be tested",
    );
}

#[test]
fn matrix_of_audits_where_answers_come_in_clear() {
    let words = "the agreed secret can be tested";
    succeeds_in(Weakness::ClearAnswers, matrix::audit, words);
}

#[test]
fn old_ticket_and_slow_clock_where_tickets_have_no_end() {
    succeeds(
        Weakness::EndlessTickets,
        tickets::used_while_the_clock_is_slow,
    );
}

#[test]
fn planted_key_gets_new_cards_if_the_first_suitable_one_is_taken() {
    succeeds(Weakness::PlantedRoot, crate::roots::planted_root);
}

#[test]
fn card_is_called_lost_if_nobody_asks_for_the_hierarchy() {
    succeeds(
        Weakness::SwitchedOffIsLost,
        crate::roots::hierarchy_switched_off,
    );
}

/// What `xtask` looks for in the products is in whatever has weaknesses.
#[test]
fn program_with_weaknesses_bears_their_mark() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let marked = program
        .windows(MARKER.len())
        .any(|window| window == MARKER.as_bytes());
    assert!(marked);
    assert!(include_str!("../../../../xtask/src/weakened.rs").contains(MARKER));
}

/// This test program as a daemon.
fn daemon(weakness: &str, places: &Places) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["weakened::victim", "--exact", "--nocapture"])
        .env(VICTIM, weakness)
        .env("CARDEA_WEAK_TPM", &places.tpm)
        .env("CARDEA_WEAK_STATE", &places.state)
        .env("CARDEA_WEAK_SOCKET", &places.socket);
    command
}

const VICTIM: &str = "CARDEA_WEAK_VICTIM";

fn keeping(places: &Places) -> Command {
    daemon("kept", places)
}

fn logging(places: &Places) -> Command {
    daemon("logged", places)
}

/// Not a test but the process of [`daemon`].
#[test]
fn victim() {
    let Ok(weakness) = std::env::var(VICTIM) else {
        return;
    };
    choose(Some(match weakness.as_str() {
        "kept" => Weakness::KeptPins,
        "logged" => Weakness::LoggedPins,
        other => panic!("{other}"),
    }));
    let option = |name: &str| std::env::var(format!("CARDEA_WEAK_{name}")).unwrap();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let tpm = option("TPM").parse().unwrap();
    let state = PathBuf::from(option("STATE"));
    let config = Config::new(state, PathBuf::from(option("SOCKET")), tpm);
    let _daemon = Daemon::start(config).unwrap();
    loop {
        std::thread::park();
    }
}
