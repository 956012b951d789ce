//! The short form of `cargo xtask soak --remote`.

#[test]
fn administrators_elsewhere_make_and_destroy_cards_and_vanish_and_leave_nothing_behind() {
    let figures = cardea_testkit::remote_soak::run(60, &[20]);
    figures.check();
    // Activation, manager, two calls, release: three connections of five packets, and a call more.
    assert_eq!(figures.cuts, 2 * 17, "{figures:?}");
}
