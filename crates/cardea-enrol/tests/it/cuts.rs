//! Every write of a job cut, every answer lost, the card pulled at every step: the next run ends in one certificate and
//! one key.

use cardea_enrol::{HttpAnswer, HttpRequest, Outcome, State};

use crate::authority::{NOW, SoftCard, advance, answer, honest, setting};

/// Runs until it is done, as many times as it takes.
fn finish(
    job: &mut cardea_enrol::Job,
    disk: &mut crate::authority::Disk,
    card: &SoftCard,
    net: &mut crate::authority::Net,
) {
    let mut now = NOW;
    for _ in 0..4 {
        match advance(job, disk, card, net, now) {
            Ok(Outcome::Done) => return,
            Ok(Outcome::Pending(until)) => now = until,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("not done: {:?}", job.state);
}

fn assert_one_of_each(card: &SoftCard, what: &str) {
    let content = card.content.lock().unwrap();
    assert_eq!(content.keys.len(), 1, "{what}: keys");
    assert_eq!(content.certificates.len(), 1, "{what}: certificates");
}

#[test]
fn every_write_and_every_message_cut_ends_in_one_key_and_one_certificate() {
    let (mut job, mut disk, card, mut net) = setting(Box::new(honest));
    disk.fuse.burn_after(usize::MAX);
    finish(&mut job, &mut disk, &card, &mut net);
    let steps = disk.fuse.steps();
    assert!(steps >= 14, "{steps}");
    for cut in 0..steps {
        let (mut job, mut disk, card, mut net) = setting(Box::new(honest));
        // The program has shown the job's name only after its first write.
        let begun = job.clone();
        disk.fuse.burn_after(cut);
        let result = advance(&mut job, &mut disk, &card, &mut net, NOW);
        assert!(result.is_err(), "cut {cut}");
        disk.fuse.mend();
        // What was in memory is gone.
        let mut job = disk.job.clone().unwrap_or(begun);
        finish(&mut job, &mut disk, &card, &mut net);
        assert_eq!(disk.job.as_ref().unwrap().state, State::Done);
        assert_one_of_each(&card, &format!("cut {cut}"));
    }
}

#[test]
fn card_pulled_at_every_step_ends_in_one_key_and_one_certificate() {
    let mut pulled = 0;
    loop {
        let (mut job, mut disk, card, mut net) = setting(Box::new(honest));
        *card.left.lock().unwrap() = Some(pulled);
        let result = advance(&mut job, &mut disk, &card, &mut net, NOW);
        *card.left.lock().unwrap() = None;
        if result.is_ok() {
            break;
        }
        let mut job = disk.job.clone().unwrap();
        finish(&mut job, &mut disk, &card, &mut net);
        assert_one_of_each(&card, &format!("pulled at {pulled}"));
        pulled += 1;
    }
    assert!(pulled >= 5, "{pulled}");
}

#[test]
fn waiting_repeats_the_same_bytes_and_not_before_its_time() {
    let mut waits = 2;
    let approval = move |request: &HttpRequest, der: &[u8]| -> HttpAnswer {
        if request.password.is_some() && waits > 0 {
            waits -= 1;
            return answer(202, &[("retry-after", "60")], Vec::new());
        }
        honest(request, der)
    };
    let (mut job, mut disk, card, mut net) = setting(Box::new(approval));
    let first = advance(&mut job, &mut disk, &card, &mut net, NOW).unwrap();
    assert_eq!(first, Outcome::Pending(NOW + 60));
    let sent = net.requests.len();
    let early = advance(&mut job, &mut disk, &card, &mut net, NOW + 59).unwrap();
    assert_eq!(early, Outcome::Pending(NOW + 60));
    assert_eq!(net.requests.len(), sent, "nothing is sent too early");
    // The program has ended between.
    let mut job = disk.job.clone().unwrap();
    finish(&mut job, &mut disk, &card, &mut net);
    assert!(net.requests.windows(2).all(|two| two[0] == two[1]));
    assert_one_of_each(&card, "after waiting");
}
