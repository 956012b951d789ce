//! Messages as they are on the wire, damage to them, and what others read in them.

mod conversation;
mod golden;
mod messages;
mod objects;
mod pdu;
mod pings;
mod round_trip;
mod stranger;

/// Bytes from hexadecimal with any white space.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    base16ct::mixed::decode_vec(digits).unwrap()
}

/// The bytes cut at each place, with each bit flipped, and with each byte cleared or filled.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let cut = (0..bytes.len()).map(|length| bytes[..length].to_vec());
    let changed = (0..bytes.len()).flat_map(move |at| {
        let flipped = (0..8).map(move |bit| bytes[at] ^ (1 << bit));
        flipped.chain([0, 0xFF]).map(move |value| {
            let mut bytes = bytes.to_vec();
            bytes[at] = value;
            bytes
        })
    });
    cut.chain(changed)
}
