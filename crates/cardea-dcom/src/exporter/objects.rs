//! The objects of an exporter, their interface pointers and reference counts.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::Guid;
use crate::dcom::ids::IID_UNKNOWN;
use crate::dcom::ids::hresult::{E_NOINTERFACE, RPC_E_INVALID_IPID, S_FALSE, S_OK};
use crate::dcom::{
    DualStringArray, InterfacePointer, ObjRef, OrpcResult, OrpcThat, QueryResult, RefResults,
    Reference, RemQueryInterface, RemQueryInterface2, RemQueryInterface2Reply,
    RemQueryInterfaceReply, RemRefs, StdObjRef,
};

/// How many objects there may be.
pub const MAX_OBJECTS: usize = 256;

/// How many references an interface pointer counts; more are not distinguished from it.
pub const MAX_REFERENCES: u32 = 0x7FFF_FFFF;

/// How many references come with a complete reference.
const WITH_A_REFERENCE: u32 = 5;

/// How long an object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as there are references.
    Counted,
    /// As long as the server.
    Singleton,
}

/// There are as many objects as there may be, or one has this number already.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there is no room for another object")]
pub struct TableFull;

/// What an interface pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The object.
    pub oid: u64,
    /// The interface that the pointer was made for.
    pub iid: Guid,
}

/// The objects of an exporter.
#[derive(Clone, Debug)]
pub struct ObjectTable {
    oxid: u64,
    objects: BTreeMap<u64, Object>,
    pointers: BTreeMap<Guid, Found>,
}

#[derive(Clone, Debug)]
struct Object {
    lifetime: Lifetime,
    flags: u32,
    supported: Vec<Guid>,
    pointers: BTreeMap<Guid, Pointer>,
}

#[derive(Clone, Copy, Debug)]
struct Pointer {
    ipid: Guid,
    public: u32,
    private: u32,
}

impl ObjectTable {
    /// No objects yet; the number of the exporter.
    #[must_use]
    pub fn new(oxid: u64) -> Self {
        Self {
            oxid,
            objects: BTreeMap::new(),
            pointers: BTreeMap::new(),
        }
    }

    /// The number of the exporter.
    #[must_use]
    pub fn oxid(&self) -> u64 {
        self.oxid
    }

    /// Adds an object with its interfaces. It has [`IID_UNKNOWN`] in any case.
    ///
    /// # Errors
    /// [`TableFull`].
    pub fn add(
        &mut self,
        oid: u64,
        lifetime: Lifetime,
        needs_pings: bool,
        interfaces: &[Guid],
    ) -> Result<(), TableFull> {
        if self.objects.len() >= MAX_OBJECTS || self.objects.contains_key(&oid) {
            return Err(TableFull);
        }
        let object = Object {
            lifetime,
            flags: match needs_pings {
                true => 0,
                false => StdObjRef::NO_PING,
            },
            supported: interfaces.to_vec(),
            pointers: BTreeMap::new(),
        };
        self.objects.insert(oid, object);
        Ok(())
    }

    /// Whether there is such an object.
    #[must_use]
    pub fn has(&self, oid: u64) -> bool {
        self.objects.contains_key(&oid)
    }

    /// What an interface pointer is; `None`: calls of it are answered with
    /// [`crate::pdu::fault_status::DISCONNECTED`].
    #[must_use]
    pub fn find(&self, ipid: &Guid) -> Option<Found> {
        self.pointers.get(ipid).copied()
    }

    /// Whether an object has an interface.
    #[must_use]
    pub fn supports(&self, oid: u64, iid: &Guid) -> bool {
        self.objects
            .get(&oid)
            .is_some_and(|object| object.supports(iid))
    }

    /// References to an interface of an object. The pointer of an interface stays the same; `new_ipid` draws one that
    /// nobody can guess.
    ///
    /// # Errors
    /// The result of the call: the object does not have the interface, or is gone.
    pub fn refer(
        &mut self,
        oid: u64,
        iid: &Guid,
        refs: u32,
        new_ipid: &mut dyn FnMut() -> Guid,
    ) -> Result<StdObjRef, u32> {
        let object = self.objects.get_mut(&oid).ok_or(RPC_E_INVALID_IPID)?;
        if !object.supports(iid) {
            return Err(E_NOINTERFACE);
        }
        let pointers = &mut self.pointers;
        let pointer = object.pointers.entry(*iid).or_insert_with(|| {
            // Numbers of 128 random bits do not meet; a source that repeats itself must not give one pointer away
            // twice all the same.
            let mut ipid = new_ipid();
            while pointers.contains_key(&ipid) {
                ipid = Guid::from_bytes(
                    u128::from_le_bytes(*ipid.as_bytes())
                        .wrapping_add(1)
                        .to_le_bytes(),
                );
            }
            pointers.insert(ipid, Found { oid, iid: *iid });
            Pointer {
                ipid,
                public: 0,
                private: 0,
            }
        });
        pointer.public = clamped_sum(pointer.public, refs);
        Ok(StdObjRef {
            flags: object.flags,
            public_refs: refs,
            oxid: self.oxid,
            oid,
            ipid: pointer.ipid,
        })
    }

    /// A complete reference to an interface of an object.
    ///
    /// # Errors
    /// The result of the call: the object does not have the interface, or is gone.
    pub fn objref(
        &mut self,
        oid: u64,
        iid: &Guid,
        resolver: &DualStringArray,
        new_ipid: &mut dyn FnMut() -> Guid,
    ) -> Result<ObjRef, u32> {
        let std = self.refer(oid, iid, WITH_A_REFERENCE, new_ipid)?;
        Ok(ObjRef {
            iid: *iid,
            reference: Reference::Standard {
                std,
                resolver: resolver.clone(),
            },
        })
    }

    /// Answers a query for interfaces.
    pub fn query(
        &mut self,
        query: &RemQueryInterface,
        new_ipid: &mut dyn FnMut() -> Guid,
    ) -> RemQueryInterfaceReply {
        let that = OrpcThat::default();
        let Some(Found { oid, .. }) = self.find(&query.ipid) else {
            return RemQueryInterfaceReply {
                that,
                results: None,
                result: RPC_E_INVALID_IPID,
            };
        };
        let refer = |iid| match self.refer(oid, iid, query.refs, new_ipid) {
            Ok(std) => QueryResult { result: S_OK, std },
            Err(result) => QueryResult::failure(result),
        };
        let results: Vec<_> = query.iids.iter().map(refer).collect();
        RemQueryInterfaceReply {
            that,
            result: overall(results.iter().map(|one| one.result)),
            results: Some(results),
        }
    }

    /// Answers a query for interfaces with complete references.
    pub fn query2(
        &mut self,
        query: &RemQueryInterface2,
        resolver: &DualStringArray,
        new_ipid: &mut dyn FnMut() -> Guid,
    ) -> RemQueryInterface2Reply {
        let found = self.find(&query.ipid);
        let refer = |iid| {
            let oid = found.ok_or(RPC_E_INVALID_IPID)?.oid;
            self.objref(oid, iid, resolver, new_ipid)
        };
        let results = query.iids.iter().map(refer);
        let interfaces: Vec<_> = results
            .map(|result| match result {
                Ok(reference) => (S_OK, Some(InterfacePointer::from(&reference))),
                Err(result) => (result, None),
            })
            .collect();
        RemQueryInterface2Reply {
            that: OrpcThat::default(),
            result: match found {
                Some(_) => overall(interfaces.iter().map(|(result, _)| *result)),
                None => RPC_E_INVALID_IPID,
            },
            interfaces,
        }
    }

    /// Adds references.
    pub fn add_refs(&mut self, refs: &RemRefs) -> RefResults {
        let add = |one: &crate::dcom::InterfaceRef| match self.pointer(&one.ipid) {
            Some(pointer) => {
                pointer.public = clamped_sum(pointer.public, one.public);
                pointer.private = clamped_sum(pointer.private, one.private);
                S_OK
            }
            None => RPC_E_INVALID_IPID,
        };
        let results: Vec<_> = refs.refs.iter().map(add).collect();
        RefResults {
            that: OrpcThat::default(),
            result: match results.iter().all(|result| *result == S_OK) {
                true => S_OK,
                false => RPC_E_INVALID_IPID,
            },
            results,
        }
    }

    /// Releases references. Gives also the objects that are gone because of it.
    ///
    /// More than there are release all.
    pub fn release(&mut self, refs: &RemRefs) -> (OrpcResult, Vec<u64>) {
        let mut result = S_OK;
        let mut gone = Vec::new();
        for one in &refs.refs {
            let Some(pointer) = self.pointer(&one.ipid) else {
                result = RPC_E_INVALID_IPID;
                continue;
            };
            pointer.public = pointer.public.saturating_sub(one.public);
            pointer.private = pointer.private.saturating_sub(one.private);
            if pointer.public == 0 && pointer.private == 0 {
                gone.extend(self.retire(&one.ipid));
            }
        }
        (OrpcResult::new(result), gone)
    }

    /// Ends objects that are no longer pinged; singletons stay. Gives those that are gone.
    pub fn expire(&mut self, oids: &[u64]) -> Vec<u64> {
        let ended = |oid: &&u64| {
            self.objects
                .get(oid)
                .is_some_and(|object| object.lifetime == Lifetime::Counted && object.flags == 0)
        };
        let gone: Vec<u64> = oids.iter().filter(ended).copied().collect();
        gone.iter().for_each(|oid| self.remove(*oid));
        gone
    }

    fn pointer(&mut self, ipid: &Guid) -> Option<&mut Pointer> {
        let Found { oid, iid } = self.pointers.get(ipid)?;
        self.objects.get_mut(oid)?.pointers.get_mut(iid)
    }

    /// Ends a pointer without references, and gives its object if it has none left.
    fn retire(&mut self, ipid: &Guid) -> Option<u64> {
        let Found { oid, iid } = self.find(ipid)?;
        let object = self.objects.get_mut(&oid)?;
        if object.lifetime == Lifetime::Singleton {
            return None;
        }
        object.pointers.remove(&iid);
        self.pointers.remove(ipid);
        if !object.pointers.is_empty() {
            return None;
        }
        self.objects.remove(&oid);
        Some(oid)
    }

    fn remove(&mut self, oid: u64) {
        for pointer in self
            .objects
            .remove(&oid)
            .into_iter()
            .flat_map(|object| object.pointers.into_values())
        {
            self.pointers.remove(&pointer.ipid);
        }
    }
}

impl Object {
    fn supports(&self, iid: &Guid) -> bool {
        *iid == IID_UNKNOWN || self.supported.contains(iid)
    }
}

fn clamped_sum(count: u32, more: u32) -> u32 {
    count.saturating_add(more).min(MAX_REFERENCES)
}

/// The result of a query from those of its parts.
fn overall(mut results: impl Iterator<Item = u32> + Clone) -> u32 {
    if results.clone().all(|result| result == S_OK) {
        return S_OK;
    }
    match results.any(|result| result == S_OK) {
        true => S_FALSE,
        false => E_NOINTERFACE,
    }
}
