//! When a certificate is renewed.

use std::cell::Cell;
use std::rc::Rc;

use cardea_enrol::{CardKey, Job, Renewed, renewal_due};
use cardea_pki::{Certificate, CertificateRequest, est};

use crate::authority::{
    CA, Issue, NOW, SoftKey, advance, answer, certs_only, issue, order, setting,
};

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

/// Issues for 90 days from the second that the clock shows.
fn authority(clock: Rc<Cell<i64>>) -> crate::authority::Answering {
    Box::new(move |_, der| {
        let csr = CertificateRequest::parse(der).unwrap();
        let now = clock.get();
        let certificate = issue(
            &SoftKey::new(CA),
            &Issue {
                issuer: "CN=Root",
                subject: csr.subject().clone(),
                key: csr.public_key(),
                from: now - 60,
                until: now + 90 * DAY,
                extensions: Vec::new(),
            },
        );
        let body = est::encode_body(&certs_only(&[certificate]));
        answer(200, &[], body.into_bytes())
    })
}

#[test]
fn a_year_of_a_service_has_a_valid_certificate_on_each_day() {
    let clock = Rc::new(Cell::new(NOW));
    let (mut job, mut disk, card, mut net) = setting(authority(Rc::clone(&clock)));
    advance(&mut job, &mut disk, &card, &mut net, NOW).unwrap();
    let reference = job.key.unwrap();
    let (mut renewals, mut outages) = (0, 0);
    for day in 0..365 {
        let now = NOW + day * DAY;
        clock.set(now);
        let der = card.content.lock().unwrap().certificates[&reference].clone();
        let certificate = Certificate::parse(&der).unwrap();
        assert!(now < certificate.not_after(), "day {day}");
        if now < renewal_due(&certificate, "abcd", None) {
            continue;
        }
        // Every other attempt finds nobody: the next day is soon enough.
        let mut job = Job::new("abcd", order(), now).unwrap();
        job.renewed = Some(Renewed {
            key: reference,
            certificate: der,
        });
        job.use_key(&CardKey {
            reference,
            public: SoftKey::new(reference).public(),
        });
        outages += 1;
        if outages % 2 == 1 {
            disk.fuse.burn_after(2);
            assert!(advance(&mut job, &mut disk, &card, &mut net, now).is_err());
            disk.fuse.mend();
            continue;
        }
        advance(&mut job, &mut disk, &card, &mut net, now).unwrap();
        renewals += 1;
    }
    assert!((4..=6).contains(&renewals), "{renewals}");
    assert_eq!(card.content.lock().unwrap().keys.len(), 1);
}
