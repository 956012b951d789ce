//! What `gids-tool --initialize` sends to a card in initialisation state.

use cardea_tpm::AdminKey;

/// The last commands: the whole application is selected and activated, which makes the card operational.
pub const ACTIVATION: [&[u8]; 2] = [
    &[0x00, 0xA4, 0x00, 0x0C, 0x02, 0x3F, 0xFF],
    &[0x00, 0x44, 0x00, 0x00],
];

/// All commands before [`ACTIVATION`].
///
/// # Panics
///
/// When a PIN or PUK is longer than 255 bytes.
#[must_use]
pub fn personalisation(pin: &[u8], puk: Option<&[u8]>, admin_key: &[u8; 24]) -> Vec<Vec<u8>> {
    let mut commands = vec![first_value(0x80, pin)];
    commands.extend(puk.map(|puk| first_value(0x81, puk)));
    let [_, activate] = ACTIVATION;
    commands.extend([
        EMPTY_FILE.to_vec(),
        activate.to_vec(),
        ADMIN_KEY_FILE.to_vec(),
        activate.to_vec(),
        put_admin_key(admin_key),
    ]);
    commands
}

/// PUT DATA with another admin key and its check value: the first three bytes of zeros under the key.
///
/// # Panics
///
/// When the key is not a TDEA key.
#[must_use]
pub fn put_admin_key(key: &[u8; 24]) -> Vec<u8> {
    let mut zeros = [0; 8];
    AdminKey::new(key).expect("24 bytes").encrypt(&mut zeros);
    let head = b"\x00\xDB\x3F\xFF\x26\x70\x24\x84\x01\x80\xA5\x1F\x87\x18";
    [&head[..], key, &[0x88, 3], &zeros[..3]].concat()
}

/// Whether a step of a personalisation that is taken up again is done now or was done before: there is such a file,
/// the value is set, or no file is selected because there was one already.
#[must_use]
pub fn is_done(response: &[u8]) -> bool {
    matches!(
        response,
        [0x90, 0x00] | [0x6A, 0x89] | [0x69, 0x85] | [0x6A, 0x82]
    )
}

const EMPTY_FILE: &[u8] =
    b"\x00\xE0\x00\x00\x0E\x62\x0C\x82\x01\x39\x83\x02\xA0\x10\x8C\x03\x03\x30\x00";
const ADMIN_KEY_FILE: &[u8] =
    b"\x00\xE0\x00\x00\x1C\x62\x1A\x82\x01\x18\x83\x02\xB0\x80\x8C\x04\x87\x00\x20\xFF\
    \xA5\x0B\xA4\x09\x80\x01\x02\x83\x01\x80\x95\x01\xC0";

/// CHANGE REFERENCE DATA that sets the first value of a PIN or PUK.
fn first_value(reference: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("a short command");
    [&[0, 0x24, 1, reference, length], value].concat()
}
