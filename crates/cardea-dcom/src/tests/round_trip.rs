//! Whatever is written is read as the same.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::golden::create;
use super::messages::{again, again_objref, again_reply, again_request};
use crate::Guid;
use crate::dcom::*;
use crate::ndr::{Message, Secret, WideString};
use crate::pdu::*;
use crate::tpmvsc::*;

pub(super) fn guid() -> impl Strategy<Value = Guid> {
    any::<[u8; 16]>().prop_map(Guid::from_bytes)
}

fn text() -> impl Strategy<Value = WideString> {
    vec(1..=u16::MAX, 0..40).prop_map(|units| WideString::new(units).unwrap())
}

pub(super) fn std() -> impl Strategy<Value = StdObjRef> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>());
    (numbers, guid()).prop_map(|((flags, public_refs, oxid, oid), ipid)| StdObjRef {
        flags,
        public_refs,
        oxid,
        oid,
        ipid,
    })
}

fn bindings() -> impl Strategy<Value = DualStringArray> {
    let text = || "[a-z0-9.:\u{e4}\\[\\]]{0,20}";
    let address = (1..=u16::MAX, text());
    let security = (1..=u16::MAX, text());
    (vec(address, 0..5), vec(security, 0..4)).prop_map(|(addresses, security)| DualStringArray {
        addresses: addresses
            .into_iter()
            .map(|(tower, address)| StringBinding { tower, address })
            .collect(),
        security: security
            .into_iter()
            .map(|(service, principal)| SecurityBinding { service, principal })
            .collect(),
    })
}

fn reference() -> impl Strategy<Value = ObjRef> {
    let parts = (
        0..4,
        guid(),
        guid(),
        std(),
        bindings(),
        vec(any::<u8>(), 0..50),
    );
    parts.prop_map(|(kind, iid, class, std, resolver, data)| ObjRef {
        iid,
        reference: match kind {
            0 => Reference::Custom { class, data },
            1 => Reference::Extended {
                std,
                resolver,
                data_id: class,
                data,
            },
            2 => Reference::Handler {
                std,
                class,
                resolver,
            },
            _ => Reference::Standard { std, resolver },
        },
    })
}

fn pointer() -> impl Strategy<Value = InterfacePointer> {
    reference().prop_map(|reference| InterfacePointer::from(&reference))
}

fn same<T: Message + PartialEq + std::fmt::Debug>(message: T) -> Result<(), TestCaseError> {
    let stub = message.encode();
    prop_assert_eq!(T::decode_all(&stub), Ok(message));
    Ok(())
}

proptest! {
    #[test]
    fn references(reference in reference()) {
        prop_assert_eq!(ObjRef::parse(&reference.to_bytes()), Ok(reference));
    }

    #[test]
    fn activation_requests(
        ids in (guid(), vec(guid(), 0..5)),
        numbers in any::<[u32; 7]>(),
        protocols in vec(any::<u16>(), 0..5),
        machine in option::of(text()),
        minor in any::<u16>(),
    ) {
        let [destination, class_context, flags, impersonation, process, apartment, context] = numbers;
        let request = ActivationRequest {
            destination,
            class: ids.0,
            class_context,
            flags,
            iids: ids.1,
            version: ComVersion { major: 5, minor },
            impersonation,
            protocols,
            location: Location { machine, process, apartment, context },
            is_persistent: false,
        };
        let pointer = request.to_pointer();
        prop_assert_eq!(ActivationRequest::read(&pointer), Ok(request));
        same(RemoteCreateInstance {
            this: create().this,
            outer: None,
            properties: Some(pointer),
        })?;
    }

    #[test]
    fn activation_replies(
        interfaces in vec((guid(), any::<u32>(), option::of(pointer())), 0..5),
        bindings in bindings(),
        numbers in (any::<u32>(), any::<u64>(), guid(), any::<u32>()),
    ) {
        let (destination, oxid, rem_unknown, auth_hint) = numbers;
        let interfaces: Vec<_> = interfaces
            .into_iter()
            .map(|(iid, result, pointer)| ActivatedInterface { iid, result, pointer })
            .collect();
        let reply = ActivationReply {
            destination,
            oxid,
            bindings: bindings.clone(),
            rem_unknown,
            auth_hint,
            version: ComVersion::CURRENT,
            interfaces: interfaces.clone(),
        };
        prop_assert_eq!(ActivationReply::read(&reply.to_pointer()), Ok(reply));
        same(RemQueryInterface2Reply {
            that: OrpcThat::default(),
            interfaces: interfaces.into_iter().map(|one| (one.result, one.pointer)).collect(),
            result: auth_hint,
        })?;
        same(ResolveOxid2Reply {
            bindings: Some(bindings),
            rem_unknown,
            auth_hint,
            version: ComVersion::CURRENT,
            status: destination,
        })?;
    }

    #[test]
    fn query_results(results in option::of(vec((any::<u32>(), std()), 0..6)), result in any::<u32>()) {
        let results = results.map(|results| {
            results.into_iter().map(|(result, std)| QueryResult { result, std }).collect()
        });
        same(RemQueryInterfaceReply { that: OrpcThat::default(), results, result })?;
    }

    #[test]
    fn pings(set in any::<u64>(), sequence in any::<u16>(), add in vec(any::<u64>(), 0..9), remove in vec(any::<u64>(), 0..9)) {
        same(ComplexPing { set, sequence, add, remove })?;
    }

    #[test]
    fn creations(
        method in prop_oneof![Just(3u16), Just(5), Just(6)],
        name in text(),
        bytes in (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..130)),
        others in (option::of(vec(any::<u8>(), 0..9)), option::of(vec(any::<u8>(), 0..130)), option::of(vec(any::<u8>(), 0..40))),
        numbers in (any::<u8>(), any::<u32>(), any::<bool>()),
        callback in option::of(pointer()),
    ) {
        let method = CreateMethod::from_opnum(method).unwrap();
        let request = CreateCard {
            this: create().this,
            method,
            name,
            admin_algorithm: numbers.0,
            admin_key: Secret::new(&bytes.0),
            admin_kcv: others.0,
            puk: others.1.map(|puk| Secret::new(&puk)),
            pin: Secret::new(&bytes.1),
            pin_policy: others.2.filter(|_| method != CreateMethod::Plain),
            attestation: if method == CreateMethod::Attestation { numbers.1 } else { 0 },
            generate: numbers.2,
            callback,
        };
        let stub = request.encode();
        prop_assert_eq!(CreateCard::decode(method, &stub), Ok((request, stub.len())));
    }

    #[test]
    fn calls_in_fragments(
        stub in vec(any::<u8>(), 0..20_000),
        limit in MIN_FRAGMENT..=MAX_FRAGMENT,
        object in option::of(guid()),
        numbers in (any::<u32>(), any::<u16>(), any::<u16>()),
        auth in option::of((any::<u8>(), 1u16..300)),
    ) {
        let call = Call { call_id: numbers.0, context_id: numbers.1, opnum: numbers.2, object };
        let slot = auth.map(|(auth_type, value_length)| AuthSlot {
            auth_type,
            level: AuthLevel::Privacy,
            context_id: numbers.0,
            value_length,
        });
        let mut reassembly = Reassembly::new();
        let mut whole = None;
        let fragments = request_fragments(&call, &stub, limit, slot.as_ref()).unwrap();
        for fragment in &fragments {
            prop_assert!(fragment.bytes().len() <= usize::from(limit));
            let found = spans(fragment.bytes()).unwrap();
            prop_assert_eq!(found.as_ref(), fragment.spans());
            prop_assert!(whole.is_none());
            whole = reassembly.add(&Pdu::parse(fragment.bytes()).unwrap()).unwrap();
        }
        let whole = whole.unwrap();
        prop_assert_eq!(whole.call, call);
        prop_assert_eq!(&*whole.stub, &stub[..]);
    }

    #[test]
    fn anything_is_read_without_a_panic(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Pdu::parse(&bytes);
        let _ = spans(&bytes);
        again_objref(&bytes);
        again_request(&bytes);
        again_reply(&bytes);
        again::<RemoteActivationReply>(&bytes);
        again::<ComplexPing>(&bytes);
        again::<OrpcThis>(&bytes);
    }
}
