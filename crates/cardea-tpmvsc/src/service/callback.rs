//! Status reports into the caller's machine.
//!
//! The reference to the callback names addresses that the caller has chosen. Only those that are the very address that
//! the caller has come from are used, and no name is looked up: so nobody can have this machine call a third one. A
//! caller behind address translation gets no reports. Whatever fails here, except the caller's own refusal, ends the
//! reports and not the operation.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use cardea_dcom::Guid;
use cardea_dcom::dcom::ids::{
    IID_OBJECT_EXPORTER, IID_REM_UNKNOWN, hresult, object_exporter, rem_unknown, resolver_status,
};
use cardea_dcom::dcom::{
    DualStringArray, InterfacePointer, InterfaceRef, OrpcResult, OrpcThis, Reference, RemRefs,
    ResolveOxid, ResolveOxid2Reply, ResolveOxidReply, StdObjRef, TOWER_TCP,
};
use cardea_dcom::ndr::{Message, NdrError};
use cardea_dcom::pdu::{SyntaxId, fault_status};
use cardea_dcom::tpmvsc::{ErrorReport, IID_CALLBACK, Report, callback};
use cardea_terms::tpmvsc::{Hresult, Status};

use super::{RESOLVER_PORT, is_same};
use crate::manager::Listener;
use cardea_rpc::auth::{ClientFresh, Credentials, NtlmInitiator};
use cardea_rpc::one_time::OneTimeAccount;
use cardea_rpc::random;
use cardea_rpc::rpc::outgoing::{Outgoing, OutgoingError};

/// Whoever hears of an operation; may be nobody.
pub(super) struct Reports {
    cid: Guid,
    target: Option<Target>,
    /// How long answers may still take, all together.
    patience: Duration,
}

struct Target {
    connection: Outgoing,
    account: Credentials,
    exporter: SocketAddr,
    rem_unknown: Guid,
    std: StdObjRef,
}

#[derive(Debug, thiserror::Error)]
enum NoReports {
    #[error("none of its addresses is the one that the caller has come from")]
    Elsewhere,
    #[error("its answer cannot be decoded")]
    Answer(#[from] NdrError),
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    #[error("no random numbers")]
    Random(#[from] std::io::Error),
    #[error("its resolver does not know it (status {0})")]
    Resolver(u32),
}

impl Reports {
    /// Connects to a callback, if there is one and an account for it.
    ///
    /// # Errors
    ///
    /// The result of a call with a reference that cannot be a callback.
    pub(super) fn open(
        pointer: Option<&InterfacePointer>,
        cid: Guid,
        caller: IpAddr,
        account: Option<&Credentials>,
    ) -> Result<Self, Hresult> {
        let nobody = Self {
            cid,
            target: None,
            patience: REPORTS_TIME,
        };
        let Some(pointer) = pointer else {
            return Ok(nobody);
        };
        let reference = pointer.objref().map_err(|_| Hresult::INVALID_ARGUMENT)?;
        let (std, resolver) = match &reference.reference {
            Reference::Standard { std, resolver } | Reference::Handler { std, resolver, .. }
                if reference.iid == IID_CALLBACK =>
            {
                (std, resolver)
            }
            _ => return Err(Hresult::INVALID_ARGUMENT),
        };
        // An account for this one call shows nobody else who this machine is.
        let one_time = OneTimeAccount::of_reference(resolver);
        let Some(account) = one_time.or_else(|| account.cloned()) else {
            tracing::debug!("no reports: no account for callbacks is configured");
            return Ok(nobody);
        };
        match Target::connect(std, resolver, caller, account) {
            Ok(target) => Ok(Self {
                target: Some(target),
                ..nobody
            }),
            Err(error) => {
                tracing::info!(%caller, error = &error as &dyn std::error::Error, "no reports");
                Ok(nobody)
            }
        }
    }

    /// Releases the callback.
    pub(super) fn close(self) {
        if let Some(target) = self.target
            && let Err(error) = target.release(self.cid)
        {
            tracing::debug!(%error, "callback not released");
        }
    }

    /// Reports one number; the result of a callback that refuses.
    fn report(&mut self, opnum: u16, number: u32) -> Result<(), Hresult> {
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        let report = Report {
            this: OrpcThis::new(self.cid),
            number,
        };
        let begin = Instant::now();
        target
            .connection
            .set_end(begin + REPORT_TIME.min(self.patience));
        let answer = target
            .connection
            .call(opnum, Some(target.std.ipid), &report.encode());
        self.patience = self.patience.saturating_sub(begin.elapsed());
        let answer = answer.map_err(NoReports::from);
        let answer = answer.and_then(|stub| Ok(OrpcResult::decode_all(&stub)?.result));
        match answer {
            Ok(result) if hresult::is_failure(result) => Err(Hresult(result)),
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::info!(error = &error as &dyn std::error::Error, "no more reports");
                self.target = None;
                Ok(())
            }
        }
    }
}

impl Listener for Reports {
    fn progress(&mut self, status: Status) -> Result<(), Hresult> {
        self.report(callback::REPORT_PROGRESS, status as u32)
    }

    fn error(&mut self, error: ErrorReport) {
        // What it answers changes nothing: the operation has failed.
        let _ = self.report(callback::REPORT_ERROR, error as u32);
    }
}

impl Target {
    fn connect(
        std: &StdObjRef,
        resolver: &DualStringArray,
        caller: IpAddr,
        account: Credentials,
    ) -> Result<Self, NoReports> {
        let until = Instant::now() + REPORT_TIME;
        let address = of_caller(resolver, caller, Some(RESOLVER_PORT))?;
        let resolved = resolve(address, std.oxid, until)?;
        if resolved.status != resolver_status::OK {
            return Err(NoReports::Resolver(resolved.status));
        }
        let bindings = resolved.bindings.unwrap_or_default();
        let exporter = of_caller(&bindings, caller, None)?;
        let interface = SyntaxId::interface(IID_CALLBACK);
        let connection = Outgoing::bind(
            exporter,
            interface,
            Some(initiator(&account, exporter)?),
            until,
        )?;
        Ok(Self {
            connection,
            account,
            exporter,
            rem_unknown: resolved.rem_unknown,
            std: *std,
        })
    }

    /// Gives the references back that came with the call.
    fn release(self, cid: Guid) -> Result<(), NoReports> {
        if self.std.public_refs == 0 {
            return Ok(());
        }
        let until = Instant::now() + REPORT_TIME;
        let interface = SyntaxId::interface(IID_REM_UNKNOWN);
        let account = initiator(&self.account, self.exporter)?;
        let mut connection = Outgoing::bind(self.exporter, interface, Some(account), until)?;
        let refs = RemRefs {
            this: OrpcThis::new(cid),
            refs: vec![InterfaceRef {
                ipid: self.std.ipid,
                public: self.std.public_refs,
                private: 0,
            }],
        };
        let object = Some(self.rem_unknown);
        connection.call(rem_unknown::REM_RELEASE, object, &refs.encode())?;
        Ok(())
    }
}

/// Where an exporter is, asked as nobody: the resolver says it to everybody.
fn resolve(address: SocketAddr, oxid: u64, until: Instant) -> Result<ResolveOxidReply, NoReports> {
    let interface = SyntaxId::interface(IID_OBJECT_EXPORTER);
    let mut connection = Outgoing::bind(address, interface, None, until)?;
    let question = ResolveOxid {
        oxid,
        protocols: vec![TOWER_TCP],
    };
    let question = question.encode();
    match connection.call(object_exporter::RESOLVE_OXID2, None, &question) {
        Ok(stub) => {
            let reply = ResolveOxid2Reply::decode_all(&stub)?;
            Ok(ResolveOxidReply {
                bindings: reply.bindings,
                rem_unknown: reply.rem_unknown,
                auth_hint: reply.auth_hint,
                status: reply.status,
            })
        }
        Err(OutgoingError::Fault(fault_status::OPERATION_RANGE)) => {
            let stub = connection.call(object_exporter::RESOLVE_OXID, None, &question)?;
            Ok(ResolveOxidReply::decode_all(&stub)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// The first of some addresses that is the caller's own.
fn of_caller(
    bindings: &DualStringArray,
    caller: IpAddr,
    usual_port: Option<u16>,
) -> Result<SocketAddr, NoReports> {
    let mut own = bindings.addresses.iter().filter_map(|binding| {
        let (host, port) = binding.host_and_port()?;
        let port = port.or(usual_port)?;
        is_same(host, caller).then_some(SocketAddr::new(caller, port))
    });
    own.next().ok_or(NoReports::Elsewhere)
}

fn initiator(account: &Credentials, server: SocketAddr) -> std::io::Result<NtlmInitiator> {
    let fresh = ClientFresh {
        nonce: random::bytes()?,
        session_key: random::bytes()?,
        time: random::file_time(),
    };
    let target = format!("rpcss/{}", server.ip());
    Ok(NtlmInitiator::new(account.clone(), target, fresh))
}

/// To connect, for one report, and to release.
const REPORT_TIME: Duration = Duration::from_secs(10);

/// For all reports of an operation: a callback that answers each in its last moment is not waited for a dozen times.
const REPORTS_TIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use cardea_dcom::dcom::StringBinding;

    use super::*;

    #[test]
    fn only_addresses_of_the_caller_are_called() {
        let caller = IpAddr::from([10, 0, 0, 7]);
        let bindings = |hosts: &[(&str, Option<u16>)]| DualStringArray {
            addresses: hosts
                .iter()
                .map(|(host, port)| StringBinding::tcp(host, *port))
                .collect(),
            security: Vec::new(),
        };
        let found = |hosts: &[_], usual| of_caller(&bindings(hosts), caller, usual).ok();
        let mixed = [
            ("10.0.0.8", Some(1)),
            ("admin.example.org", Some(2)),
            ("10.0.0.7", Some(3)),
        ];
        assert_eq!(found(&mixed, None), Some(SocketAddr::new(caller, 3)));
        assert_eq!(found(&mixed[..2], None), None);
        // Without a port only where there is a usual one.
        let bare = [("::ffff:10.0.0.7", None)];
        assert_eq!(found(&bare, Some(135)), Some(SocketAddr::new(caller, 135)));
        assert_eq!(found(&bare, None), None);
    }

    #[test]
    fn reference_that_cannot_be_a_callback_is_refused() {
        let caller = IpAddr::from([10, 0, 0, 7]);
        let open = |bytes: &[u8]| {
            let pointer = InterfacePointer(bytes.to_vec());
            Reports::open(Some(&pointer), Guid::NIL, caller, None).err()
        };
        assert_eq!(open(b"nothing"), Some(Hresult::INVALID_ARGUMENT));
        assert!(Reports::open(None, Guid::NIL, caller, None).is_ok());
    }
}
