//! `cargo xtask soak`: the long run of `docs/reliability.md`.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for people at a terminal"
)]

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let operations = arguments
        .next()
        .map(|word| word.parse().expect("a number of operations"))
        .unwrap_or(5_000);
    let figures = cardea_testkit::soak::run(operations);
    println!("operations          {}", figures.operations);
    println!("signatures          {}", figures.signatures);
    println!("wrong PINs          {}", figures.wrong_pins);
    println!("disconnects         {}", figures.disconnects);
    println!("time                {:.0} s", figures.time.as_secs_f64());
    println!(
        "daemon's memory     {} KiB after a tenth, {} KiB at the end",
        figures.memory_early, figures.memory_late
    );
    println!("objects left        {}", figures.transient_objects);
    println!(
        "sessions left       {} loaded, {} saved",
        figures.loaded_sessions, figures.saved_sessions
    );
    figures.check();
}
