//! Ping sets, on both sides.

use crate::dcom::ids::resolver_status::*;
use crate::dcom::*;
use crate::exporter::*;

const KNOWN: u64 = 100;

struct Resolver {
    sets: PingSets,
    next: u64,
}

impl Resolver {
    fn new() -> Self {
        Self {
            sets: PingSets::new(),
            next: 5000,
        }
    }

    fn ping(
        &mut self,
        set: u64,
        sequence: u16,
        add: &[u64],
        remove: &[u64],
        now: u64,
    ) -> (u64, u32) {
        let ping = ComplexPing {
            set,
            sequence,
            add: add.to_vec(),
            remove: remove.to_vec(),
        };
        let mut random = || {
            self.next += 1;
            self.next
        };
        let is_object = |oid| oid >= KNOWN;
        let reply = self.sets.complex_ping(&ping, now, &mut random, is_object);
        (reply.set, reply.status)
    }
}

#[test]
fn set_keeps_its_objects_while_it_is_pinged() {
    let mut resolver = Resolver::new();
    let (set, status) = resolver.ping(0, 1, &[100, 101], &[], 0);
    assert_eq!((set, status), (5001, OK));
    assert!(resolver.sets.is_pinged(100));
    assert!(resolver.sets.expire(3 * PING_SECONDS).is_empty());
    let ping = SimplePing { set };
    assert_eq!(resolver.sets.simple_ping(&ping, 300).status, OK);
    assert!(resolver.sets.expire(300 + 3 * PING_SECONDS).is_empty());
    assert_eq!(resolver.sets.expire(301 + 3 * PING_SECONDS), [100, 101]);
    assert_eq!(resolver.sets.simple_ping(&ping, 700).status, INVALID_SET);
    assert_eq!(resolver.ping(set, 2, &[], &[], 700), (set, INVALID_SET));
}

#[test]
fn object_in_another_set_is_still_needed() {
    let mut resolver = Resolver::new();
    resolver.ping(0, 1, &[100, 101], &[], 0);
    let (second, _) = resolver.ping(0, 1, &[101], &[], 200);
    assert_eq!(resolver.sets.expire(400), [100]);
    // One that is removed by its client is released by its client.
    resolver.ping(second, 2, &[], &[101], 400);
    assert!(!resolver.sets.is_pinged(101));
    assert!(resolver.sets.expire(10_000).is_empty());
}

#[test]
fn overtaken_pings_have_no_effect_and_numbers_wrap() {
    let mut resolver = Resolver::new();
    let (set, _) = resolver.ping(0, 65_534, &[100], &[], 0);
    assert_eq!(resolver.ping(set, 1, &[101], &[], 0), (set, OK));
    assert!(resolver.sets.is_pinged(101));
    // It was sent before, and arrives after.
    assert_eq!(resolver.ping(set, 65_535, &[], &[101], 0), (set, OK));
    assert!(resolver.sets.is_pinged(101));
    assert_eq!(resolver.ping(set, 1, &[102], &[100], 0), (set, OK));
    assert!(resolver.sets.is_pinged(102) && !resolver.sets.is_pinged(100));
}

#[test]
fn unknown_objects_and_too_many_are_refused() {
    let mut resolver = Resolver::new();
    let (set, status) = resolver.ping(0, 1, &[1, 100], &[], 0);
    assert_eq!(status, INVALID_OID);
    assert!(resolver.sets.is_pinged(100) && !resolver.sets.is_pinged(1));
    let many: Vec<u64> = (1000..).take(MAX_OIDS).collect();
    assert_eq!(resolver.ping(set, 2, &many, &[], 0).1, OUT_OF_RESOURCES);
    let made = (0..).take_while(|_| resolver.ping(0, 1, &[], &[], 0).1 == OK);
    assert_eq!(made.count(), MAX_SETS - 1);
    assert_eq!(resolver.ping(0, 1, &[], &[], 0), (0, OUT_OF_RESOURCES));
}

#[test]
fn source_of_numbers_that_gives_none_makes_no_set() {
    let mut sets = PingSets::new();
    let ping = ComplexPing {
        set: 0,
        sequence: 0,
        add: vec![],
        remove: vec![],
    };
    let reply = sets.complex_ping(&ping, 0, &mut || 0, |_| true);
    assert_eq!((reply.set, reply.status), (0, OUT_OF_RESOURCES));
    assert_eq!(sets.complex_ping(&ping, 0, &mut || 4, |_| true).set, 4);
    let second = sets.complex_ping(&ping, 0, &mut || 4, |_| true);
    assert_eq!(second.status, OUT_OF_RESOURCES);
}

#[test]
fn both_sides_understand_each_other() {
    let mut resolver = Resolver::new();
    let mut pinger = Pinger::new();
    assert!(pinger.is_due(0) && pinger.simple_ping().is_none());
    let change = |resolver: &mut Resolver, pinger: &mut Pinger, now| {
        let ping = pinger.complex_ping(vec![100], vec![]);
        let mut random = || 77;
        let is_object = |_| true;
        let reply = resolver
            .sets
            .complex_ping(&ping, now, &mut random, is_object);
        pinger.changed(&reply, now);
        reply.status
    };
    assert_eq!(change(&mut resolver, &mut pinger, 0), OK);
    assert!(!pinger.is_due(PING_SECONDS - 1) && pinger.is_due(PING_SECONDS));
    let ping = pinger.simple_ping().unwrap();
    assert_eq!(ping.set, 77);
    pinger.kept(&resolver.sets.simple_ping(&ping, 120), 120);
    assert!(!pinger.is_due(121));
    // The server forgets: the client begins anew.
    resolver.sets.expire(10_000);
    pinger.kept(&resolver.sets.simple_ping(&ping, 10_000), 10_000);
    assert!(pinger.is_due(10_000) && pinger.simple_ping().is_none());
    assert_eq!(change(&mut resolver, &mut pinger, 10_000), OK);
    assert!(resolver.sets.is_pinged(100));
}
