//! Requests about the visitor's own connection: its logins, whom it acts for, its drive.

use std::os::fd::OwnedFd;
use std::time::Duration;

use cardea_client::message::{ConnectionRequest, DriveRequest, Failure, FailureKind, Reply};

use super::{Counter, Visitor};
use crate::failure::fail;
use crate::host::audit::RemoteCaller;
use crate::lifecycle::drive;
use crate::names::is_name;

impl Counter {
    pub(super) fn about_connection(
        &self,
        visitor: &mut Visitor,
        request: ConnectionRequest,
    ) -> Result<Reply, Failure> {
        let login_groups = &self.login_groups;
        match request {
            ConnectionRequest::JoinLogins { ticket } => {
                visitor.logins = login_groups.find(&ticket, visitor.caller.uid())?;
                Ok(Reply::Done)
            }
            ConnectionRequest::OnBehalf { whom } => {
                if !is_name(&whom) {
                    return Err(fail(
                        FailureKind::Invalid,
                        "the name is empty, too long or has control characters",
                    ));
                }
                visitor.actor.on_behalf_of = whom;
                Ok(Reply::Done)
            }
            ConnectionRequest::OnBehalfOfCaller { principal, address } => {
                let caller = RemoteCaller::parse(&principal, &address).ok_or_else(|| {
                    fail(
                        FailureKind::Invalid,
                        "the principal is empty or too long, or the address is not one",
                    )
                })?;
                visitor.actor.remote = Some(caller);
                Ok(Reply::Done)
            }
            ConnectionRequest::ShareLogins => {
                let ticket = login_groups.ticket(&visitor.logins)?;
                Ok(Reply::Result(ticket))
            }
        }
    }

    pub(super) fn about_drive(
        &self,
        visitor: &mut Visitor,
        request: DriveRequest,
        folder: Option<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let host = &self.host;
        match request {
            DriveRequest::Attach { place } => {
                if visitor.drive.is_some() {
                    let text = "this connection already holds a drive";
                    return Err(fail(FailureKind::Invalid, text));
                }
                let folder = folder.ok_or_else(drive::no_folder)?;
                let (reply, held) = drive::attach(
                    host,
                    &self.reading,
                    (visitor.caller, &visitor.actor),
                    &place,
                    folder,
                )?;
                visitor.drive = Some(held);
                Ok(reply)
            }
            DriveRequest::Hold { timeout_ms } => match &visitor.drive {
                Some(held) => {
                    let limit = Duration::from_millis(timeout_ms.into());
                    Ok(held.hold(folder, visitor.stream.as_deref(), limit))
                }
                None => Err(fail(
                    FailureKind::NotFound,
                    "this connection holds no drive",
                )),
            },
        }
    }
}
