//! Windows' class minidriver for GIDS cards: the commands that it was seen to send, in its order and in its
//! blocks, with the contents of its files made as it makes them.

use miniz_oxide::deflate::compress_to_vec_zlib;

/// Most bytes of a command's data.
const BLOCK: usize = 240;

/// Files, by elementary file and data object.
const DIRECTORY: (u16, u16) = (0xA000, 0xDF1F);
const KEY_MAP: (u16, u16) = (0xA000, 0xDF20);
const CARD_CACHE: (u16, u16) = (0xA010, 0xDF22);
const CONTAINER_MAP: (u16, u16) = (0xA010, 0xDF23);
const FIRST_CERTIFICATE: (u16, u16) = (0xA010, 0xDF24);

/// The key of container 0.
const KEY: u8 = 0x81;

pub(super) const DONE: u16 = 0x9000;

/// A card, by what sends commands to it.
pub(super) struct Minidriver<'a> {
    transmit: &'a mut dyn FnMut(&[u8]) -> Vec<u8>,
    /// Numbers of changes to the files and to the containers.
    files: u16,
    containers: u16,
}

impl<'a> Minidriver<'a> {
    pub(super) fn new(transmit: &'a mut dyn FnMut(&[u8]) -> Vec<u8>) -> Self {
        let mut card = Self {
            transmit,
            files: 0,
            containers: 0,
        };
        let (status, _) = card.command(&[
            0x00, 0xA4, 0x04, 0x00, 0x09, 0xA0, 0, 0, 0x03, 0x97, 0x42, 0x54, 0x46, 0x59, 0x00,
        ]);
        assert_eq!(status, DONE, "the card application");
        let cache = card.read(CARD_CACHE).unwrap();
        card.containers = u16::from_le_bytes([cache[2], cache[3]]);
        card.files = u16::from_le_bytes([cache[4], cache[5]]);
        card
    }

    /// VERIFY: the status word.
    pub(super) fn verify(&mut self, pin: &str) -> u16 {
        let length = u8::try_from(pin.len()).unwrap();
        let command = [&[0x00, 0x20, 0x00, 0x80, length][..], pin.as_bytes()].concat();
        self.command(&command).0
    }

    /// The status word that tells the tries left.
    pub(super) fn tries(&mut self) -> u16 {
        self.command(&[0x00, 0x20, 0x00, 0x80]).0
    }

    /// At the end of each transaction: nobody is verified.
    pub(super) fn forget(&mut self) {
        assert_eq!(self.command(&[0x00, 0x20, 0x00, 0x82]).0, DONE);
    }

    /// A new RSA-2048 exchange key in container 0 of a card without containers: its public key, as modulus
    /// and exponent. The PIN is verified.
    pub(super) fn generate(&mut self, container: &str) -> (Vec<u8>, Vec<u8>) {
        self.changed_file();
        self.write(CONTAINER_MAP, &container_record(container, 0x01, 0));
        self.changed_file();
        self.write(CONTAINER_MAP, &container_record(container, 0x03, 0));
        self.containers += 1;
        self.write_cache();
        // Decryption raw, with OAEP, with PKCS#1; signatures raw and with PKCS#1.
        let templates = [
            (0xB8, 0x07),
            (0xB8, 0x87),
            (0xB8, 0x47),
            (0xB6, 0x17),
            (0xB6, 0x57),
        ];
        let templates = templates.map(|(template, mechanism)| {
            let head = [template, 0x09, 0x80, 0x01, mechanism];
            [&head[..], &[0x83, 0x01, KEY, 0x95, 0x01, 0x40]].concat()
        });
        let file = [
            &[0x82, 0x01, 0x18, 0x83, 0x02, 0xB0, KEY][..],
            &[0x8C, 0x05, 0x8F, 0x10, 0x10, 0x10, 0x00, 0xA5, 0x37],
            &templates.concat(),
        ]
        .concat();
        self.done(&[&[0x00, 0xE0, 0x00, 0x00, 0x49, 0x62, 0x47][..], &file].concat());
        self.done(&[0x00, 0x44, 0x00, 0x00, 0x00]);
        // Without Le: the public key is read afterwards.
        self.done(&[
            0x00, 0x47, 0, 0, 0x08, 0xAC, 0x06, 0x80, 0x01, 0x07, 0x83, 0x01, KEY,
        ]);
        self.write(
            KEY_MAP,
            &[0x01, 0x01, 0, 0, 0, 0x07, 0x9A, KEY, 0xB0, 0xFF, 0xFF, 0, 0],
        );
        self.changed_file();
        self.write(CONTAINER_MAP, &container_record(container, 0x03, 2048));
        self.public_key()
    }

    /// The public key of container 0.
    pub(super) fn public_key(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (status, key) = self.command(&[
            0x00, 0xCB, 0x3F, 0xFF, 0x0A, 0x70, 0x08, 0x84, 0x01, KEY, 0xA5, 0x03, 0x7F, 0x49,
            0x80, 0x00,
        ]);
        assert_eq!(status, DONE);
        let head = [0x7F, 0x49, 0x82, 0x01, 0x09, 0x81, 0x82, 0x01, 0x00];
        let key = key.strip_prefix(&head[..]).unwrap();
        let (modulus, exponent) = key.split_at(256);
        assert_eq!(exponent[..2], [0x82, 0x03]);
        (modulus.to_vec(), exponent[2..].to_vec())
    }

    /// Signs a DigestInfo, to which the card adds PKCS#1's padding.
    pub(super) fn sign(&mut self, digest_info: &[u8]) -> Result<Vec<u8>, u16> {
        self.choose(0xB6, 0x57)?;
        let length = u8::try_from(digest_info.len()).unwrap();
        let head = [0x00, 0x2A, 0x9E, 0x9A, length];
        let signed = self.command(&[&head[..], digest_info, &[0x00]].concat());
        success(signed)
    }

    /// Takes PKCS#1's padding off a cryptogram.
    pub(super) fn decipher(&mut self, cryptogram: &[u8]) -> Result<Vec<u8>, u16> {
        self.choose(0xB8, 0x47)?;
        let deciphered = self.chained([0x2A, 0x80, 0x86], cryptogram, &[0x00]);
        success(deciphered)
    }

    /// The certificate of container 0, new or in the place of another one: what `certreq -accept` does. The PIN
    /// is verified.
    pub(super) fn store_certificate(&mut self, certificate: &[u8]) {
        let mut directory = self.read(DIRECTORY).unwrap();
        let mut record = Vec::new();
        record.extend(b"mscp\0\0\0\0\0");
        record.extend(b"kxc00\0\0\0\0\0\0");
        record.extend([0x24, 0xDF, 0, 0, 0x10, 0xA0, 0, 0]);
        // Behind the version.
        let mut known = directory[1..].chunks_exact(28);
        if !known.any(|known| known == record) {
            directory.extend(record);
            self.write(DIRECTORY, &directory);
        }
        self.changed_file();
        let length = u16::try_from(certificate.len()).unwrap();
        let mut content = vec![0x01, 0x00];
        content.extend(length.to_le_bytes());
        content.extend(compress_to_vec_zlib(certificate, 9));
        self.write(FIRST_CERTIFICATE, &content);
    }

    /// That file as it is on the card.
    pub(super) fn stored_certificate(&mut self) -> Vec<u8> {
        self.read(FIRST_CERTIFICATE).unwrap()
    }

    fn choose(&mut self, template: u8, mechanism: u8) -> Result<(), u16> {
        let head = [0x00, 0x22, 0x41, template, 0x06];
        let chosen = [0x80, 0x01, mechanism, 0x84, 0x01, KEY];
        let command = [&head[..], &chosen].concat();
        success(self.command(&command)).map(drop)
    }

    /// Before each change of a file.
    fn changed_file(&mut self) {
        self.files += 1;
        self.write_cache();
    }

    fn write_cache(&mut self) {
        let (containers, files) = (self.containers.to_le_bytes(), self.files.to_le_bytes());
        self.write(CARD_CACHE, &[&[0, 0][..], &containers, &files].concat());
    }

    fn read(&mut self, (file, object): (u16, u16)) -> Option<Vec<u8>> {
        let [f, g] = file.to_be_bytes();
        let [o, p] = object.to_be_bytes();
        let (status, data) = self.command(&[0x00, 0xCB, f, g, 0x04, 0x5C, 0x02, o, p, 0x00]);
        let value = data.strip_prefix(&[o, p])?;
        let value = match value {
            [0x81, _, value @ ..] | [0x82, _, _, value @ ..] | [..=0x7F, value @ ..] => value,
            _ => return None,
        };
        (status == DONE).then(|| value.to_vec())
    }

    fn write(&mut self, (file, object): (u16, u16), content: &[u8]) {
        let [f, g] = file.to_be_bytes();
        let mut data = object.to_be_bytes().to_vec();
        match u16::try_from(content.len()).unwrap().to_be_bytes() {
            [0, length @ ..=0x7F] => data.push(length),
            [0, length] => data.extend([0x81, length]),
            [high, low] => data.extend([0x82, high, low]),
        }
        data.extend(content);
        let (status, _) = self.chained([0xDB, f, g], &data, &[]);
        assert_eq!(status, DONE, "file {file:04X}, object {object:04X}");
    }

    /// In as many blocks as it takes.
    fn chained(&mut self, header: [u8; 3], data: &[u8], end: &[u8]) -> (u16, Vec<u8>) {
        let blocks = data.chunks(BLOCK);
        let last = blocks.len() - 1;
        let mut answer = (0, Vec::new());
        for (number, block) in blocks.enumerate() {
            let class = if number == last { 0x00 } else { 0x10 };
            let length = u8::try_from(block.len()).unwrap();
            let head = [class, header[0], header[1], header[2], length];
            let end = if number == last { end } else { &[] };
            answer = self.command(&[&head[..], block, end].concat());
            if answer.0 != DONE {
                break;
            }
        }
        answer
    }

    fn done(&mut self, command: &[u8]) {
        assert_eq!(self.command(command).0, DONE, "{command:02x?}");
    }

    /// A command, and all of its answer.
    fn command(&mut self, command: &[u8]) -> (u16, Vec<u8>) {
        let mut response = (self.transmit)(command);
        let mut data = Vec::new();
        loop {
            let end = response.len().checked_sub(2).unwrap();
            let status = response.split_off(end);
            data.extend(response);
            match status[..] {
                [0x61, rest] => response = (self.transmit)(&[0x00, 0xC0, 0x00, 0x00, rest]),
                [high, low] => return (u16::from_be_bytes([high, low]), data),
                _ => unreachable!("two bytes"),
            }
        }
    }
}

fn success((status, data): (u16, Vec<u8>)) -> Result<Vec<u8>, u16> {
    match status {
        DONE => Ok(data),
        other => Err(other),
    }
}

fn container_record(name: &str, flags: u8, bits: u16) -> Vec<u8> {
    let units = name.encode_utf16().flat_map(u16::to_le_bytes);
    let mut record: Vec<u8> = units.collect();
    assert!(record.len() <= 78, "the name of a container");
    record.resize(80, 0);
    record.extend([flags, 0, 0, 0]);
    record.extend(bits.to_le_bytes());
    record
}
