//! The golden transcripts of `cardea-card`.

use super::MakeCard;
use crate::transcript::{Transcript, TranscriptError};

macro_rules! transcripts {
    ($($name:literal),* $(,)?) => {
        /// Name and text of every golden transcript.
        pub const TRANSCRIPTS: &[(&str, &str)] = &[
            $(($name, include_str!(concat!("../../../cardea-card/tests/transcripts/", $name)))),*
        ];
    };
}

transcripts![
    "admin.txt",
    "administrator.txt",
    "blank.txt",
    "conformance.txt",
    "connections.txt",
    "curves.txt",
    "data-objects.txt",
    "every-time.txt",
    "files.txt",
    "import-curve.txt",
    "import.txt",
    "initialise-puk.txt",
    "initialise.txt",
    "opensc-generate.txt",
    "opensc-probe.txt",
    "opensc-recorded-cert.txt",
    "opensc-recorded-keys.txt",
    "opensc-recorded-pin.txt",
    "opensc-recorded-pkcs11.txt",
    "opensc-recorded-read.txt",
    "operations.txt",
    "pin.txt",
    "puk.txt",
    "rsa3072.txt",
    "select.txt",
    "transport.txt",
    "unblock-puk.txt",
    "windows-enrol.txt",
    "windows-probe.txt",
];

pub(super) fn play(text: &str, make_card: MakeCard<'_>) -> Result<(), TranscriptError> {
    let transcript = Transcript::parse(text)?;
    transcript.play(&mut make_card(transcript.card()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transcript_in_the_folder_is_listed() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../cardea-card/tests/transcripts"
        );
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".txt"))
            .collect();
        files.sort();
        let listed: Vec<&str> = TRANSCRIPTS.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, listed);
    }

    #[test]
    fn every_transcript_says_where_it_is_from() {
        for (name, text) in TRANSCRIPTS {
            assert!(text.starts_with("# Origin: "), "{name}");
        }
    }
}
