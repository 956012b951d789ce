//! Objects, their interface pointers and their references.

use super::golden::{create, reply};
use crate::Guid;
use crate::dcom::ids::{IID_REM_UNKNOWN, IID_UNKNOWN, hresult};
use crate::dcom::*;
use crate::exporter::*;
use crate::tpmvsc::{IID_CALLBACK, IID_MANAGER, IID_MANAGER2, interfaces_of_manager};

const MANAGER: u64 = 10;
const OTHER: u64 = 11;

fn counter() -> impl FnMut() -> Guid {
    let mut next = 100u128;
    move || {
        next += 1;
        Guid::from_u128(next)
    }
}

fn table() -> ObjectTable {
    let mut table = ObjectTable::new(7);
    table
        .add(
            MANAGER,
            Lifetime::Singleton,
            false,
            &interfaces_of_manager(),
        )
        .unwrap();
    table
        .add(OTHER, Lifetime::Counted, true, &[IID_CALLBACK])
        .unwrap();
    table
}

fn refs(ipid: Guid, public: u32, private: u32) -> RemRefs {
    RemRefs {
        this: create().this,
        refs: vec![InterfaceRef {
            ipid,
            public,
            private,
        }],
    }
}

fn query(ipid: Guid, iids: &[Guid]) -> RemQueryInterface {
    RemQueryInterface {
        this: create().this,
        ipid,
        refs: 2,
        iids: iids.to_vec(),
    }
}

#[test]
fn pointers_are_stable_and_name_their_interface() {
    let (mut table, mut new) = (table(), counter());
    let first = table.refer(MANAGER, &IID_MANAGER, 5, &mut new).unwrap();
    assert_eq!((first.oxid, first.oid, first.public_refs), (7, MANAGER, 5));
    assert_eq!(first.flags, StdObjRef::NO_PING);
    let again = table.refer(MANAGER, &IID_MANAGER, 1, &mut new).unwrap();
    assert_eq!(again.ipid, first.ipid);
    let found = table.find(&first.ipid).unwrap();
    assert_eq!((found.oid, found.iid), (MANAGER, IID_MANAGER));
    let unknown = table.refer(MANAGER, &IID_UNKNOWN, 1, &mut new).unwrap();
    assert_ne!(unknown.ipid, first.ipid);
    let other = table.refer(OTHER, &IID_MANAGER, 1, &mut new);
    assert_eq!(other, Err(hresult::E_NOINTERFACE));
    assert!(table.refer(12, &IID_MANAGER, 1, &mut new).is_err());
    assert_eq!(
        table
            .refer(OTHER, &IID_CALLBACK, 1, &mut new)
            .unwrap()
            .flags,
        0
    );
}

#[test]
fn query_answers_each_interface_and_says_how_it_went() {
    let (mut table, mut new) = (table(), counter());
    let ipid = table
        .refer(MANAGER, &IID_MANAGER, 5, &mut new)
        .unwrap()
        .ipid;
    let mut results = |iids: &[Guid], ipid| {
        let reply = table.query(&query(ipid, iids), &mut new);
        let each = reply.results.unwrap_or_default();
        (reply.result, each.iter().map(|one| one.result).collect())
    };
    let (no, yes) = (hresult::E_NOINTERFACE, hresult::S_OK);
    let expected: [(&[Guid], u32, Vec<u32>); 3] = [
        (&[IID_MANAGER2, IID_UNKNOWN], yes, vec![yes, yes]),
        (&[IID_CALLBACK, IID_MANAGER2], 1, vec![no, yes]),
        (&[IID_CALLBACK], no, vec![no]),
    ];
    for (iids, result, each) in expected {
        assert_eq!(results(iids, ipid), (result, each));
    }
    let unknown = results(&[IID_MANAGER], Guid::NIL);
    assert_eq!(unknown, (hresult::RPC_E_INVALID_IPID, vec![]));
}

#[test]
fn second_query_gives_complete_references() {
    let (mut table, mut new) = (table(), counter());
    let ipid = table
        .refer(MANAGER, &IID_MANAGER, 5, &mut new)
        .unwrap()
        .ipid;
    let mut query = RemQueryInterface2 {
        this: create().this,
        ipid,
        iids: vec![IID_MANAGER2, IID_CALLBACK],
    };
    let resolver = reply().bindings;
    let answer = table.query2(&query, &resolver, &mut new);
    assert_eq!(answer.result, hresult::S_FALSE);
    let [(0, Some(pointer)), (hresult::E_NOINTERFACE, None)] = &answer.interfaces[..] else {
        panic!("{answer:?}");
    };
    let reference = pointer.objref().unwrap();
    assert_eq!(reference.iid, IID_MANAGER2);
    let (std, addresses) = reference.standard().unwrap();
    assert_eq!((std.public_refs, addresses), (5, &resolver));
    assert_eq!(table.find(&std.ipid).unwrap().iid, IID_MANAGER2);
    query.ipid = IID_REM_UNKNOWN;
    let answer = table.query2(&query, &resolver, &mut new);
    assert_eq!(answer.result, hresult::RPC_E_INVALID_IPID);
    assert_eq!(answer.interfaces.len(), 2);
}

#[test]
fn object_ends_with_its_last_reference_and_the_singleton_does_not() {
    let (mut table, mut new) = (table(), counter());
    let manager = table
        .refer(MANAGER, &IID_MANAGER, 5, &mut new)
        .unwrap()
        .ipid;
    let other = table.refer(OTHER, &IID_CALLBACK, 2, &mut new).unwrap().ipid;
    let unknown = table.refer(OTHER, &IID_UNKNOWN, 1, &mut new).unwrap().ipid;
    assert_eq!(table.add_refs(&refs(other, 1, 1)).results, [0]);
    let mut release = |ipid, public, private| {
        let (result, gone) = table.release(&refs(ipid, public, private));
        (result.result, gone, table.find(&ipid).is_some())
    };
    assert_eq!(release(other, 3, 0), (0, vec![], true));
    assert_eq!(release(unknown, 1, 0), (0, vec![], false));
    // One private reference is left. More than there are release all.
    assert_eq!(release(other, 9, 9), (0, vec![OTHER], false));
    assert_eq!(release(other, 1, 0).0, hresult::RPC_E_INVALID_IPID);
    assert_eq!(release(manager, u32::MAX, u32::MAX), (0, vec![], true));
    assert!(table.has(MANAGER) && !table.has(OTHER));
    let unknown = table.add_refs(&refs(other, 1, 0));
    assert_eq!(unknown.results, [hresult::RPC_E_INVALID_IPID]);
    assert_eq!(unknown.result, hresult::RPC_E_INVALID_IPID);
}

#[test]
fn counts_do_not_wrap_around() {
    let (mut table, mut new) = (table(), counter());
    let ipid = table
        .refer(OTHER, &IID_CALLBACK, u32::MAX, &mut new)
        .unwrap()
        .ipid;
    for _ in 0..3 {
        table.add_refs(&refs(ipid, u32::MAX, u32::MAX));
    }
    let (_, gone) = table.release(&refs(ipid, MAX_REFERENCES - 1, MAX_REFERENCES));
    assert!(gone.is_empty());
    let (_, gone) = table.release(&refs(ipid, 1, 0));
    assert_eq!(gone, [OTHER]);
}

#[test]
fn objects_that_nobody_pings_end_unless_they_need_no_pings() {
    let (mut table, mut new) = (table(), counter());
    let ipid = table.refer(OTHER, &IID_CALLBACK, 2, &mut new).unwrap().ipid;
    assert_eq!(table.expire(&[MANAGER, OTHER, 99]), [OTHER]);
    assert_eq!(table.find(&ipid), None);
    assert!(table.has(MANAGER));
}

#[test]
fn there_is_room_for_so_many_objects_and_no_number_twice() {
    let mut table = table();
    let mut add = |oid| table.add(oid, Lifetime::Counted, true, &[]);
    assert_eq!(add(OTHER), Err(TableFull));
    let added = (1000..).take_while(|oid| add(*oid).is_ok()).count();
    assert_eq!(added, MAX_OBJECTS - 2);
}

#[test]
fn pointer_is_not_given_twice_by_a_source_that_repeats_itself() {
    let mut table = table();
    let mut same = || Guid::from_u128(5);
    let first = table.refer(MANAGER, &IID_MANAGER, 1, &mut same).unwrap();
    let second = table.refer(OTHER, &IID_CALLBACK, 1, &mut same).unwrap();
    assert_ne!(first.ipid, second.ipid);
    assert_eq!(table.find(&first.ipid).unwrap().oid, MANAGER);
}
