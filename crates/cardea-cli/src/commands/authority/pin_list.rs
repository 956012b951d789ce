//! The list of TPMs that are known by themselves: in each line a pin, blanks, and what the computer is called.

use crate::arguments::AssetText;
use crate::hex::{self, plain};

/// A pin, and what the computer is called.
pub(super) type Pin = ([u8; 32], String);

/// What the list says about itself.
pub(super) const HEAD: &str = "\
# TPMs that are known by themselves: SHA-256 of the endorsement key's SubjectPublicKeyInfo, and the asset.
";

/// Lines with a pin, blanks and the name of an asset; empty lines and comments between them.
pub(super) fn parse(text: &str) -> Result<Vec<Pin>, String> {
    let mut pins: Vec<Pin> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (digits, asset) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let pin = hex::parse::<32>(digits.as_bytes()).map(|pin| *pin);
        let pin = pin.ok_or_else(|| {
            format!("line {number} does not begin with a pin of 64 hexadecimal digits")
        })?;
        let AssetText(asset) = asset
            .parse()
            .map_err(|error| format!("line {number}: the asset behind the pin: {error}"))?;
        match pins.iter().find(|(one, _)| *one == pin) {
            Some((_, known)) if *known != asset => {
                return Err(format!("line {number} gives a pin a second asset"));
            }
            Some(_) => {}
            None => pins.push((pin, asset)),
        }
    }
    Ok(pins)
}

pub(super) fn to_text(pins: &[Pin]) -> String {
    let mut text = String::from(HEAD);
    for (pin, asset) in pins {
        text.push_str(&format!("{} {asset}\n", plain(pin)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_is_read_as_it_is_written_and_faults_are_named_by_their_line() {
        let pins = vec![
            ([0xA1; 32], "PC 17, room 4".to_owned()),
            ([2; 32], "x".to_owned()),
        ];
        assert_eq!(parse(&to_text(&pins)).unwrap(), pins);
        let one = plain(&[7; 32]);
        assert_eq!(
            parse(&format!("\n # none\n{one}\tname \n")).unwrap().len(),
            1
        );
        let twice = format!("{one} a\n{one} a\n");
        assert_eq!(parse(&twice).unwrap().len(), 1);
        for (bad, line) in [
            (format!("{one}\n"), "line 1"),
            (format!("{one} a\nzz b\n"), "line 2"),
            (format!("{one} a\n\n{one} b\n"), "line 3"),
            (format!("{}00 a\n", one), "line 1"),
        ] {
            let error = parse(&bad).unwrap_err();
            assert!(error.contains(line), "{error}");
        }
    }
}
