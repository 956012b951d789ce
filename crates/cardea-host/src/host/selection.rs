//! Which card a selector means: card id, an unambiguous beginning of it, instance id or name.

use std::sync::Arc;

use cardea_client::message::{Failure, FailureKind};

use crate::failure::{fail, no_such_card};
use crate::host::hosted::HostedCard;
use crate::host::permission::Caller;

/// The card that a user means. What fits exactly comes before a beginning.
///
/// Cards of others are not considered: no answer shows that one exists. What is not this host's never
/// stands before a card of this host.
pub(crate) fn select(
    cards: Vec<Arc<HostedCard>>,
    selector: &str,
    caller: Caller,
) -> Result<Arc<HostedCard>, Failure> {
    let own: Vec<_> = cards
        .into_iter()
        .filter(|card| caller.may_see(card.owner))
        .collect();
    let mut found: Vec<_> = own
        .iter()
        .filter(|card| is_exactly(card, selector))
        .collect();
    if found.is_empty() && !selector.is_empty() {
        let beginning = selector.to_ascii_lowercase();
        found = own
            .iter()
            .filter(|card| card.id.is_some() && card.selector().starts_with(&beginning))
            .collect();
    }
    if found.iter().any(|card| !card.is_guest()) {
        found.retain(|card| !card.is_guest());
    }
    match found.as_slice() {
        [card] => Ok(Arc::clone(card)),
        [] => Err(no_such_card()),
        several => {
            let ids: Vec<String> = several.iter().map(|card| card.selector()).collect();
            Err(fail(
                FailureKind::Ambiguous,
                format!("more than one card matches; use one of {}", ids.join(", ")),
            ))
        }
    }
}

/// The id, the instance id (case does not matter, as on Windows) or the name.
pub(crate) fn is_exactly(card: &HostedCard, selector: &str) -> bool {
    let instance = card.instance_id();
    card.selector() == selector
        || card.id.is_some() && card.selector().eq_ignore_ascii_case(selector)
        || !instance.is_empty() && instance.eq_ignore_ascii_case(selector)
        || !card.name().is_empty() && card.name() == selector
}

#[cfg(test)]
mod tests {
    use cardea_card::record::CardId;

    use super::*;

    const ALICE: u32 = 1000;
    const BOB: u32 = 1001;

    fn cards() -> Vec<Arc<HostedCard>> {
        let card = |first: u8, instance, name: &str, owner| {
            let mut id = [0xAB; 16];
            id[0] = first;
            let card = HostedCard::for_test(Some(CardId::new(id)), Some(instance), name, owner);
            Arc::new(card)
        };
        vec![
            card(0x11, 0, "work", Some(ALICE)),
            card(0x12, 1, "home", Some(ALICE)),
            card(0x12, 2, "work", Some(BOB)),
            card(0x77, 10, "11", Some(BOB)),
            Arc::new(HostedCard::for_test(None, None, "", None)),
        ]
    }

    fn select_as(uid: u32, selector: &str) -> Result<Option<u32>, FailureKind> {
        let caller = Caller::for_test(uid, uid == 0, uid == 0);
        select(cards(), selector, caller)
            .map(|card| card.instance)
            .map_err(|failure| failure.kind)
    }

    #[test]
    fn card_is_found_by_id_beginning_instance_and_name() {
        assert_eq!(
            select_as(ALICE, &format!("11{}", "ab".repeat(15))),
            Ok(Some(0))
        );
        assert_eq!(
            select_as(ALICE, &format!("11{}", "AB".repeat(15))),
            Ok(Some(0))
        );
        assert_eq!(select_as(ALICE, "11"), Ok(Some(0)));
        assert_eq!(select_as(ALICE, "12A"), Ok(Some(1)));
        assert_eq!(select_as(ALICE, "root\\smartcardreader\\0001"), Ok(Some(1)));
        assert_eq!(select_as(ALICE, "home"), Ok(Some(1)));
        assert_eq!(select_as(BOB, "ROOT\\SMARTCARDREADER\\0010"), Ok(Some(10)));
    }

    #[test]
    fn own_cards_come_before_those_of_others() {
        assert_eq!(select_as(ALICE, "work"), Ok(Some(0)));
        assert_eq!(select_as(BOB, "work"), Ok(Some(2)));
        assert_eq!(select_as(0, "work"), Err(FailureKind::Ambiguous));
    }

    #[test]
    fn exact_name_comes_before_a_beginning() {
        assert_eq!(select_as(0, "11"), Ok(Some(10)));
    }

    #[test]
    fn ambiguous_beginnings_and_unknown_cards_are_refused() {
        assert_eq!(select_as(ALICE, "1"), Err(FailureKind::Ambiguous));
        assert_eq!(select_as(ALICE, "2"), Err(FailureKind::NotFound));
        assert_eq!(select_as(ALICE, ""), Err(FailureKind::NotFound));
    }

    #[test]
    fn cards_of_others_are_as_if_they_were_not_there() {
        let caller = Caller::for_test(BOB, false, false);
        let refused = |selector: &str| select(cards(), selector, caller).map(drop).unwrap_err();
        let absent = refused("no such card");
        let id = format!("11{}", "ab".repeat(15));
        for selector in ["home", "broken.card", "ROOT\\SMARTCARDREADER\\0000", &id] {
            assert_eq!(refused(selector), absent, "{selector}");
        }
        assert_eq!(select_as(ALICE, "77"), Err(FailureKind::NotFound));
    }

    #[test]
    fn file_without_id_is_the_administrators_under_its_name() {
        assert_eq!(select_as(0, "broken.card"), Ok(None));
        assert_eq!(select_as(ALICE, "broken.card"), Err(FailureKind::NotFound));
    }
}
