//! The reader's side: slots, waiting, power, APDUs, and connections that end.

use std::time::{Duration, Instant};

use cardea_client::message::{
    FailureKind, PowerAction, ReaderRequest, Reply, Request, SlotRequest, TpmRequest,
};

use crate::support::{PIN, Place, destruction, transmission};

/// READ of the PIN's counter: VERIFY without data (ISO 7816-4 §11.5.6), 9000 when verified.
const PIN_STATE: [u8; 4] = [0x00, 0x20, 0x00, 0x80];

#[test]
fn waiting_client_hears_of_insertion_and_removal_at_once() {
    let place = Place::new();
    let _daemon = place.start();
    let mut maker = place.client();
    let mut waiter = place.client();
    let (mut generation, _) = waiter.slots();
    for insertion in [true, false] {
        waiter.send(&Request::Reader(ReaderRequest::WaitStates {
            generation,
            timeout_ms: 30_000,
        }));
        if insertion {
            maker.create("work");
        } else {
            maker.done(&destruction("work"));
        }
        let start = Instant::now();
        match waiter.reply().unwrap() {
            Reply::Slots {
                generation: new,
                inserted,
            } => {
                assert_eq!(inserted.iter().any(|&number| number != 0), insertion);
                generation = new;
            }
            other => panic!("{other:?}"),
        }
        assert!(start.elapsed() < Duration::from_millis(500));
    }
}

#[test]
fn waiting_ends_when_the_daemon_stops() {
    let place = Place::new();
    let daemon = place.start();
    let mut waiter = place.client();
    let (generation, _) = waiter.slots();
    waiter.send(&Request::Reader(ReaderRequest::WaitStates {
        generation,
        timeout_ms: 30_000,
    }));
    let start = Instant::now();
    daemon.stop();
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn apdus_need_power_and_a_card() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    let up = |slot| {
        Request::slot(
            slot,
            SlotRequest::Power {
                action: PowerAction::Up,
            },
        )
    };
    assert_eq!(client.kind(&up(0)), FailureKind::NotFound);
    assert_eq!(client.kind(&up(200)), FailureKind::NotFound);
    client.create("work");
    assert_eq!(
        client.kind(&transmission(0, &PIN_STATE)),
        FailureKind::NotFound
    );
    client.power(0);
    assert_eq!(client.transmit(0, &PIN_STATE), [0x63, 0xC5]);
    assert_eq!(client.transmit(0, &[]), [0x67, 0x00]);
    assert_eq!(
        client.kind(&transmission(1, &PIN_STATE)),
        FailureKind::NotFound
    );
    client.done(&destruction("work"));
    assert_eq!(
        client.kind(&transmission(0, &PIN_STATE)),
        FailureKind::NotFound
    );
    // Another card in the same slot is another insertion: not without power.
    client.create("next");
    assert_eq!(
        client.kind(&transmission(0, &PIN_STATE)),
        FailureKind::NotFound
    );
}

#[test]
fn reset_power_down_and_disconnection_forget_the_pin() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("work");
    for action in [PowerAction::Down, PowerAction::Reset, PowerAction::Up] {
        client.power(0);
        assert_eq!(client.verify(0, PIN), 0x9000);
        assert_eq!(client.transmit(0, &PIN_STATE), [0x90, 0x00]);
        client.call(&Request::slot(0, SlotRequest::Power { action }));
        assert_eq!(client.transmit(0, &PIN_STATE), [0x63, 0xC5], "{action:?}");
    }
    assert_eq!(client.verify(0, PIN), 0x9000);
    let mut other = place.client();
    other.power(0);
    assert_eq!(
        other.transmit(0, &PIN_STATE),
        [0x63, 0xC5],
        "per connection"
    );
}

#[test]
fn powering_another_slot_leaves_the_first_one() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("one");
    client.create("two");
    client.power(0);
    assert_eq!(client.verify(0, PIN), 0x9000);
    client.power(1);
    assert_eq!(client.transmit(1, &PIN_STATE), [0x63, 0xC5]);
    assert_eq!(
        client.kind(&transmission(0, &PIN_STATE)),
        FailureKind::NotFound
    );
    client.power(0);
    assert_eq!(client.transmit(0, &PIN_STATE), [0x63, 0xC5]);
}

#[test]
fn five_wrong_pins_block_one_card_only() {
    let place = Place::new();
    let _daemon = place.start();
    let mut client = place.client();
    client.create("one");
    client.create("two");
    client.power(0);
    for left in (0..5).rev() {
        assert_eq!(client.verify(0, b"999999"), 0x63C0 + left);
    }
    assert_eq!(client.verify(0, PIN), 0x6983);
    client.power(1);
    assert_eq!(client.verify(1, PIN), 0x9000);
    match client.call(&Request::Tpm(TpmRequest::Status)) {
        Reply::Tpm(status) => assert_eq!(status.lockout_count, 0),
        other => panic!("{other:?}"),
    }
}
