//! What a service, its clones and the tokens of its cards share.

use std::sync::atomic::AtomicU64;

use crate::queue::Queue;
use crate::tpm::CommandCount;
use crate::transport::Address;

pub(crate) struct Inner {
    pub(crate) address: Address,
    pub(crate) count: CommandCount,
    pub(crate) next: AtomicU64,
    pub(crate) queue: Queue,
}
