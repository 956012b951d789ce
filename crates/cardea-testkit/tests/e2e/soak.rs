//! The short form of `cargo xtask soak`.

#[test]
fn five_thousand_operations_by_eight_clients_leave_nothing_behind() {
    let figures = cardea_testkit::soak::run(5_000);
    assert!(
        figures.operations >= 5_000 && figures.signatures > 1_000,
        "{figures:?}"
    );
    assert!(
        figures.wrong_pins > 100 && figures.disconnects > 50,
        "{figures:?}"
    );
    figures.check();
}
