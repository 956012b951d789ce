//! When a certificate is renewed.

use cardea_enrol::renewal_due;
use cardea_pki::Certificate;

use crate::authority::{CA, Issue, NOW, SoftKey, issue};

const DAY: i64 = 86_400;

fn valid_for(days: i64) -> Certificate {
    let key = SoftKey::new(CA);
    let der = issue(
        &key,
        &Issue {
            issuer: "CN=Root",
            subject: "CN=Ada".parse().unwrap(),
            key: &key.public(),
            from: NOW,
            until: NOW + days * DAY,
            extensions: Vec::new(),
        },
    );
    Certificate::parse(&der).unwrap()
}

#[test]
fn due_is_the_later_of_two_thirds_and_thirty_days_before_the_end() {
    for (days, earliest) in [(365, 335.0), (90, 60.0), (7, 4.66)] {
        let certificate = valid_for(days);
        let rest = days as f64 - earliest;
        let mut all = Vec::new();
        for card in ["one", "two", "three", "four"] {
            let due = (renewal_due(&certificate, card, None) - NOW) as f64 / DAY as f64;
            assert!(due >= earliest - 0.01, "{days}: {due}");
            assert!(due <= earliest + rest / 10.0 + 0.01, "{days}: {due}");
            all.push(due);
        }
        all.dedup();
        assert!(all.len() > 1, "not all cards at once");
    }
    let chosen = renewal_due(&valid_for(365), "one", Some(10)) - NOW;
    assert!((355 * DAY..=356 * DAY).contains(&chosen));
    // More days than it is valid for: at once, and not before it begins.
    assert!(renewal_due(&valid_for(7), "one", Some(30)) < NOW + 7 * DAY);
}
