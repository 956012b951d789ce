//! Turns the APDU log of pcscd on standard input into a transcript on standard output.
//!
//!     cargo run -p cardea-testkit --example pcscd-transcript -- created "origin" <pcscd.log >name.txt

use std::io::{Read, Write, stdin, stdout};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(card), Some(origin)) = (arguments.next(), arguments.next()) else {
        return Err(std::io::Error::other(
            "usage: pcscd-transcript created|blank|puk \"origin in one line\" <pcscd.log",
        ));
    };
    let mut log = Vec::new();
    stdin().read_to_end(&mut log)?;
    let text = cardea_testkit::transcript::pcscd::transcript_from_log(
        &String::from_utf8_lossy(&log),
        &card,
        &format!("Origin: {origin}"),
    );
    stdout().write_all(text.as_bytes())
}
