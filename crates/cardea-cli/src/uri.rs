//! PKCS#11 URIs (RFC 7512): how a card or key is named to programs that load the PKCS#11 module.
//!
//! The values are those of the module's token and objects, so that the printed URIs find them there.

use cardea_client::message::{CardState, CardSummary, KeySummary};
use cardea_client::slot_number::slot_number_of;
use cardea_terms::{token_label, token_model};

use crate::on_card::label;

/// Digits of the card id that are the token's serial number, as many as `CK_TOKEN_INFO` has room for.
const SERIAL: usize = 16;

/// The card. `None` if the module shows no token for it.
pub(crate) fn token(card: &CardSummary) -> Option<String> {
    if !is_token(card) {
        return None;
    }
    let serial = card.card_id.get(..SERIAL)?;
    Some(format!(
        "pkcs11:model={};manufacturer=Cardea;serial={};token={}",
        escaped(token_model(card.counter_mode)),
        escaped(serial),
        escaped(&token_label(&card.name))
    ))
}

/// The card by its serial number alone, which is enough for every program, and fits a line.
pub(crate) fn short_token(card: &CardSummary) -> Option<String> {
    let serial = card.card_id.get(..SERIAL).filter(|_| is_token(card))?;
    Some(format!("pkcs11:serial={}", escaped(serial)))
}

/// The number of its slot. `None` if the module shows no token for it.
pub(crate) fn slot(card: &CardSummary) -> Option<u32> {
    slot_number_of(&card.card_id).filter(|_| is_token(card))
}

/// Whether it is a token, or will be without anybody doing anything to it.
fn is_token(card: &CardSummary) -> bool {
    match card.state {
        CardState::Blocked
        | CardState::DriveAway
        | CardState::Ready
        | CardState::SwitchedOff
        | CardState::TpmAway => true,
        CardState::Foreign
        | CardState::Lost
        | CardState::NotTrusted
        | CardState::Unreadable
        | CardState::UnsafeTpm => false,
    }
}

/// The private key. A key without a label is identified by its id alone.
pub(crate) fn private_key(card: &CardSummary, key: &KeySummary) -> Option<String> {
    let mut uri = format!("{};id=", token(card)?);
    for byte in &key.id {
        uri.push_str(&format!("%{byte:02X}"));
    }
    if let Some(label) = label(key) {
        uri.push_str(";object=");
        uri.push_str(&escaped(label));
    }
    uri.push_str(";type=private");
    Some(uri)
}

/// The private key by its card's serial number and its id.
pub(crate) fn short_private_key(card: &CardSummary, key: &KeySummary) -> Option<String> {
    let id: String = key.id.iter().map(|byte| format!("%{byte:02X}")).collect();
    Some(format!("{};id={id};type=private", short_token(card)?))
}

/// Percent-encodes all but the unreserved characters of RFC 3986 §2.3. RFC 7512 §2.3 allows more, but some of
/// those are special to a shell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use cardea_client::message::PublicKey;

    use super::*;

    fn card(name: &str, state: CardState) -> CardSummary {
        CardSummary {
            card_id: "00112233445566778899aabbccddeeff".into(),
            instance_id: String::new(),
            name: name.into(),
            owner: 0,
            state,
            reason: String::new(),
            slot: None,
            reader: None,
            from: None,
            gone: Vec::new(),
            counted_here: false,
            drive: None,
            counter_mode: None,
        }
    }

    fn key(reference: u8, label: &str) -> KeySummary {
        KeySummary {
            reference,
            algorithm: cardea_terms::KeyAlgorithm::P256,
            origin: cardea_terms::Origin::Generated,
            class: cardea_terms::KeyClass::Session,
            label: label.into(),
            public: PublicKey::Ec {
                x: vec![1; 32],
                y: vec![2; 32],
            },
            certificate: false,
            id: vec![reference - 0x81],
            sign_only: false,
            certificate_label: None,
            import_exposed: false,
            recovery: None,
        }
    }

    const TOKEN: &str =
        "pkcs11:model=TPM%20card;manufacturer=Cardea;serial=0011223344556677;token=";

    #[test]
    fn token_is_identified_by_serial_number_and_label() {
        let uri = token(&card("Alice's card", CardState::Ready));
        assert_eq!(uri, Some(format!("{TOKEN}Alice%27s%20card")));
        let uri = token(&card("work:Alice ", CardState::Ready));
        assert_eq!(uri, Some(format!("{TOKEN}work_Alice")));
    }

    #[test]
    fn unusable_card_has_no_uri() {
        for state in [
            CardState::Foreign,
            CardState::Lost,
            CardState::NotTrusted,
            CardState::Unreadable,
            CardState::UnsafeTpm,
        ] {
            assert_eq!(token(&card("Alice", state)), None);
            assert_eq!(slot(&card("Alice", state)), None);
            assert_eq!(private_key(&card("Alice", state), &key(0x81, "mail")), None);
        }
        assert_eq!(slot(&card("Alice", CardState::Ready)), Some(0x4CDD_EEFF));
        // A blocked card stays a token, and a TPM comes back.
        assert!(token(&card("Alice", CardState::Blocked)).is_some());
        assert!(token(&card("Alice", CardState::TpmAway)).is_some());
        let short = CardSummary {
            card_id: "0011".into(),
            ..card("Alice", CardState::Ready)
        };
        assert_eq!(token(&short), None);
    }

    #[test]
    fn key_is_identified_by_id_and_label() {
        let card = card("A", CardState::Ready);
        assert_eq!(
            private_key(&card, &key(0x81, "mail & more")),
            Some(format!(
                "{TOKEN}A;id=%00;object=mail%20%26%20more;type=private"
            ))
        );
        assert_eq!(
            private_key(&card, &key(0x9E, "")),
            Some(format!("{TOKEN}A;id=%1D;type=private"))
        );
        let chosen = KeySummary {
            id: vec![0xAB, 0xCD],
            ..key(0x9E, "")
        };
        assert_eq!(
            private_key(&card, &chosen),
            Some(format!("{TOKEN}A;id=%AB%CD;type=private"))
        );
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(escaped("aZ09-._~"), "aZ09-._~");
        assert_eq!(
            escaped(" %;=/?&\"\n\u{1b}"),
            "%20%25%3B%3D%2F%3F%26%22%0A%1B"
        );
        assert_eq!(escaped("ä€"), "%C3%A4%E2%82%AC");
    }
}
