//! The methods of the manager.

use std::sync::Arc;

use cardea_dcom::dcom::{InterfacePointer, OrpcThat, OrpcThis};
use cardea_dcom::ndr::{Message, WideString};
use cardea_dcom::pdu::fault_status;
use cardea_dcom::tpmvsc::{
    CreateCard, CreateCardReply, CreateMethod, DestroyCard, DestroyCardReply, last_opnum, manager,
};
use cardea_terms::tpmvsc::Hresult;

use super::callback::Reports;
use super::{Visit, checked, plain, undecodable};
use crate::manager::{Caller, Created, Listener};
use cardea_rpc::rpc::{Answer, Request};

impl Visit {
    pub(super) fn manager(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let opnum = request.call.opnum;
        let last = last_opnum(&request.interface.uuid).ok_or(fault_status::UNKNOWN_INTERFACE)?;
        if opnum > last {
            return Err(fault_status::OPERATION_RANGE);
        }
        match CreateMethod::from_opnum(opnum) {
            Some(method) => self.create(request, method),
            None if opnum == manager::DESTROY => self.destroy(request),
            None => Err(fault_status::OPERATION_RANGE),
        }
    }

    fn create(&self, request: &Request<'_>, method: CreateMethod) -> Result<Answer, u32> {
        let (call, used) = CreateCard::decode(method, request.stub).map_err(undecodable)?;
        checked(request, used, Some(&call.this))?;
        let caller = self.caller(request);
        let created = self.with_reports(&call.this, call.callback.as_ref(), |reports| {
            self.make(&caller, &call, reports)
        });
        self.log(request, "create", created.as_ref().err());
        let reply = match &created {
            Err(result) => CreateCardReply::failure(result.0),
            Ok(created) => CreateCardReply {
                that: OrpcThat::default(),
                instance_id: WideString::from_text(&created.instance_id),
                need_reboot: false,
                result: 0,
            },
        };
        let mut answer = plain(reply.encode(method));
        if let Ok(created) = created {
            let manager = Arc::clone(&self.shared.manager);
            // Whoever does not learn its instance id could never destroy it.
            answer.undo = Some(Box::new(move || {
                manager.take_back(&caller, &created.card_id)
            }));
        }
        Ok(answer)
    }

    fn make(
        &self,
        caller: &Caller,
        call: &CreateCard,
        reports: &mut dyn Listener,
    ) -> Result<Created, Hresult> {
        match call.parameters() {
            Ok(card) => self.shared.manager.create(caller, &card, reports),
            Err(rejected) => {
                if let Some(report) = rejected.report() {
                    reports.error(report);
                }
                Err(rejected.hresult())
            }
        }
    }

    fn destroy(&self, request: &Request<'_>) -> Result<Answer, u32> {
        let (call, used) = DestroyCard::decode(request.stub).map_err(undecodable)?;
        checked(request, used, Some(&call.this))?;
        let caller = self.caller(request);
        let done = self.with_reports(&call.this, call.callback.as_ref(), |reports| {
            let instance = call.instance_id.to_text().ok_or(Hresult::NOT_FOUND)?;
            self.shared.manager.destroy(&caller, &instance, reports)
        });
        self.log(request, "destroy", done.as_ref().err());
        let reply = DestroyCardReply {
            that: OrpcThat::default(),
            need_reboot: false,
            result: done.err().unwrap_or(Hresult::OK).0,
        };
        Ok(plain(reply.encode()))
    }

    /// Does the work of a call, with whoever wants to hear of it.
    fn with_reports<T>(
        &self,
        this: &OrpcThis,
        callback: Option<&InterfacePointer>,
        work: impl FnOnce(&mut dyn Listener) -> Result<T, Hresult>,
    ) -> Result<T, Hresult> {
        let account = self.shared.callback.as_ref();
        let mut reports = Reports::open(callback, this.cid, self.peer.ip(), account)?;
        let done = work(&mut reports);
        reports.close();
        done
    }

    /// Whom the daemon hears of. There is always somebody: nobody else gets at these methods.
    fn caller(&self, request: &Request<'_>) -> Caller {
        let user = request.caller.map(|caller| caller.user.clone());
        Caller {
            principal: user.unwrap_or_default(),
            address: self.peer.ip(),
        }
    }

    /// Who did what, in the journal of this service; the daemon's audit has it too.
    fn log(&self, request: &Request<'_>, operation: &str, failure: Option<&Hresult>) {
        let user = request.caller.map(|caller| &*caller.user);
        let user = user.unwrap_or_default();
        let peer = self.peer;
        match failure {
            None => tracing::info!(%peer, user, operation, "done"),
            Some(result) => tracing::warn!(%peer, user, operation, %result, "failed"),
        }
    }
}
