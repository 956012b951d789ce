//! `cardea attest authority pin …`: TPMs that are known by themselves.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::files::invalid;
use super::folder::Folder;
use super::pin_list::{Pin, parse};
use crate::arguments::AuthorityPinVerb;
use crate::exit::{Exit, Failure};
use crate::file;
use crate::hex::plain;
use crate::terminal::output::{note, print, print_json, printable};

pub(super) fn run(verb: &AuthorityPinVerb) -> Result<(), Failure> {
    match verb {
        AuthorityPinVerb::Add {
            digest,
            asset,
            folder,
        } => {
            let new = vec![(digest.0, asset.0.clone())];
            add(&Folder::open(&folder.path)?, new)
        }
        AuthorityPinVerb::Import { file, folder } => {
            let folder = Folder::open(&folder.path)?;
            let text = read_list(file)?;
            let new = parse(&text).map_err(|error| invalid(file, &error))?;
            if new.is_empty() {
                return Err(Failure::usage(format!("{} has no pins", file.display())));
            }
            add(&folder, new)
        }
        AuthorityPinVerb::List { folder, output } => {
            let pins = Folder::open(&folder.path)?.pins()?;
            if output.json {
                let all = pins.iter();
                let all = all.map(|(pin, asset)| json!({ "pin": plain(pin), "asset": asset }));
                return Ok(print_json(&Value::Array(all.collect()))?);
            }
            let lines = pins.iter();
            let lines = lines.map(|(pin, asset)| format!("{} {}\n", plain(pin), printable(asset)));
            Ok(print(&lines.collect::<String>())?)
        }
        AuthorityPinVerb::Remove { digest, folder } => {
            let folder = Folder::open(&folder.path)?;
            let locked = folder.lock()?;
            let mut pins = folder.pins()?;
            let before = pins.len();
            pins.retain(|(one, _)| *one != digest.0);
            if pins.len() == before {
                return Err(Failure::new(
                    Exit::NotFound,
                    "this pin is not in the list; see `cardea attest authority pin list`",
                ));
            }
            locked.write_pins(&pins)
        }
    }
}

/// All of them, or none if one is there with another name.
fn add(folder: &Folder, new: Vec<Pin>) -> Result<(), Failure> {
    let locked = folder.lock()?;
    let mut pins = folder.pins()?;
    let mut added = 0;
    for (pin, asset) in new {
        match pins.iter().find(|(one, _)| *one == pin) {
            Some((_, known)) if *known != asset => {
                return Err(Failure::new(
                    Exit::Failed,
                    format!(
                        "{} is pinned as {}; remove that first with `cardea attest authority pin remove`",
                        plain(&pin),
                        printable(known)
                    ),
                ));
            }
            Some(_) => {}
            None => {
                pins.push((pin, asset));
                added += 1;
            }
        }
    }
    if added > 0 {
        locked.write_pins(&pins)?;
    }
    let known = pins.len();
    note(&format!("{added} added, {known} in the list"));
    Ok(())
}

fn read_list(path: &Path) -> Result<String, Failure> {
    let content = if path.as_os_str() == "-" {
        let mut content = Vec::new();
        let limit = u64::try_from(cardea_pki::MAX_INPUT).unwrap_or(u64::MAX);
        let read = std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut content);
        read.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        content
    } else {
        file::read(path)?.to_vec()
    };
    if content.len() >= cardea_pki::MAX_INPUT {
        return Err(Failure::usage(format!(
            "{} is larger than 1 MiB; split it",
            path.display()
        )));
    }
    String::from_utf8(content).map_err(|_| invalid(path, &"it is not text"))
}
