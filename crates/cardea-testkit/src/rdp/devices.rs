//! Device redirection (MS-RDPEFS) on the channel `rdpdr`: which devices there are, and requests to them.

use std::collections::BTreeMap;
use std::io;

use super::connection::{Connection, other};
use super::{Device, Session};

const CHANNEL: &str = "rdpdr";

/// Headers of messages: component, then packet.
const ANNOUNCE: &[u8; 4] = b"rDnI";
const CONFIRM: &[u8; 4] = b"rDCC";
const NAME: &[u8; 4] = b"rDNC";
const SERVER_CAPABILITIES: &[u8; 4] = b"rDPS";
const CLIENT_CAPABILITIES: &[u8; 4] = b"rDPC";
const LOGGED_ON: &[u8; 4] = b"rDLU";
const DEVICES: &[u8; 4] = b"rDAD";
const DEVICE_REPLY: &[u8; 4] = b"rDrd";
const REQUEST: &[u8; 4] = b"rDRI";
const COMPLETION: &[u8; 4] = b"rDCI";

/// Version 1.13, and a number for the client.
const VERSION: [u8; 4] = [0x01, 0x00, 0x0D, 0x00];
const CLIENT: [u8; 4] = [0x2A, 0, 0, 0];

const DEVICE_CONTROL: u32 = 0x0E;
/// Room for an answer: more than for the longest response of a card.
const ROOM: u32 = 0x0004_0000;

/// What came of a request.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u32,
    pub(super) output: Vec<u8>,
}

impl Session {
    /// Everything up to the list of devices.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let mut session = Self {
            connection,
            devices: Vec::new(),
            next_request: 1,
            answers: BTreeMap::new(),
        };
        session.say(ANNOUNCE, &[&VERSION, &CLIENT])?;
        while !session.hear()? {}
        Ok(session)
    }

    /// Asks a device for something; [`Session::answer`] waits for what comes of it.
    pub(super) fn request(&mut self, device: u32, code: u32, input: &[u8]) -> io::Result<u32> {
        let request = self.next_request;
        self.next_request += 1;
        let length = u32::try_from(input.len()).map_err(|_| other("the input is too long"))?;
        let numbers = [
            device,
            0,
            request,
            DEVICE_CONTROL,
            0,
            ROOM,
            length,
            code,
            0,
            0,
            0,
            0,
            0,
        ];
        let head: Vec<u8> = numbers.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.say(REQUEST, &[&head, input])?;
        Ok(request)
    }

    /// The answer to a request; those to others are kept for their turn.
    pub(super) fn answer(&mut self, request: u32) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.answers.remove(&request) {
                return Ok(answer);
            }
            self.hear()?;
        }
    }

    fn say(&mut self, header: &[u8; 4], parts: &[&[u8]]) -> io::Result<()> {
        let message = [&header[..], &parts.concat()].concat();
        self.connection.send(CHANNEL, &message)
    }

    /// Deals with one message; `true` when it was a list of devices.
    fn hear(&mut self) -> io::Result<bool> {
        let message = loop {
            let (channel, message) = self.connection.receive()?;
            if channel == CHANNEL {
                break message;
            }
        };
        let (header, body) = message
            .split_first_chunk::<4>()
            .ok_or_else(|| other("a message without a header"))?;
        match header {
            CONFIRM | CLIENT_CAPABILITIES => (),
            NAME => {
                // General capabilities, with all that clients may do, and smart cards.
                let general = [
                    1, 0, 0x2C, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0D, 0, 0xFF, 0xFF,
                    0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0,
                ];
                let smart_cards = [5, 0, 8, 0, 1, 0, 0, 0];
                self.say(
                    SERVER_CAPABILITIES,
                    &[&[2, 0, 0, 0], &general, &smart_cards],
                )?;
                self.say(CONFIRM, &[&VERSION, &CLIENT])?;
                self.say(LOGGED_ON, &[])?;
            }
            DEVICES => {
                let devices = listed(body).ok_or_else(|| other("a list of devices cut off"))?;
                for device in devices {
                    self.say(DEVICE_REPLY, &[&device.id.to_le_bytes(), &[0; 4]])?;
                    // xfreerdp says it twice at times.
                    self.devices.retain(|known| known.id != device.id);
                    self.devices.push(device);
                }
                return Ok(true);
            }
            COMPLETION => {
                let (request, answer) = completed(body).ok_or_else(|| other("no answer"))?;
                self.answers.insert(request, answer);
            }
            _ => return Err(other(&format!("unexpected: {message:02x?}"))),
        }
        Ok(false)
    }
}

fn listed(body: &[u8]) -> Option<Vec<Device>> {
    let mut rest = body.get(4..)?;
    let count = word(body)?;
    let mut devices = Vec::new();
    for _ in 0..count {
        let (kind, id) = (word(rest)?, word(rest.get(4..)?)?);
        let name = rest.get(8..16)?.iter().take_while(|byte| **byte != 0);
        devices.push(Device {
            kind,
            name: name.map(|byte| char::from(*byte)).collect(),
            id,
        });
        let data = usize::try_from(word(rest.get(16..)?)?).ok()?;
        rest = rest.get(20 + data..)?;
    }
    Some(devices)
}

fn completed(body: &[u8]) -> Option<(u32, Answer)> {
    let request = word(body.get(4..)?)?;
    let status = word(body.get(8..)?)?;
    let length = body.get(12..).and_then(word).unwrap_or_default();
    let output = body.get(16..).unwrap_or_default();
    let output = output.get(..usize::try_from(length).ok()?)?.to_vec();
    Some((request, Answer { status, output }))
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_of_devices_is_read_to_its_end_or_not_at_all() {
        let mut body = vec![2, 0, 0, 0];
        body.extend([0x20, 0, 0, 0, 7, 0, 0, 0]);
        body.extend(b"SCARD\0\0\0\x00\x00\x00\x00");
        body.extend([0x08, 0, 0, 0, 1, 0, 0, 0]);
        body.extend(b"home\0\0\0\0\x03\x00\x00\x00abc");
        let devices = listed(&body).unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["SCARD", "home"]);
        assert_eq!(devices[0].kind, Device::SMART_CARDS);
        assert_eq!(devices[0].id, 7);
        assert!(listed(&body[..body.len() - 1]).is_none());
    }

    #[test]
    fn answer_without_output_is_an_answer() {
        let body = [0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0xC0];
        let (request, answer) = completed(&body).unwrap();
        assert_eq!((request, answer.status), (5, 0xC000_0001));
        assert!(answer.output.is_empty());
    }
}
