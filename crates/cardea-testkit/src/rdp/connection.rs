//! From the first byte to the virtual channels: TPKT, X.224, MCS and the connection sequence of MS-RDPBCGR
//! (§1.3.1.1), with the least that clients accept.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::tls::{Certificate, Tls};

/// The channel for everything that is not a virtual channel.
const IO_CHANNEL: u16 = 0x03EB;
/// The first virtual channel; the others follow.
const FIRST_CHANNEL: u16 = 0x03EC;
/// Who we are, in share headers.
const SHARE: [u8; 4] = [0xEA, 0x03, 0x01, 0x00];
const USER: [u8; 2] = [0xEA, 0x03];

/// Most bytes of a virtual channel in one piece.
const CHUNK: usize = 1600;
const FIRST: u32 = 1;
const LAST: u32 = 2;

/// An established connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    channels: Vec<String>,
    partial: Vec<(u16, Vec<u8>)>,
}

/// What a connection is made of.
pub(super) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Connection {
    /// The whole sequence, to the point where both sides may use virtual channels.
    pub(super) fn accept(
        mut stream: TcpStream,
        certificate: Option<&Certificate>,
    ) -> io::Result<Self> {
        let request = packet(&mut stream)?;
        expect(request.get(1) == Some(&0xE0), "an X.224 connection request")?;
        let stream: Box<dyn Stream> = match certificate {
            None => {
                // No negotiation: standard security, for which the connect response then asks for no encryption.
                stream.write_all(&[0x03, 0, 0, 0x0B, 0x06, 0xD0, 0, 0, 0, 0, 0])?;
                Box::new(stream)
            }
            Some(certificate) => {
                stream.write_all(&[
                    0x03, 0, 0, 0x13, 0x0E, 0xD0, 0, 0, 0, 0, 0, 0x02, 0, 0x08, 0, 0x01, 0, 0, 0,
                ])?;
                Box::new(Tls::accept(stream, certificate)?)
            }
        };
        let requested = match (certificate, request.last_chunk::<4>()) {
            (Some(_), Some(protocols)) => *protocols,
            _ => [0; 4],
        };
        let mut connection = Self {
            stream,
            channels: Vec::new(),
            partial: Vec::new(),
        };
        connection.exchange_settings(requested)?;
        connection.activate()?;
        Ok(connection)
    }

    /// Sends a message over a virtual channel.
    pub(super) fn send(&mut self, channel: &str, message: &[u8]) -> io::Result<()> {
        let place = self.channels.iter().position(|name| name == channel);
        let place = place.ok_or_else(|| other(&format!("the client has no channel {channel}")))?;
        let id = FIRST_CHANNEL + narrow::<u16>(place)?;
        let total = narrow::<u32>(message.len())?.to_le_bytes();
        let pieces = message.chunks(CHUNK);
        let last = pieces.len() - 1;
        for (number, piece) in pieces.enumerate() {
            let mut flags = 0;
            flags |= if number == 0 { FIRST } else { 0 };
            flags |= if number == last { LAST } else { 0 };
            self.send_on(id, &[&total[..], &flags.to_le_bytes(), piece].concat())?;
        }
        Ok(())
    }

    /// The next message that arrives on a virtual channel, and its channel.
    pub(super) fn receive(&mut self) -> io::Result<(String, Vec<u8>)> {
        loop {
            let (id, data) = self.data()?;
            let place = id.checked_sub(FIRST_CHANNEL).map(usize::from);
            let Some(name) = place.and_then(|place| self.channels.get(place)) else {
                continue;
            };
            let name = name.clone();
            let (Some(flags), Some(piece)) = (word(&data, 4), data.get(8..)) else {
                return Err(other("a piece of a channel without a header"));
            };
            if flags & FIRST != 0 {
                self.partial.retain(|(channel, _)| *channel != id);
                self.partial.push((id, Vec::new()));
            }
            let at = self.partial.iter().position(|(channel, _)| *channel == id);
            let at = at.ok_or_else(|| other("a piece that continues nothing"))?;
            self.partial[at].1.extend_from_slice(piece);
            if flags & LAST != 0 {
                let (_, message) = self.partial.swap_remove(at);
                expect(
                    word(&data, 0) == Some(narrow(message.len())?),
                    "a whole message",
                )?;
                return Ok((name, message));
            }
        }
    }

    /// Disconnect Provider Ultimatum.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.stream.write_all(&tpkt(&[0x21, 0x80])?)
    }

    /// MCS Connect: which channels the client wants, and the numbers they get.
    fn exchange_settings(&mut self, requested: [u8; 4]) -> io::Result<()> {
        let initial = data_packet(&mut self.stream)?;
        expect(
            initial.starts_with(&[0x7F, 0x65]),
            "an MCS connect initial PDU",
        )?;
        self.channels = requested_channels(&initial)?;
        let count = narrow::<u16>(self.channels.len())?;
        let ids = (0..count).map(|number| FIRST_CHANNEL + number);
        let mut network = [&[0xEB, 0x03][..], &count.to_le_bytes()].concat();
        ids.for_each(|id| network.extend(id.to_le_bytes()));
        network.resize(network.len().next_multiple_of(4), 0);

        let mut settings = vec![0x01, 0x0C, 0x0C, 0x00, 0x04, 0x00, 0x08, 0x00];
        settings.extend(requested);
        settings.extend([0x03, 0x0C]);
        settings.extend(narrow::<u16>(network.len() + 4)?.to_le_bytes());
        settings.extend(network);
        // Security: neither a method nor a level of encryption.
        settings.extend([0x02, 0x0C, 0x0C, 0x00, 0, 0, 0, 0, 0, 0, 0, 0]);

        let length = narrow::<u8>(settings.len())?;
        let mut conference = vec![0x00, 0x05, 0x00, 0x14, 0x7C, 0x00, 0x01, length + 14];
        conference.extend([0x14, 0x76, 0x0A, 0x01, 0x01, 0x00, 0x01, 0xC0, 0x00]);
        conference.extend(b"McDn");
        conference.push(length);
        conference.extend(settings);
        // The lengths of BER and PER in one byte hold for as few channels as clients ask for.
        expect(conference.len() < 0x80, "few channels")?;

        let mut response = vec![0x0A, 0x01, 0x00, 0x02, 0x01, 0x00, 0x30, 0x1A];
        for parameter in [0x22, 0x03, 0x00, 0x01, 0x00, 0x01] {
            response.extend([0x02, 0x01, parameter]);
        }
        response.extend([0x02, 0x03, 0x00, 0xFF, 0xF8, 0x02, 0x01, 0x02, 0x04]);
        response.push(narrow(conference.len())?);
        response.extend(conference);
        let mut connect = vec![0x7F, 0x66];
        match response.len() {
            length @ ..0x80 => connect.push(narrow(length)?),
            length @ ..0x100 => connect.extend([0x81, narrow(length)?]),
            length => connect.extend([&[0x82][..], &narrow::<u16>(length)?.to_be_bytes()].concat()),
        }
        connect.extend(response);
        self.stream.write_all(&tpkt(&connect)?)
    }

    /// Channels joined, licence, capabilities, finalization: what the client sends decides on the next step.
    fn activate(&mut self) -> io::Result<()> {
        let mut greeted = false;
        loop {
            let pdu = data_packet(&mut self.stream)?;
            match pdu.first().map(|byte| byte & 0xFC) {
                // Erect Domain.
                Some(0x04) => (),
                Some(0x28) => self.stream.write_all(&tpkt(&[0x2E, 0, 0, 0x01])?)?,
                Some(0x38) => {
                    let channel = pdu.get(3..5).ok_or_else(|| other("a join"))?;
                    let confirm = [&[0x3E, 0, 0, 0x01][..], channel, channel].concat();
                    self.stream.write_all(&tpkt(&confirm)?)?;
                }
                Some(0x64) => {
                    let (channel, data) = send_data(&pdu)?;
                    if channel != IO_CHANNEL {
                        continue;
                    }
                    if !greeted {
                        greeted = true;
                        self.greet()?;
                    } else if self.share(&data)? {
                        return Ok(());
                    }
                }
                _ => return Err(other(&format!("unexpected: {pdu:02x?}"))),
            }
        }
    }

    /// After the client's information: a licence that costs nothing, and what we can.
    fn greet(&mut self) -> io::Result<()> {
        self.send_on(
            IO_CHANNEL,
            &[
                0x80, 0, 0, 0, 0xFF, 0x03, 0x10, 0, 0x07, 0, 0, 0, 0x02, 0, 0, 0, 0x04, 0, 0, 0,
            ],
        )?;
        let sets = capabilities();
        let mut body = SHARE.to_vec();
        body.extend([0x04, 0x00]);
        let all: Vec<u8> = sets.concat();
        body.extend(narrow::<u16>(all.len() + 4)?.to_le_bytes());
        body.extend(b"RDP\0");
        body.extend(narrow::<u16>(sets.len())?.to_le_bytes());
        body.extend([0, 0]);
        body.extend(all);
        body.extend([0; 4]);
        self.send_share(0x11, &body)
    }

    /// A PDU of the client's share; `true` after its Font List, which ends the sequence.
    fn share(&mut self, pdu: &[u8]) -> io::Result<bool> {
        match pdu.get(2).map(|kind| kind & 0x0F) {
            // Confirm Active. rdesktop waits for all three.
            Some(0x03) => {
                self.send_share_data(31, &[0x01, 0x00, 0xEA, 0x03])?;
                self.send_share_data(20, &[0x04, 0, 0, 0, 0, 0, 0, 0])?;
                self.send_share_data(20, &[0x02, 0, 0xEA, 0x03, 0xEA, 0x03, 0, 0])?;
            }
            Some(0x07) if pdu.get(14) == Some(&39) => {
                self.send_share_data(40, &[0, 0, 0, 0, 0x03, 0, 0x04, 0])?;
                return Ok(true);
            }
            _ => (),
        }
        Ok(false)
    }

    fn send_share_data(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = narrow::<u16>(body.len() + 18)?.to_le_bytes();
        let head = [0x00, 0x01, length[0], length[1], kind, 0, 0, 0];
        self.send_share(0x17, &[&SHARE[..], &head, body].concat())
    }

    fn send_share(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        let length = narrow::<u16>(body.len() + 6)?.to_le_bytes();
        let pdu = [&length[..], &[kind, 0x00], &USER, body].concat();
        self.send_on(IO_CHANNEL, &pdu)
    }

    fn send_on(&mut self, channel: u16, data: &[u8]) -> io::Result<()> {
        let [high, low] = channel.to_be_bytes();
        let length = (0x8000 | narrow::<u16>(data.len())?).to_be_bytes();
        let head = [0x68, 0x00, 0x01, high, low, 0x70, length[0], length[1]];
        self.stream.write_all(&tpkt(&[&head[..], data].concat())?)
    }

    fn data(&mut self) -> io::Result<(u16, Vec<u8>)> {
        loop {
            let pdu = data_packet(&mut self.stream)?;
            match pdu.first().map(|byte| byte & 0xFC) {
                Some(0x64) => return send_data(&pdu),
                Some(0x20) => return Err(other("the client has disconnected")),
                _ => (),
            }
        }
    }
}

/// Six sets, the least that rdesktop takes; xfreerdp is content with the first one.
fn capabilities() -> [Vec<u8>; 6] {
    let set = |kind: u8, body: &[u8]| {
        let length = u8::try_from(body.len() + 4).unwrap_or(u8::MAX);
        [&[kind, 0, length, 0][..], body].concat()
    };
    let mut general = vec![0x01, 0x00, 0x03, 0x00, 0x00, 0x02];
    general.resize(20, 0);
    general[10] = 1;
    let mut bitmap = vec![0x10, 0x00, 0x01, 0, 0x01, 0, 0x01, 0];
    bitmap.extend(640_u16.to_le_bytes());
    bitmap.extend(480_u16.to_le_bytes());
    bitmap.extend([0, 0, 0x01, 0, 0x01, 0, 0, 0, 0x01, 0, 0, 0]);
    let mut order = vec![0; 84];
    for (at, value) in [(20, 1), (22, 20), (26, 1), (30, 0x22)] {
        order[at] = value;
    }
    let pointer = [0x01, 0, 20, 0, 20, 0];
    let mut input = vec![0x01, 0, 0, 0];
    input.resize(84, 0);
    let channels = [0, 0, 0, 0];
    [
        set(1, &general),
        set(2, &bitmap),
        set(3, &order),
        set(8, &pointer),
        set(13, &input),
        set(20, &channels),
    ]
}

/// Names of the channels in the client's network data (MS-RDPBCGR §2.2.1.3.4), where they are sought by the
/// block's header.
fn requested_channels(initial: &[u8]) -> io::Result<Vec<String>> {
    let found = (0..initial.len()).find_map(|at| {
        let block = initial.get(at..)?;
        let count = usize::try_from(word(block, 4)?).ok()?;
        let length = u16::from_le_bytes([*block.get(2)?, *block.get(3)?]);
        let here = block.starts_with(&[0x03, 0xC0])
            && count <= 31
            && usize::from(length) == 8 + 12 * count;
        here.then(|| block.get(8..8 + 12 * count))?
    });
    let definitions = found.ok_or_else(|| other("no channels are asked for"))?;
    let name = |definition: &[u8]| {
        let name = definition.iter().take(8).take_while(|byte| **byte != 0);
        name.map(|byte| char::from(*byte)).collect()
    };
    Ok(definitions.chunks(12).map(name).collect())
}

/// Channel and data of a Send Data Request.
fn send_data(pdu: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let parsed = || {
        let channel = u16::from_be_bytes([*pdu.get(3)?, *pdu.get(4)?]);
        let start = if pdu.get(6)? & 0x80 == 0 { 7 } else { 8 };
        Some((channel, pdu.get(start..)?.to_vec()))
    };
    parsed().ok_or_else(|| other("a Send Data Request that is too short"))
}

/// What is in the next X.224 data TPDU.
fn data_packet(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let packet = packet(stream)?;
    let data = packet.strip_prefix(&[0x02, 0xF0, 0x80]);
    data.map(<[u8]>::to_vec)
        .ok_or_else(|| other("not a data TPDU"))
}

/// The next X.224 TPDU; input in the fast form, which may come at any time, is dropped.
fn packet(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    loop {
        let first = byte(stream)?;
        if first & 3 == 3 {
            let _reserved = byte(stream)?;
            let length = u16::from_be_bytes([byte(stream)?, byte(stream)?]);
            return rest(stream, usize::from(length), 4);
        }
        let length = byte(stream)?;
        if length & 0x80 == 0 {
            rest(stream, usize::from(length), 2)?;
        } else {
            let length = u16::from_be_bytes([length & 0x7F, byte(stream)?]);
            rest(stream, usize::from(length), 3)?;
        }
    }
}

fn rest(stream: &mut impl Read, length: usize, read: usize) -> io::Result<Vec<u8>> {
    let length = length.checked_sub(read);
    let mut bytes = vec![0; length.ok_or_else(|| other("a packet shorter than its header"))?];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn byte(stream: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A data TPDU.
fn tpkt(data: &[u8]) -> io::Result<Vec<u8>> {
    let length = narrow::<u16>(data.len() + 7)?.to_be_bytes();
    let head = [0x03, 0, length[0], length[1], 0x02, 0xF0, 0x80];
    Ok([&head[..], data].concat())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn narrow<T: TryFrom<usize>>(length: usize) -> io::Result<T> {
    T::try_from(length).map_err(|_| other(&format!("{length} is too long for its field")))
}

fn expect(condition: bool, what: &str) -> io::Result<()> {
    match condition {
        true => Ok(()),
        false => Err(other(&format!("not {what}"))),
    }
}

pub(super) fn other(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_path_input_is_dropped_before_a_packet() {
        let mut bytes: &[u8] = &[
            0x04, 0x04, 0xAA, 0xBB, // input in the fast form
            0x00, 0x80, 0x05, 0xCC, 0xDD, // the same with a length of two bytes
            0x03, 0x00, 0x00, 0x08, 0x02, 0xF0, 0x80, 0x28,
        ];
        assert_eq!(data_packet(&mut bytes).unwrap(), [0x28]);
        assert!(bytes.is_empty());
    }

    #[test]
    fn packet_shorter_than_its_header_is_an_error() {
        for mut bytes in [&[0x03, 0x00, 0x00, 0x03][..], &[0x00, 0x01], &[0x03, 0x00]] {
            assert!(packet(&mut bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn channels_are_read_from_the_network_data_alone() {
        let mut initial = vec![0x7F, 0x65, 0x03, 0xC0, 0xFF, 0xFF, 0x01, 0, 0, 0];
        initial.extend([0x03, 0xC0, 0x20, 0x00, 0x02, 0, 0, 0]);
        initial.extend(b"rdpdr\0\0\0\x00\x00\x80\x80");
        initial.extend(b"cliprdr\0\x00\x00\xA0\xC0");
        assert_eq!(requested_channels(&initial).unwrap(), ["rdpdr", "cliprdr"]);
        initial.truncate(initial.len() - 1);
        assert!(requested_channels(&initial).is_err());
    }

    #[test]
    fn send_data_has_a_length_of_one_or_two_bytes() {
        let short = [0x64, 0, 1, 0x03, 0xEC, 0x70, 0x01, 0xAA];
        assert_eq!(send_data(&short).unwrap(), (0x03EC, vec![0xAA]));
        let long = [0x64, 0, 1, 0x03, 0xEC, 0x70, 0x80, 0x01, 0xAA];
        assert_eq!(send_data(&long).unwrap(), (0x03EC, vec![0xAA]));
        assert!(send_data(&short[..5]).is_err());
    }
}
