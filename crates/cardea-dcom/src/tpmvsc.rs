//! The manager of virtual smart cards and its callback (MS-TPMVSC).
//!
//! A request that can be decoded need not be acceptable: [`CreateCard::parameters`] says whether it is.

mod create;
mod destroy;
mod numbers;
mod report;

pub use create::{
    Attestation, CardParameters, CreateCard, CreateCardReply, CreateMethod, MAX_NAME, PIN_POLICY,
    Rejected,
};
pub use destroy::{DestroyCard, DestroyCardReply};
pub use numbers::{
    CLSID_LOCAL_MANAGER, CLSID_REMOTE_MANAGER, ErrorReport, IID_CALLBACK, IID_MANAGER,
    IID_MANAGER2, IID_MANAGER3, callback, interfaces_of_manager, last_opnum, manager, status_name,
};
pub use report::Report;
