//! The numbers of the cards' slots in PKCS#11.
//!
//! A program keeps a slot's number in its configuration, over a fork, over a new C_Initialize; with it, it sends a PIN.
//! So the number is made from the card's id alone and is the same in every process, for every user, at any time.

use std::collections::BTreeMap;

use crate::message::CardOverview;

/// Which card has which number.
///
/// INVARIANT: an entry is never changed or removed while a process lives: a number must not come to mean another card.
pub type SlotNumbers = BTreeMap<u32, String>;

/// The number that a card has unless another card has it too: the last 31 bits of its id, from 1.
///
/// Not more bits, because many programs keep the number in a signed 32-bit integer; not 0, which some take for none.
#[must_use]
pub fn slot_number(id: &[u8; 16]) -> u32 {
    candidate(id, 0)
}

/// Like [`slot_number`], of an id in hexadecimal, as messages have it. `None` if it is not one.
#[must_use]
pub fn slot_number_of(card_id: &str) -> Option<u32> {
    parse(card_id).map(|id| slot_number(&id))
}

/// Gives each card without a number the first of its numbers that no other card has.
///
/// INVARIANT: which of two new cards with the same number keeps it must not depend on their order in the list, and
/// must not be for the owner of an unusable card to choose, who may have invented its id. Cards are never made with a
/// number that another card of the machine has; this is for cards that come from elsewhere.
pub fn give_slot_numbers(numbers: &mut SlotNumbers, cards: &[CardOverview]) {
    let mut new: Vec<_> = cards
        .iter()
        .filter(|card| number_in(numbers, &card.card_id).is_none())
        .filter_map(|card| Some((!card.is_usable(), parse(&card.card_id)?, &card.card_id)))
        .collect();
    new.sort_unstable();
    new.dedup();
    for (_, id, text) in new {
        let mut candidates = (0..).map(|attempt| candidate(&id, attempt));
        if let Some(free) = candidates.find(|number| !numbers.contains_key(number)) {
            numbers.insert(free, text.clone());
        }
    }
}

/// The number that was given to a card.
#[must_use]
pub fn number_in(numbers: &SlotNumbers, card_id: &str) -> Option<u32> {
    let mut entries = numbers.iter();
    let found = entries.find(|(_, card)| *card == card_id);
    found.map(|(number, _)| *number)
}

/// The numbers of a card in the order in which they are tried: the last four bytes of its id, then in steps of the
/// four bytes before them.
fn candidate(id: &[u8; 16], attempt: u32) -> u32 {
    let [.., a, b, c, d, e, f, g, h] = *id;
    let step = u32::from_be_bytes([a, b, c, d]) | 1;
    let number = u32::from_be_bytes([e, f, g, h]).wrapping_add(step.wrapping_mul(attempt));
    (number & MAX).max(1)
}

fn parse(text: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    let read = base16ct::mixed::decode(text, &mut id).ok()?;
    (read.len() == id.len()).then_some(id)
}

/// Largest number.
const MAX: u32 = 0x7FFF_FFFF;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::CardState;

    fn card(id: &str, state: CardState) -> CardOverview {
        CardOverview {
            card_id: id.to_owned(),
            name: String::new(),
            state,
            reason: String::new(),
            uninitialised: false,
        }
    }

    fn numbers(cards: &[CardOverview]) -> Vec<(u32, String)> {
        let mut numbers = SlotNumbers::new();
        give_slot_numbers(&mut numbers, cards);
        numbers.into_iter().collect()
    }

    const LOW: &str = "00000000000000000000000180000007";
    const HIGH: &str = "ffffffffffffffff0000000300000007";

    #[test]
    fn number_is_the_end_of_the_id_in_31_bits_and_never_0() {
        assert_eq!(slot_number(&[0xFF; 16]), 0x7FFF_FFFF);
        assert_eq!(slot_number(&[0; 16]), 1);
        let mut id = [0; 16];
        id[12..].copy_from_slice(&[0x92, 0x34, 0x56, 0x78]);
        assert_eq!(slot_number(&id), 0x1234_5678);
        assert_eq!(slot_number_of(HIGH), Some(7));
        for not_an_id in ["", &HIGH[2..], "x"] {
            assert_eq!(slot_number_of(not_an_id), None, "{not_an_id}");
        }
    }

    #[test]
    fn colliding_cards_have_the_same_numbers_in_any_order() {
        let (low, high) = (card(LOW, CardState::Ready), card(HIGH, CardState::Ready));
        let both = numbers(&[low.clone(), high.clone()]);
        assert_eq!(both, [(7, LOW.to_owned()), (10, HIGH.to_owned())]);
        assert_eq!(numbers(&[high, low]), both);
    }

    /// Whoever puts a stick with an invented card file into the machine takes no number from a card that works.
    #[test]
    fn usable_card_keeps_its_number_against_an_unusable_one() {
        let (low, high) = (card(LOW, CardState::Foreign), card(HIGH, CardState::Ready));
        assert_eq!(
            numbers(&[low, high]),
            [(7, HIGH.to_owned()), (8, LOW.to_owned())]
        );
    }

    #[test]
    fn given_number_never_means_another_card() {
        let mut numbers = SlotNumbers::new();
        give_slot_numbers(&mut numbers, &[card(HIGH, CardState::Ready)]);
        // It was destroyed, and another one with its number is there.
        give_slot_numbers(&mut numbers, &[card(LOW, CardState::Ready)]);
        assert_eq!(number_in(&numbers, HIGH), Some(7));
        assert_eq!(number_in(&numbers, LOW), Some(8));
    }

    #[test]
    fn card_without_an_id_has_no_number() {
        assert_eq!(numbers(&[card("", CardState::Unreadable)]), []);
    }
}
