//! What the cards leave in the TPM: told from the card files, which need no daemon to be read.

use std::fs;
use std::path::{Path, PathBuf};

use cardea_card::record::IndexRole;
use cardea_store::format::{self, HostKey};

/// What was found in a state folder.
#[derive(Debug, Default)]
pub(super) struct Remains {
    cards: Vec<Card>,
    unreadable: Vec<String>,
    intents: Vec<PathBuf>,
}

#[derive(Debug)]
struct Card {
    name: String,
    id: String,
    indices: Vec<(IndexRole, u32)>,
}

impl Remains {
    /// Whether nothing of ours is in the TPM, as far as the files tell.
    pub(super) fn nothing(&self) -> bool {
        self.cards.is_empty() && self.unreadable.is_empty() && self.intents.is_empty()
    }

    /// The same for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for card in &self.cards {
            lines.push(format!(
                "card {} ({}) stays in the TPM; to remove it, which cannot be undone: cardea card destroy {}",
                card.id, card.name, card.id
            ));
            for (role, handle) in &card.indices {
                let role = match role {
                    IndexRole::Pin => "PIN",
                    IndexRole::Adm => "administrator",
                    IndexRole::Puk => "PUK",
                };
                lines.push(format!("   NV index 0x{handle:08X} ({role})"));
            }
        }
        for problem in &self.unreadable {
            lines.push(format!(
                "its NV indices cannot be told: {problem}; look for 0x01C2xxxx in: tpm2_getcap handles-nv-index"
            ));
        }
        for intent in &self.intents {
            lines.push(format!(
                "an unfinished creation or destruction: {}; the daemon finishes it when it is started once more",
                intent.display()
            ));
        }
        if lines.is_empty() {
            lines.push("no card, so nothing of Cardea's is in the TPM".to_owned());
        }
        lines
    }
}

/// Reads the card files of a state folder, and writes nothing.
pub(super) fn read(state: &Path) -> Remains {
    let mut remains = Remains {
        intents: list(&state.join("intents")).unwrap_or_default(),
        ..Remains::default()
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
        // Any key does: who wrote the file does not matter here.
        let record = fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|file| {
                format::decode(&HostKey::new([0; 32]), &file).map_err(|error| error.to_string())
            });
        match record {
            Ok(decoded) => remains.cards.push(Card {
                name: decoded.record.name,
                id: decoded.record.id.to_string(),
                indices: decoded
                    .record
                    .tpm
                    .indices
                    .iter()
                    .map(|index| (index.role, index.handle))
                    .collect(),
            }),
            Err(problem) => remains
                .unreadable
                .push(format!("{}: {problem}", path.display())),
        }
    }
    remains
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
