//! From the log of `pcscd --foreground --debug --apdu` to a transcript.
//!
//! What differs from card to card is replaced: public keys are captured, signatures captured and
//! verified, cryptograms encrypted anew to the captured key, the card id compared with the card's own.
//! The log of one client with one reader is expected.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::hex;

/// Converts a log; `card` is the first word of the transcript's `card` line, `origin` goes into its
/// first comment.
#[must_use]
pub fn transcript_from_log(log: &str, card: &str, origin: &str) -> String {
    let mut out = String::new();
    for line in origin.lines() {
        push(&mut out, &format!("# {line}"));
    }
    push(&mut out, &format!("card {card}\n"));
    let mut writer = Writer {
        out,
        keys: BTreeMap::new(),
        counter: 0,
        signature: None,
        confidentiality: None,
    };
    for event in groups(&events(log)) {
        match event {
            Group::Reset => push(&mut writer.out, "reset"),
            Group::Command(exchanges) => writer.command(exchanges),
        }
    }
    writer.out
}

#[derive(Debug)]
enum Event {
    Reset,
    Exchange(Exchange),
}

#[derive(Debug)]
struct Exchange {
    command: Vec<u8>,
    response: Vec<u8>,
}

/// One command with all its parts and all parts of its answer.
enum Group<'a> {
    Reset,
    Command(&'a [Event]),
}

/// Lines of interest are told by their words; what is before (times, colours) and after does not matter.
fn events(log: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut command = None;
    for line in log.lines() {
        if let Some(bytes) = bytes_after(line, "APDU: ") {
            command = Some(bytes);
        } else if let Some(response) = bytes_after(line, "SW: ") {
            if let Some(command) = command.take() {
                events.push(Event::Exchange(Exchange { command, response }));
            }
        } else if (line.contains("Card ATR: ") || line.contains("Reset complete"))
            && !matches!(events.last(), Some(Event::Reset))
        {
            events.push(Event::Reset);
        }
    }
    events
}

fn bytes_after(line: &str, word: &str) -> Option<Vec<u8>> {
    let (before, after) = line.split_once(word)?;
    // "SW: " must not be found in the middle of another word.
    if before.ends_with(|c: char| c.is_ascii_alphabetic()) && !before.ends_with('m') {
        return None;
    }
    let bytes: Vec<u8> = after
        .split_whitespace()
        .map_while(|pair| {
            let digits = pair.split('\u{1b}').next().unwrap_or_default();
            (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
        })
        .collect();
    (!bytes.is_empty()).then_some(bytes)
}

fn groups(events: &[Event]) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let mut rest = events;
    while let Some(first) = rest.first() {
        if matches!(first, Event::Reset) {
            groups.push(Group::Reset);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let mut length = 1;
        while let (Some(Event::Exchange(before)), Some(Event::Exchange(next))) =
            (rest.get(length - 1), rest.get(length))
        {
            let chained = before.command.first() == Some(&0x10)
                && before.response == [0x90, 0x00]
                && before.command.get(1..4) == next.command.get(1..4);
            let more = before.response.iter().rev().nth(1) == Some(&0x61)
                && next.command.get(1) == Some(&0xC0);
            if !chained && !more {
                break;
            }
            length += 1;
        }
        let (group, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        groups.push(Group::Command(group));
        rest = after;
    }
    groups
}

struct Writer {
    out: String,
    /// Key reference → variable with its public key.
    keys: BTreeMap<u8, String>,
    counter: usize,
    /// Mechanism and key of the last MANAGE SECURITY ENVIRONMENT.
    signature: Option<(u8, u8)>,
    confidentiality: Option<(u8, u8)>,
}

impl Writer {
    fn command(&mut self, group: &[Event]) {
        let exchanges: Vec<&Exchange> = group
            .iter()
            .filter_map(|event| match event {
                Event::Exchange(exchange) => Some(exchange),
                Event::Reset => None,
            })
            .collect();
        let Some(first) = exchanges.first() else {
            return;
        };
        let header = first.command.get(1..4).unwrap_or_default();
        let data: Vec<u8> = exchanges
            .iter()
            .filter(|e| e.command.get(1) != Some(&0xC0))
            .flat_map(|e| data_field(&e.command))
            .copied()
            .collect();
        let answer: Vec<u8> = exchanges
            .iter()
            .flat_map(|e| split_status(&e.response).0)
            .copied()
            .collect();
        let done = exchanges
            .last()
            .is_some_and(|e| split_status(&e.response).1 == [0x90, 0x00]);
        match (header, data.as_slice()) {
            ([0xCB, 0x3F, 0xFF], &[0x70, _, 0x84, 1, reference, ..]) if done => {
                self.captured_key(&exchanges, reference);
            }
            ([0x47, ..], &[0xAC, _, 0x80, 1, _, 0x83, 1, reference]) => {
                self.keys.remove(&reference);
                if done && !answer.is_empty() {
                    self.captured_key(&exchanges, reference);
                } else {
                    self.plain(&exchanges);
                }
            }
            ([0x22, 0x41 | 0xC1, template], &[0x80, 1, mechanism, 0x83 | 0x84, 1, reference])
                if done =>
            {
                self.fetch_key(mechanism, reference);
                match template {
                    0xB6 => self.signature = Some((mechanism, reference)),
                    _ => self.confidentiality = Some((mechanism, reference)),
                }
                self.plain(&exchanges);
            }
            ([0x2A, 0x9E, 0x9A], _) if done && self.signature.is_some() => {
                self.signed(&exchanges, &data);
            }
            ([0x2A, 0x80, 0x86], _) if done && self.confidentiality.is_some() => {
                self.deciphered(&exchanges, &answer);
            }
            ([0xCB, 0xA0, 0x12], [0x5C, 2, 0xDF, 0x20]) if answer.len() == 19 => {
                push(&mut self.out, &format!("> {}", hex(&first.command)));
                push(&mut self.out, "< DF2010{cardid}9000");
            }
            _ => self.plain(&exchanges),
        }
    }

    fn plain(&mut self, exchanges: &[&Exchange]) {
        for exchange in exchanges {
            push(&mut self.out, &format!("> {}", hex(&exchange.command)));
            push(&mut self.out, &format!("< {}", hex(&exchange.response)));
        }
    }

    /// Writes the exchanges with the answer captured; gives what stands for the whole.
    fn captured(&mut self, exchanges: &[&Exchange], prefix: &str) -> String {
        let mut whole = String::new();
        for exchange in exchanges {
            push(&mut self.out, &format!("> {}", hex(&exchange.command)));
            let (data, status) = split_status(&exchange.response);
            if data.is_empty() {
                push(&mut self.out, &format!("< {}", hex(status)));
                continue;
            }
            self.counter += 1;
            let name = format!("{prefix}{}", self.counter);
            push(
                &mut self.out,
                &format!("< {{{name}:{}}} {}", data.len(), hex(status)),
            );
            let _ = write!(whole, "{{{name}}}");
        }
        whole
    }

    fn captured_key(&mut self, exchanges: &[&Exchange], reference: u8) {
        let whole = self.captured(exchanges, "part");
        let name = format!("public{reference:02X}");
        push(&mut self.out, &format!("set {name} {whole}"));
        self.keys.insert(reference, name);
    }

    /// A key that the log uses without having read it.
    fn fetch_key(&mut self, mechanism: u8, reference: u8) {
        if self.keys.contains_key(&reference) {
            return;
        }
        let name = format!("public{reference:02X}");
        push(
            &mut self.out,
            "# Added: the public key of the card that replays.",
        );
        push(
            &mut self.out,
            &format!("> 00CB3FFF0A70088401{reference:02X}A5037F498000"),
        );
        let rest = match mechanism & 0x0F {
            0x06 => None,
            0x07 => Some(14),
            0x08 => Some(142),
            0x09 => Some(270),
            _ => None,
        };
        if let Some(rest) = rest {
            push(
                &mut self.out,
                &format!("< {{first:256}} 61{:02X}", rest & 0xFF),
            );
            push(&mut self.out, "> 00C0000000");
            push(&mut self.out, &format!("< {{rest:{rest}}} 9000"));
            push(&mut self.out, &format!("set {name} {{first}}{{rest}}"));
        } else {
            push(&mut self.out, &format!("< {{{name}:*}} 9000"));
        }
        self.keys.insert(reference, name);
    }

    fn signed(&mut self, exchanges: &[&Exchange], data: &[u8]) {
        let whole = self.captured(exchanges, "signature");
        let Some((mechanism, reference)) = self.signature else {
            return;
        };
        let Some(key) = self.keys.get(&reference) else {
            return;
        };
        let scheme = match mechanism {
            0x50..=0x5F => "pkcs1",
            0x1A..=0x1E => "ecdsa",
            _ => "raw",
        };
        let line = format!("verify {scheme} {{{key}}} {} {whole}", hex(data));
        push(&mut self.out, &line);
    }

    /// The plain text is what the client had encrypted; another card needs another cryptogram.
    fn deciphered(&mut self, exchanges: &[&Exchange], plain: &[u8]) {
        let Some((mechanism, reference)) = self.confidentiality else {
            return;
        };
        let Some(key) = self.keys.get(&reference) else {
            return;
        };
        let scheme = match mechanism & 0xF0 {
            0x40 => "pkcs1",
            0x80 => "oaep",
            _ => "raw",
        };
        self.counter += 1;
        let name = format!("cryptogram{}", self.counter);
        let line = format!("encrypt {scheme} {{{key}}} {} {name}", hex(plain));
        push(&mut self.out, &line);
        let mut offset = 0;
        for exchange in exchanges {
            let data = data_field(&exchange.command);
            if exchange.command.get(1) == Some(&0xC0) || data.is_empty() {
                self.plain(&[exchange]);
                continue;
            }
            let head = exchange.command.get(..5).unwrap_or_default();
            let tail = exchange.command.get(5 + data.len()..).unwrap_or_default();
            let end = offset + data.len();
            let line = format!("> {}{{{name}[{offset}..{end}]}}{}", hex(head), hex(tail));
            push(&mut self.out, &line);
            push(&mut self.out, &format!("< {}", hex(&exchange.response)));
            offset = end;
        }
    }
}

/// The data field of a short command APDU.
fn data_field(command: &[u8]) -> &[u8] {
    match command {
        [_, _, _, _, length, rest @ ..] => rest.get(..usize::from(*length)).unwrap_or_default(),
        _ => &[],
    }
}

fn split_status(response: &[u8]) -> (&[u8], &[u8]) {
    response
        .split_at_checked(response.len().saturating_sub(2))
        .unwrap_or((&[], response))
}

fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::Transcript;

    #[test]
    fn log_becomes_a_transcript_with_captures() {
        let key = "7F 49 82 01 09 81 82 01 00 ".to_owned() + &"AB ".repeat(247);
        let signature = "CD ".repeat(256);
        let log = format!(
            "00000012 Card ATR: 3B 8D 01\n\
             00000001 APDU: 00 A4 04 00 09 A0 00 00 03 97 42 54 46 59 00 \n\
             00000002 SW: 61 12 4F 90 00 \n\
             00000003 APDU: 00 CB A0 12 04 5C 02 DF 20 00 \n\
             00000004 SW: DF 20 10 {} 90 00 \n\
             00000005 APDU: 00 CB 3F FF 0A 70 08 84 01 81 A5 03 7F 49 80 00\n\
             00000006 SW: {key}61 0E\n\
             00000007 APDU: 00 C0 00 00 0E\n\
             00000008 SW: {}82 03 01 00 01 90 00\n\
             00000009 APDU: 00 22 41 B6 06 80 01 57 84 01 81\n\
             00000010 SW: 90 00\n\
             00000011 APDU: 00 2A 9E 9A 02 AA BB 00\n\
             00000012 SW: {signature}90 00\n\
             00000013 Reset complete.\n",
            "01 ".repeat(16),
            "AB ".repeat(9),
        );
        let text = transcript_from_log(&log, "created", "test");
        let expected = "\
# test
card created

reset
> 00A4040009A0000003974254465900
< 61124F9000
> 00CBA012045C02DF2000
< DF2010{cardid}9000
> 00CB3FFF0A7008840181A5037F498000
< {part1:256} 610E
> 00C000000E
< {part2:14} 9000
set public81 {part1}{part2}
> 002241B60680015784 0181
< 9000
> 002A9E9A02AABB00
< {signature3:256} 9000
verify pkcs1 {public81} AABB {signature3}
reset
"
        .replace("80015784 0181", "800157840181");
        assert_eq!(text, expected);
        Transcript::parse(&text).unwrap();
    }

    #[test]
    fn cryptograms_are_made_anew_for_the_key_of_the_replay() {
        let log = format!(
            "APDU: 00 22 41 B8 06 80 01 47 84 01 81\nSW: 90 00\n\
             APDU: 10 2A 80 86 FF {}\nSW: 90 00\n\
             APDU: 00 2A 80 86 01 EE 00\nSW: 68 69 90 00\n",
            "EE ".repeat(255)
        );
        let text = transcript_from_log(&log, "created", "test");
        assert!(
            text.contains("encrypt pkcs1 {public81} 6869 cryptogram1\n"),
            "{text}"
        );
        assert!(
            text.contains("> 102A8086FF{cryptogram1[0..255]}\n"),
            "{text}"
        );
        assert!(
            text.contains("> 002A808601{cryptogram1[255..256]}00\n"),
            "{text}"
        );
        assert!(text.contains("set public81 {first}{rest}\n"), "{text}");
        Transcript::parse(&text).unwrap();
    }

    #[test]
    fn colours_and_noise_are_ignored() {
        let log = "\u{1b}[35m00000001 \u{1b}[0mAPDU: 00 20 00 80\u{1b}[0m\nnoise SHOW: 11\n\
                   \u{1b}[35m00000001 SW: 63 C5\u{1b}[0m\n";
        assert!(transcript_from_log(log, "blank", "x").ends_with("> 00200080\n< 63C5\n"));
    }
}
