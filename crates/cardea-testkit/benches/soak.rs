//! `cargo xtask soak`: the long run of `docs/reliability.md`.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for people at a terminal"
)]

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let first = arguments.next();
    if first.as_deref() == Some("remote") {
        let cards = arguments.next().unwrap_or_else(|| "60".to_owned());
        return remote(cards.parse().expect("a number of cards"));
    }
    let operations = first
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

/// Cards made and destroyed from other machines.
fn remote(cards: usize) {
    let figures = cardea_testkit::remote_soak::run(cards, &[cards / 10, cards / 2]);
    println!("lines cut           {}", figures.cuts);
    println!("finished cards      {} of these", figures.orphans);
    println!("| cards | time | service: memory, descriptors, threads | daemon |");
    println!("|---|---|---|---|");
    for moment in &figures.moments {
        let load = |load: cardea_testkit::remote::Load| {
            let (memory, descriptors) = (load.memory, load.descriptors);
            format!("{memory} KiB, {descriptors}, {}", load.threads)
        };
        let (service, daemon) = (load(moment.service), load(moment.daemon));
        let time = moment.time.as_secs_f64();
        println!("| {} | {time:.0} s | {service} | {daemon} |", moment.cards);
    }
    let [before, after] = &figures.holdings;
    println!("in the TPM before   {:?}", before.handles);
    println!("in the TPM after    {:?}", after.handles);
    figures.check();
}
