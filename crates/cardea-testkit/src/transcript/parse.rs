//! From text to steps.

use super::pattern::{Hex, Pattern};
use super::{CardKind, Encryption, Signature, Step, Transcript, TranscriptError};

pub(super) fn parse(text: &str) -> Result<Transcript, TranscriptError> {
    let mut card = None;
    let mut steps = Vec::new();
    for (line, content) in logical_lines(text) {
        let fail = |message: String| TranscriptError { line, message };
        if let Some(kind) = content.strip_prefix("card ") {
            if card.is_some() || !steps.is_empty() {
                return Err(fail("the card is named once, first".to_owned()));
            }
            card = Some(match kind.trim() {
                "admin" => CardKind::Admin,
                "admin+puk" => CardKind::AdminAndPuk,
                "blank" => CardKind::Blank,
                "created" => CardKind::Created,
                "uninitialised" => CardKind::Uninitialised,
                "uninitialised+puk" => CardKind::UninitialisedWithPuk,
                "puk" => CardKind::WithPuk,
                other => return Err(fail(format!("unknown card {other}"))),
            });
        } else {
            steps.push((line, step(&content).map_err(fail)?));
        }
    }
    Ok(Transcript {
        card: card.ok_or_else(|| TranscriptError {
            line: 1,
            message: "no card is named".to_owned(),
        })?,
        steps,
    })
}

/// Lines without comments, continuations joined, with the number of their first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        if line.trim().is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some((_, previous)) if line.starts_with([' ', '\t']) => {
                previous.push(' ');
                previous.push_str(line.trim());
            }
            _ => lines.push((index + 1, line.to_owned())),
        }
    }
    lines
}

fn step(line: &str) -> Result<Step, String> {
    if let Some(command) = line.strip_prefix('>') {
        return Hex::parse(command).map(Step::Command);
    }
    if let Some(response) = line.strip_prefix('<') {
        return Pattern::parse(response).map(Step::Response);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["connection", name] => Ok(Step::Connection((*name).to_owned())),
        ["differ", a, b] => Ok(Step::Differ(Hex::parse(a)?, Hex::parse(b)?)),
        ["disconnect", name] => Ok(Step::Disconnect((*name).to_owned())),
        ["encrypt", scheme, public, plain, name] => {
            let scheme = match *scheme {
                "oaep" => Encryption::Oaep,
                "pkcs1" => Encryption::Pkcs1,
                "raw" => Encryption::Raw,
                other => return Err(format!("unknown encryption {other}")),
            };
            Ok(Step::Encrypt(
                scheme,
                Hex::parse(public)?,
                Hex::parse(plain)?,
                (*name).to_owned(),
            ))
        }
        ["external", key, challenge, name] => Ok(Step::External(
            Hex::parse(key)?,
            Hex::parse(challenge)?,
            (*name).to_owned(),
        )),
        ["mutual", key, card, host, name] => Ok(Step::Mutual(
            Hex::parse(key)?,
            Hex::parse(card)?,
            Hex::parse(host)?,
            (*name).to_owned(),
        )),
        ["mutual-answer", key, card, host, cryptogram] => Ok(Step::MutualAnswer(
            Hex::parse(key)?,
            Hex::parse(card)?,
            Hex::parse(host)?,
            Hex::parse(cryptogram)?,
        )),
        ["reset"] => Ok(Step::Reset),
        ["set", name, value @ ..] if !value.is_empty() => {
            Ok(Step::Set((*name).to_owned(), Hex::parse(&value.concat())?))
        }
        ["verify", scheme, public, data, signature] => {
            let scheme = match *scheme {
                "ecdsa" => Signature::Ecdsa,
                "pkcs1" => Signature::Pkcs1,
                "raw" => Signature::Raw,
                other => return Err(format!("unknown signature {other}")),
            };
            Ok(Step::Verify(
                scheme,
                Hex::parse(public)?,
                Hex::parse(data)?,
                Hex::parse(signature)?,
            ))
        }
        _ => Err("not a step".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_continuations() {
        let lines = logical_lines("# note\ncard created # here\n\n> 00 A4\n  04 00\n< 9000\n");
        assert_eq!(
            lines,
            [
                (2, "card created".to_owned()),
                (4, "> 00 A4 04 00".to_owned()),
                (6, "< 9000".to_owned()),
            ]
        );
    }

    #[test]
    fn errors_name_the_line() {
        for (text, line) in [
            ("> 00", 1),
            ("card created\n> 0", 2),
            ("card created\n\njump", 3),
            ("card created\n> 00\ncard blank", 3),
            ("card other", 1),
            ("card created\n> ??", 2),
            ("card created\n< * *", 2),
        ] {
            assert_eq!(parse(text).unwrap_err().line, line, "{text:?}");
        }
    }
}
