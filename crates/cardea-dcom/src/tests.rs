//! Messages as they are on the wire, damage to them, and what others read in them.

mod pdu;

/// Bytes from hexadecimal with any white space.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    base16ct::mixed::decode_vec(digits).unwrap()
}

/// The bytes cut at each place, and with each bit of them flipped.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let flipped = (0..bytes.len() * 8).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    cut.chain(flipped)
}
