//! References to objects, which name addresses that a service connects to.

use cardea_dcom::Guid;
use cardea_dcom::dcom::{
    DualStringArray, MAX_BINDINGS, ObjRef, Reference, SecurityBinding, StdObjRef, StringBinding,
};

use crate::Target;

/// Any bytes as an OBJREF.
pub const TARGET: Target = Target {
    name: "dcom_reference",
    run,
    seeds,
    words: &[
        b"MEOW\x01\x00\x00\x00",
        b"MEOW\x02\x00\x00\x00",
        b"MEOW\x08\x00\x00\x00",
        b"\x56\x59\x53\x4e",
        b"\x07\x00",
        b"\x0a\x00\xff\xff",
        b"[\x001\x003\x005\x00]\x00",
    ],
};

fn run(input: &[u8]) {
    let Ok(reference) = ObjRef::parse(input) else {
        return;
    };
    if let Some((_, resolver)) = reference.standard() {
        assert!(resolver.addresses.len() <= MAX_BINDINGS);
        for binding in &resolver.addresses {
            if let Some((host, _)) = binding.host_and_port() {
                assert!(!host.is_empty() && !host.contains('\0'));
            }
        }
    }
    assert_eq!(ObjRef::parse(&reference.to_bytes()), Ok(reference));
}

fn seeds() -> Vec<Vec<u8>> {
    let std = StdObjRef {
        flags: StdObjRef::NO_PING,
        public_refs: 5,
        oxid: 1,
        oid: 2,
        ipid: Guid::from_u128(3),
    };
    let resolver = DualStringArray {
        addresses: vec![
            StringBinding::tcp("127.0.0.1", None),
            StringBinding::tcp("::1", Some(135)),
        ],
        security: vec![SecurityBinding {
            service: 9,
            principal: "host/target".to_owned(),
        }],
    };
    let class = Guid::of_com(0x131);
    let kinds = [
        Reference::Custom {
            class,
            data: vec![1, 2, 3],
        },
        Reference::Extended {
            std,
            resolver: resolver.clone(),
            data_id: class,
            data: vec![4; 9],
        },
        Reference::Handler {
            std,
            class,
            resolver: resolver.clone(),
        },
        Reference::Standard { std, resolver },
        Reference::Standard {
            std,
            resolver: DualStringArray::default(),
        },
    ];
    let to_bytes = |reference| {
        let iid = Guid::of_com(0);
        ObjRef { iid, reference }.to_bytes()
    };
    kinds.map(to_bytes).into()
}
