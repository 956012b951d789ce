//! What the cards of a state folder have in the TPM, for whoever is about to remove the folder.
//!
//! Read from the files alone: it works while no daemon runs, without a TPM, and changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use cardea_card::record::{IndexRole, TpmRecord};

use crate::format::{self, HostKey};

/// What was found in a state folder.
#[derive(Debug, Default)]
pub struct Remains {
    cards: Vec<Card>,
    unreadable: Vec<String>,
    intents: Vec<PathBuf>,
}

#[derive(Debug)]
struct Card {
    name: String,
    id: String,
    indices: Vec<(&'static str, u32)>,
}

impl Remains {
    /// Reads the card files of a state folder, and writes nothing.
    #[must_use]
    pub fn read(state: &Path) -> Self {
        let mut remains = Self {
            intents: list(&state.join("intents")).unwrap_or_default(),
            ..Self::default()
        };
        let cards = match list(&state.join("cards")) {
            Ok(paths) => paths,
            Err(problem) => {
                remains.unreadable.push(problem);
                return remains;
            }
        };
        for path in cards
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "card"))
        {
            remains.add(&path);
        }
        remains
    }

    fn add(&mut self, path: &Path) {
        // Any key does: who wrote the file does not matter here.
        let record = fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|file| {
                format::decode(&HostKey::new([0; 32]), &file).map_err(|error| error.to_string())
            });
        match record {
            Ok(decoded) => self.cards.push(Card {
                name: decoded.record.name,
                id: decoded.record.id.to_string(),
                indices: indices(&decoded.record.tpm),
            }),
            Err(problem) => self
                .unreadable
                .push(format!("{}: {problem}", path.display())),
        }
    }

    /// Whether there is no card and nothing unfinished.
    #[must_use]
    pub fn nothing(&self) -> bool {
        self.cards.is_empty() && self.unreadable.is_empty() && self.intents.is_empty()
    }

    /// What was found, in lines for people. Names of cards are foreign text, and still have to be tamed.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for card in &self.cards {
            let Card { name, id, indices } = card;
            if indices.is_empty() {
                lines.push(format!(
                    "card {id} ({name}) has no NV index; its keys are lost with its file"
                ));
                continue;
            }
            lines.push(format!(
                "card {id} ({name}) stays in the TPM; to remove it, which cannot be undone: cardea card destroy {id}"
            ));
            for (what, handle) in indices {
                lines.push(format!("   NV index 0x{handle:08X} ({what})"));
            }
        }
        for problem in &self.unreadable {
            lines.push(format!(
                "a card whose NV indices are not known: {problem}; look for 0x01C2xxxx in: tpm2_getcap handles-nv-index"
            ));
        }
        for intent in &self.intents {
            lines.push(format!(
                "an unfinished creation or destruction: {}; the daemon finishes it at its next start",
                intent.display()
            ));
        }
        if lines.is_empty() {
            lines.push("no card, so nothing of Cardea is in the TPM".to_owned());
        }
        lines
    }
}

/// What each index of a card is for, and its handle.
fn indices(tpm: &TpmRecord) -> Vec<(&'static str, u32)> {
    let counters = tpm.indices.iter().map(|index| {
        let what = match index.role {
            IndexRole::Pin => "PIN",
            IndexRole::Adm => "administrator",
            IndexRole::Puk => "PUK",
        };
        (what, index.handle)
    });
    let sealed = tpm.sealed_policies.iter();
    counters
        .chain(sealed.map(|sealed| ("policies", sealed.handle)))
        .collect()
}

/// The files of a folder in order; none where there is no folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| format!("{}: {error}", folder.display()))?,
    };
    let mut paths: Vec<_> = entries
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .iter()
        .map(fs::DirEntry::path)
        .collect();
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_unreadable_files_are_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert!(Remains::read(&state).nothing());
        assert!(!state.exists(), "reading makes nothing");

        fs::create_dir_all(state.join("cards")).unwrap();
        fs::create_dir_all(state.join("intents")).unwrap();
        assert!(Remains::read(&state).nothing());
        assert_eq!(
            Remains::read(&state).lines(),
            ["no card, so nothing of Cardea is in the TPM"]
        );
        let card = include_bytes!("../tests/old/v1/full.card");
        fs::write(state.join("cards/one.card"), card).unwrap();
        fs::write(state.join("cards/two.card"), "damaged").unwrap();
        fs::write(state.join("intents/three"), "").unwrap();
        let remains = Remains::read(&state);
        assert!(!remains.nothing());
        let text = remains.lines().join("\n");
        for expected in [
            "NV index 0x01C2",
            "(PIN)",
            "(administrator)",
            "two.card: not a card file",
            "intents/three",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }
}
