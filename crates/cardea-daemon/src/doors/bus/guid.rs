//! Card ids as Windows writes them.

use cardea_host::CardId;

use super::error::BusError;

/// An id as Windows writes GUIDs, in the order of its bytes.
pub(crate) fn guid(id: CardId) -> String {
    let digits = id.to_string();
    let ends = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    let parts = ends.map(|(from, to)| digits.get(from..to).unwrap_or_default());
    parts.join("-")
}

/// The id behind a GUID, with dashes and braces or without.
pub(crate) fn parse_guid(text: &str) -> Result<CardId, BusError> {
    let plain = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let digits = plain.unwrap_or(text).replace('-', "");
    digits.parse().map_err(|_| {
        BusError::invalid("a card id is a GUID: 32 hexadecimal digits, with dashes or without")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_ids_are_guids_with_dashes_or_without() {
        let id = CardId::new(*b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
        let text = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(guid(id), text);
        for form in [
            text,
            &format!("{{{text}}}"),
            &text.to_uppercase(),
            &id.to_string(),
        ] {
            assert_eq!(parse_guid(form).unwrap(), id, "{form}");
        }
        for wrong in ["", "01234567", "{01234567-89ab-cdef-0123-456789abcdef", "x"] {
            assert!(parse_guid(wrong).is_err(), "{wrong}");
        }
    }
}
