//! What a card holds: its keys, and objects that belong to none of them.

use minicbor::{Decode, Encode};

use super::KeySummary;

/// An object that belongs to no key. Who sees the card may read it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct NewObject {
    /// What it is.
    #[n(0)]
    pub kind: ObjectKind,
    /// Name shown to people, at most 255 bytes; may be empty.
    #[n(1)]
    pub label: String,
    /// `CKA_ID` of a certificate, DER of the `CKA_OBJECT_ID` of data; at most 255 bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// `CKA_APPLICATION` of data, at most 255 bytes.
    #[n(3)]
    pub application: String,
    /// DER of a certificate, or the data; at most 64 KiB.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub value: Vec<u8>,
}

/// Kinds of objects that belong to no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum ObjectKind {
    /// An X.509 certificate of a key that is elsewhere.
    #[n(0)]
    Certificate,
    /// Data of an application.
    #[n(1)]
    Data,
}

/// An object that belongs to no key, without its content.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ObjectSummary {
    /// Constant for its life, unique on the card.
    #[n(0)]
    pub number: u32,
    /// What it is.
    #[n(1)]
    pub kind: ObjectKind,
    /// Name shown to people; may be empty.
    #[n(2)]
    pub label: String,
    /// `CKA_ID` of a certificate, DER of the `CKA_OBJECT_ID` of data.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// `CKA_APPLICATION` of data.
    #[n(4)]
    pub application: String,
}

/// What can be renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Thing {
    /// A key, by its reference.
    #[n(0)]
    Key(#[n(0)] u8),
    /// An object, by its number.
    #[n(1)]
    Object(#[n(0)] u32),
    /// The certificate of a key, by the key's reference; it has the key's identifier.
    #[n(2)]
    Certificate(#[n(0)] u8),
}

/// What a card holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Contents {
    /// Keys, in order of their references.
    #[n(0)]
    pub keys: Vec<KeySummary>,
    /// Objects that belong to no key.
    #[n(1)]
    pub objects: Vec<ObjectSummary>,
}
